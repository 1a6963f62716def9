"""Answers of decoupled models: any number a request, sent from any thread, while the model goes on."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic_ns

from analyzer.runtime.answering import times_of
from analyzer.runtime.backends.base import Answers, Execution
from analyzer.runtime.instance import UNLOADED, Completions
from analyzer.runtime.request import ErrorKind, InferError, InferResponse, Tensors
from analyzer.runtime.servable import Drained, Job, call_reply
from analyzer.runtime.signature import Signature
from analyzer.runtime.statistics import Statistics

Answer = Tensors | InferError | None
"""None says only that no more will come."""

OnAnswer = Callable[[Answer, bool], None]
"""Called on the loop's thread with each answer, and with whether it is the last one."""


class ResponseStream:
    """What a backend sends the answers of one request through. An error is the last answer."""

    __slots__ = ("_completions", "_lock", "_on_answer", "is_ended")

    def __init__(self, completions: Completions, on_answer: OnAnswer) -> None:
        self._completions = completions
        self._on_answer = on_answer
        self._lock = threading.Lock()
        self.is_ended = False

    def send(self, answer: Answer, *, final: bool) -> bool:
        """Called from any thread. False where the last answer was sent before: then this one is dropped."""
        final = final or isinstance(answer, InferError)
        with self._lock:
            if self.is_ended:
                return False
            self.is_ended = final
            # Under the lock, so that answers of several threads arrive in the order in which they were counted.
            self._completions.post(self._on_answer, answer, final)
        return True


class Streams:
    """The open streams of a decoupled model. A request ends with its last answer, its execution maybe long before."""

    def __init__(
        self, signature: Signature, statistics: Statistics, in_flight: Drained, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._signature = signature
        self._statistics = statistics
        self._in_flight = in_flight
        self._completions = Completions(loop)
        self._open: dict[Job, ResponseStream] = {}

    def open(self, jobs: Sequence[Job], execution: Execution) -> list[ResponseStream]:
        """One stream a request of an execution that is about to start."""
        streams = [ResponseStream(self._completions, partial(self._on_answer, job, execution)) for job in jobs]
        self._open.update(zip(jobs, streams))
        return streams

    def executed(self, execution: Execution, answers: Answers) -> None:
        """What an execution gave itself: an answer is the only one, None leaves it to the stream."""
        times = times_of(execution)
        self._statistics.record_execution(len(answers), sum(execution.rows), times, monotonic_ns())
        for stream, answer in zip(execution.streams, answers):
            if answer is not None:
                stream.send(answer, final=True)

    def close(self) -> None:
        """Fails the requests whose last answer never came."""
        for stream in list(self._open.values()):
            stream.send(UNLOADED, final=True)

    def _on_answer(self, job: Job, execution: Execution, answer: Answer, final: bool) -> None:
        request, now_ns = job.request, monotonic_ns()
        response: InferResponse | InferError
        if isinstance(answer, InferError):
            response = answer
        else:
            outputs = answer or {}
            if request.requested:
                outputs = {name: outputs[name] for name in request.requested if name in outputs}
            response = InferResponse(self._signature.model, self._statistics.version, request.id, outputs, final=final)
        if final:
            self._open.pop(job, None)
            self._count(job, execution, response, now_ns)
        call_reply(job.reply, response)
        if final:
            self._in_flight.leave(1)

    def _count(self, job: Job, execution: Execution, response: InferResponse | InferError, now_ns: int) -> None:
        total_ns = now_ns - job.request.arrival_ns
        if isinstance(response, InferError):
            self._statistics.record_failure(total_ns)
        else:
            self._statistics.record_requests(1, job.rows, total_ns, execution.start_ns - job.queued_ns)


def refuse_unary(model: str) -> InferError:
    text = (
        f"this call doesn't support models with decoupled transaction policy, and '{model}' is one; use gRPC streaming "
        "or generate_stream"
    )
    return InferError(ErrorKind.UNIMPLEMENTED, text)

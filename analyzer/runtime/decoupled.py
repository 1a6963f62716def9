"""Answers of decoupled models: any number a request, sent from any thread, while the model goes on."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic_ns

from analyzer.runtime.answered import Answered
from analyzer.runtime.answering import times_of
from analyzer.runtime.backends.base import Answer, Answers, Execution
from analyzer.runtime.instance import UNLOADED, Completions
from analyzer.runtime.request import CANCELLED, ErrorKind, InferError, InferRequest, InferResponse
from analyzer.runtime.servable import Drained, Job, call_reply
from analyzer.runtime.signature import Signature
from analyzer.runtime.spans import ModelSpans
from analyzer.runtime.statistics import FailureReason, Statistics

OnAnswer = Callable[[Answer, bool], None]
"""Called on the loop's thread with each answer, and with whether it is the last one."""

_WAITING_LIMIT_BYTES = 2**20
_ANSWER_BYTES = 4096
"""What an answer counts for besides its tensors, so that many small ones are bounded too."""


class ResponseStream:
    """What a backend sends the answers of one request through. An error is the last answer.

    A cancelled request is over at once for the server; what its model still sends is dropped.
    """

    __slots__ = ("_changed", "_completions", "_loop_thread", "_on_answer", "_request", "_waiting_bytes", "is_ended")

    def __init__(self, completions: Completions, request: InferRequest, loop_thread: int, on_answer: OnAnswer) -> None:
        self._completions = completions
        self._request = request
        self._loop_thread = loop_thread
        self._on_answer = on_answer
        self._changed = threading.Condition(threading.Lock())
        self._waiting_bytes = 0  # of answers on their way to the loop's thread
        self.is_ended = False

    @property
    def is_cancelled(self) -> bool:
        return self._request.is_cancelled

    @property
    def _is_writable(self) -> bool:
        return self.is_ended or not (self._request.is_held or self._waiting_bytes >= _WAITING_LIMIT_BYTES)

    def send(self, answer: Answer, *, final: bool) -> bool:
        """Called from any thread. False where the last answer was sent before: then this one is dropped."""
        final = final or isinstance(answer, InferError)
        with self._changed:
            if self.is_ended:
                return self._request.is_cancelled
            self._post(answer, final)
        return True

    def wait_writable(self) -> bool:
        """Blocks a model's thread until its client takes more. False where the client is gone."""
        if not self._is_writable and threading.get_ident() != self._loop_thread:
            with self._changed:
                while not self._is_writable:
                    self._changed.wait()
        return not self._request.is_cancelled

    def on_request_changed(self) -> None:
        """Called on the loop's thread."""
        with self._changed:
            if self._request.is_cancelled and not self.is_ended:
                self._post(CANCELLED, True)
            self._changed.notify_all()

    def _post(self, answer: Answer, final: bool) -> None:
        """Under the lock, so that answers of several threads arrive in the order in which they were counted."""
        self.is_ended = final
        self._waiting_bytes += _cost_bytes(answer)
        self._completions.post(self._deliver, answer, final)

    def _deliver(self, answer: Answer, final: bool) -> None:
        with self._changed:
            self._waiting_bytes -= _cost_bytes(answer)
            if self._is_writable:
                self._changed.notify_all()
        self._on_answer(answer, final)


def _cost_bytes(answer: Answer) -> int:
    outputs = answer.outputs if isinstance(answer, Answered) else answer
    return (
        _ANSWER_BYTES + sum(array.nbytes for array in outputs.values()) if isinstance(outputs, dict) else _ANSWER_BYTES
    )


class Streams:
    """The open streams of a decoupled model. A request ends with its last answer, its execution maybe long before."""

    def __init__(
        self,
        signature: Signature,
        statistics: Statistics,
        in_flight: Drained,
        loop: asyncio.AbstractEventLoop,
        spans: ModelSpans | None = None,
    ) -> None:
        self._signature = signature
        self._spans = spans
        self._statistics = statistics
        self._in_flight = in_flight
        self._completions = Completions(loop)
        self._loop_thread = threading.get_ident()
        self._open: dict[Job, ResponseStream] = {}
        self._silent: set[Job] = set()  # those that have not answered yet

    def open(self, jobs: Sequence[Job], execution: Execution) -> list[ResponseStream]:
        """One stream a request of an execution that is about to start."""
        return [self._opened(job, execution) for job in jobs]

    def _opened(self, job: Job, execution: Execution) -> ResponseStream:
        on_answer = partial(self._on_answer, job, execution)
        stream = ResponseStream(self._completions, job.request, self._loop_thread, on_answer)
        job.request.watcher = stream.on_request_changed
        self._open[job] = stream
        self._silent.add(job)
        return stream

    def executed(self, execution: Execution, answers: Answers) -> None:
        """What an execution gave itself: an answer is the only one, None leaves it to the stream."""
        times = times_of(execution)
        if self._spans is not None and self._spans.ring.is_on:
            self._spans.batch(execution, sum(isinstance(answer, InferError) for answer in answers))
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
            told = answer if isinstance(answer, Answered) else Answered(answer or {}, {})
            outputs = told.outputs
            if request.requested:
                outputs = {name: outputs[name] for name in request.requested if name in outputs}
            response = InferResponse(
                self._signature.model, self._statistics.version, request.id, outputs, told.parameters, final=final
            )
        if job in self._silent:
            self._silent.discard(job)
            if self._statistics.first_responses is not None:
                self._statistics.first_responses.record(now_ns - request.arrival_ns)
        if final:
            self._open.pop(job, None)
            self._count(job, execution, response, now_ns)
        call_reply(job.reply, response)
        if final:
            self._in_flight.leave(1)

    def _count(self, job: Job, execution: Execution, response: InferResponse | InferError, now_ns: int) -> None:
        total_ns = now_ns - job.request.arrival_ns
        if self._spans is not None and self._spans.ring.is_on:
            self._spans.streamed(job, execution, isinstance(response, InferError))
        if isinstance(response, InferError):
            reason = FailureReason.CANCELED if response is CANCELLED else FailureReason.BACKEND
            self._statistics.record_failure(total_ns, reason)
        else:
            if job.request.account is not None:
                job.request.account.executed(job.queued_ns, execution)
            queue_ns = execution.start_ns - job.queued_ns
            self._statistics.record_requests(1, job.rows, total_ns, queue_ns)
            self._statistics.record_latency(total_ns, queue_ns, times_of(execution), now_ns)


def refuse_unary(model: str) -> InferError:
    text = (
        f"this call doesn't support models with decoupled transaction policy, and '{model}' is one; use gRPC streaming "
        "or generate_stream"
    )
    return InferError(ErrorKind.UNIMPLEMENTED, text)

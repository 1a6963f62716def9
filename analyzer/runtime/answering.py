"""Executions that have ended to answers, counted before anybody is told."""

import logging
from time import monotonic_ns

from analyzer.runtime.answered import Answered
from analyzer.runtime.backends.base import Answer, Answers, Execution
from analyzer.runtime.durations import Durations
from analyzer.runtime.request import CANCELLED, ErrorKind, InferError, InferResponse, Parameters, Reply, Tensors
from analyzer.runtime.servable import UNDELIVERED, Drained, Job, call_reply
from analyzer.runtime.signature import Signature
from analyzer.runtime.spans import ModelSpans
from analyzer.runtime.statistics import FailureReason, Statistics

log = logging.getLogger(__name__)

_NO_PARAMETERS: Parameters = {}
_NO_ANSWER = InferError(ErrorKind.INTERNAL, "the model gave no answer")


class Answering:
    """The answers of one model version: in the shapes its clients see, in its statistics, out of its flight."""

    def __init__(
        self, signature: Signature, statistics: Statistics, in_flight: Drained, spans: ModelSpans | None = None
    ) -> None:
        self._signature = signature
        self._spans = spans
        self._statistics = statistics
        self._model, self._version = signature.model, statistics.version
        self._in_flight = in_flight

    def answer(self, jobs: list[Job], execution: Execution, answers: Answers) -> None:
        """Counts and replies to every job of an execution."""
        if self._spans is not None and self._spans.ring.is_on:
            self._spans.executed(jobs, execution, answers)
        if len(jobs) != 1 or type(answers[0]) is not dict or self._signature.reshapes_outputs:
            self._answer_all(jobs, execution, answers)
            return
        outputs: Tensors = answers[0]
        now_ns, job = monotonic_ns(), jobs[0]
        request = job.request
        if request.account is not None:
            request.account.executed(job.queued_ns, execution)
        if request.requested:
            outputs = {name: outputs[name] for name in request.requested}
        self._statistics.record_alone(job.rows, request.arrival_ns, job.queued_ns, execution, now_ns)
        response = InferResponse(self._model, self._version, request.id, outputs)
        try:  # ``call_reply``, without the call
            job.reply(response)
        except Exception:
            log.exception(UNDELIVERED)
        in_flight = self._in_flight
        if in_flight.count > 1:
            in_flight.count -= 1
        else:
            in_flight.leave(1)

    def _answer_all(self, jobs: list[Job], execution: Execution, answers: Answers) -> None:
        now_ns, start_ns, times = monotonic_ns(), execution.start_ns, times_of(execution)
        succeeded = rows = total_ns = queue_ns = 0
        record_latency = self._statistics.record_latency
        replies: list[tuple[Reply, InferResponse]] = []
        model, version, reshapes = self._signature.model, self._statistics.version, self._signature.reshapes_outputs
        for job, given in zip(jobs, answers):
            answer = self._shaped(given, job.rows) if reshapes else given
            if answer is None or isinstance(answer, InferError):
                self._fail(job, answer or _NO_ANSWER, now_ns, FailureReason.BACKEND)
                continue
            parameters = _NO_PARAMETERS
            if isinstance(answer, Answered):
                parameters, answer = answer.parameters, answer.outputs
            request = job.request
            succeeded += 1
            rows += job.rows
            latency_ns = now_ns - request.arrival_ns
            total_ns += latency_ns
            record_latency(latency_ns, start_ns - job.queued_ns, times, now_ns)
            queue_ns += start_ns - job.queued_ns
            if request.account is not None:
                request.account.executed(job.queued_ns, execution)
            if request.requested:
                answer = {name: answer[name] for name in request.requested}
            replies.append((job.reply, InferResponse(model, version, request.id, answer, parameters)))
        if succeeded:
            # Counted before anybody is told: who has an answer finds it in the statistics.
            self._statistics.record_requests(succeeded, rows, total_ns, queue_ns)
            self._statistics.record_execution(succeeded, sum(execution.rows), times, now_ns)
        for reply, response in replies:
            call_reply(reply, response)
        self._in_flight.leave(len(jobs))

    def _shaped(self, answer: Answer, rows: int) -> Answer:
        """An answer with the shapes that clients see, for a model whose config reshapes its outputs."""
        if answer is None or isinstance(answer, InferError):
            return answer
        try:
            if isinstance(answer, Answered):
                return Answered(self._signature.reshape_outputs(answer.outputs, rows), answer.parameters)
            return self._signature.reshape_outputs(answer, rows)
        except ValueError as error:
            return InferError(
                ErrorKind.INTERNAL, f"model '{self._signature.model}' gave an output of another shape: {error}"
            )

    def fail(self, job: Job, error: InferError, now_ns: int, reason: FailureReason = FailureReason.OTHER) -> None:
        """Counts and replies to a job that was not executed."""
        if self._spans is not None and self._spans.ring.is_on:
            self._spans.refused(job)
        self._fail(job, error, now_ns, reason)

    def _fail(self, job: Job, error: InferError, now_ns: int, reason: FailureReason) -> None:
        if error is CANCELLED:
            reason = FailureReason.CANCELED
        self._statistics.record_failure(now_ns - job.request.arrival_ns, reason)
        call_reply(job.reply, error)


def times_of(execution: Execution) -> Durations:
    """The compute times of an execution that has ended."""
    input_end_ns, infer_end_ns = execution.input_end_ns, execution.infer_end_ns
    return Durations(0, input_end_ns - execution.start_ns, infer_end_ns - input_end_ns, execution.end_ns - infer_end_ns)

"""A model version that answers sequences: each keeps to one instance, its requests go one after the other."""

import asyncio
from collections.abc import Sequence as Listed
from dataclasses import dataclass
from functools import partial
from time import monotonic_ns

from analyzer.runtime.alarm import Alarm
from analyzer.runtime.answered import Answered
from analyzer.runtime.answering import Answering
from analyzer.runtime.backends.base import Answer, Answers, Execution
from analyzer.runtime.batcher import Batch, BatchPolicy, Wait, decide
from analyzer.runtime.instance import UNLOADED, Crew
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, Reply, Tensors
from analyzer.runtime.seats import CorrelationId, DirectPolicy, Seats, Sequence, SequenceFault
from analyzer.runtime.sequence_tensors import Flags, SequenceTensors
from analyzer.runtime.servable import Drained, Job
from analyzer.runtime.signature import ShapeKey, Signature
from analyzer.runtime.spans import ModelSpans
from analyzer.runtime.statistics import Statistics
from analyzer.runtime.wire import invalid


@dataclass(frozen=True, slots=True)
class SequencePolicy:
    """``direct`` for batches by rows, else requests of any sequences are batched as in dynamic batching."""

    seats: int
    idle_ns: int
    direct: DirectPolicy | None
    oldest: BatchPolicy


@dataclass(slots=True, eq=False)
class _Turn:
    """A request of a sequence, as the batcher sees it."""

    job: Job
    flags: Flags

    @property
    def rows(self) -> int:
        return 1

    @property
    def queued_ns(self) -> int:
        return self.job.queued_ns

    @property
    def shape_key(self) -> ShapeKey:
        return self.job.shape_key


_Row = tuple[Sequence[_Turn], _Turn] | None
"""A row of a batch; None where its seat has no request."""


class SequenceModel:
    """A Servable. Each of ``crews`` is one instance, since a sequence must not change it: the model may keep state."""

    def __init__(
        self,
        signature: Signature,
        statistics: Statistics,
        policy: SequencePolicy,
        tensors: SequenceTensors,
        *,
        crews: Listed[Crew],
        loop: asyncio.AbstractEventLoop,
        spans: ModelSpans | None = None,
    ) -> None:
        self.signature = signature
        self.statistics = statistics
        self._policy = policy
        self._tensors = tensors
        self._crews = crews
        self._is_busy = [False for _ in crews]
        self._deaths = [crew.deaths for crew in crews]
        self._loop = loop
        self._seats: Seats[_Turn] = Seats(signature.model, len(crews), policy.seats, policy.idle_ns)
        self._states: dict[Sequence[_Turn], Tensors] = {}
        self._in_flight = Drained(loop)
        self._spans = spans
        self._answering = Answering(signature, statistics, self._in_flight, spans)
        self._alarm = Alarm(loop, self._dispatch)
        self._is_dispatching = False
        self._executing_count = 0

    @property
    def pending_count(self) -> int:
        return self._in_flight.count - self._executing_count

    @property
    def takes_device_tensors(self) -> bool:
        return False

    @property
    def failure(self) -> str:
        return next((crew.failure for crew in self._crews if crew.failure), "")

    def submit(self, request: InferRequest, reply: Reply) -> None:
        _, shape_key = self.signature.check(request)
        flags = read_flags(request)
        if self._tensors.is_batched and any(array.shape[0] != 1 for array in request.inputs.values()):
            raise invalid(
                f"inference request to model '{request.model}' must specify batch-size 1 due to requirements of "
                "sequence batcher"
            )
        self._look_for_deaths()
        now_ns = monotonic_ns()
        turn = _Turn(Job(request, reply, 1, shape_key, now_ns), flags)
        try:
            self._seats.arrive(flags.identity, turn, now_ns, start=flags.start, end=flags.end)
        except SequenceFault as fault:
            raise invalid(str(fault)) from None
        if self._spans is not None and self._spans.ring.is_on:
            self._spans.queued(turn.job)
        self._in_flight.count += 1
        if not self._is_dispatching:
            self._is_dispatching = True
            self._loop.call_soon(self._dispatch)

    async def drain(self) -> None:
        await self._in_flight.wait()

    async def close(self) -> None:
        self._alarm.close()
        for turn in list(self._seats.abandon()):
            self._answering.fail(turn.job, UNLOADED, monotonic_ns())
            self._in_flight.leave(1)
        for crew in self._crews:
            await crew.stop()

    def _dispatch(self) -> None:
        """Sends what every idle instance can execute, and sets the alarm for what has to wait."""
        self._is_dispatching = True
        self._look_for_deaths()
        now_ns = monotonic_ns()
        alarms = [self._seats.expire(now_ns)]
        for instance in range(len(self._crews)):
            while not self._is_busy[instance]:
                rows, until_ns = self._next_rows(instance, now_ns)
                alarms.append(until_ns)
                if not rows:
                    break
                self._send(instance, rows)
        due = [at_ns for at_ns in alarms if at_ns is not None]
        if due:
            self._alarm.set(min(due))
        self._is_dispatching = False

    def _look_for_deaths(self) -> None:
        """Refuses what can't go on because its instance was made anew. State that is kept here goes on."""
        for instance, crew in enumerate(self._crews):
            if crew.deaths == self._deaths[instance]:
                continue
            self._deaths[instance] = crew.deaths
            if self._tensors.states:
                continue
            for turn, reason in list(self._seats.lose(instance, _starts)):
                self._answering.fail(turn.job, invalid(reason), monotonic_ns())
                self._in_flight.leave(1)

    def _next_rows(self, instance: int, now_ns: int) -> tuple[list[_Row], int | None]:
        """The rows of the next batch, or when to look again."""
        ready = sorted(self._seats.ready(instance), key=lambda sequence: sequence.requests[0].queued_ns)
        if not ready:
            return [], None
        direct = self._policy.direct
        if direct is not None:
            until_ns = direct.wait_until_ns(len(ready), ready[0].requests[0].queued_ns, now_ns)
            return ([], until_ns) if until_ns else (self._direct_rows(instance, ready), None)
        turns = [sequence.requests[0] for sequence in ready]
        decision = decide(self._policy.oldest, turns, now_ns, 1)
        if isinstance(decision, Wait):
            return [], decision.until_ns
        count = decision.count if isinstance(decision, Batch) else 0
        return [(sequence, self._seats.take(sequence)) for sequence in ready[:count]], None

    def _direct_rows(self, instance: int, ready: list[Sequence[_Turn]]) -> list[_Row]:
        """Every sequence in the row of its seat, as models keep state by row; rows in between go without a request."""
        shape_key = ready[0].requests[0].shape_key
        going = {
            index: sequence
            for index, sequence in self._seats.seated(instance).items()
            if sequence in ready and sequence.requests[0].shape_key == shape_key
        }
        rows: list[_Row] = [None for _ in range(max(going) + 1)]
        for index, sequence in going.items():
            rows[index] = sequence, self._seats.take(sequence)
        return rows

    def _send(self, instance: int, rows: list[_Row]) -> None:
        filler = next(turn.job.request for _, turn in filter(None, rows))
        requests = [self._filled(filler) if row is None else self._prepared(*row) for row in rows]
        self._is_busy[instance] = True
        self._executing_count += sum(row is not None for row in rows)
        execution = Execution(requests, [1 for _ in rows])
        if self._spans is not None and self._spans.ring.is_on:
            self._spans.sent([turn.job for _, turn in filter(None, rows)], execution)
        self._crews[instance].start(execution, partial(self._on_done, instance, rows))

    def _prepared(self, sequence: Sequence[_Turn], turn: _Turn) -> InferRequest:
        request = turn.job.request
        if turn.flags.start:
            self._states.pop(sequence, None)
        request.inputs = request.inputs | self._tensors.inputs(turn.flags, self._states.get(sequence, {}))
        return request

    def _filled(self, like: InferRequest) -> InferRequest:
        """A row whose seat has no request: inputs of the right shape that READY tells the model to ignore."""
        own = {name: like.inputs[name] for name in self.signature.inputs if name in like.inputs}
        inputs = own | self._tensors.inputs(Flags(start=False), {})
        return InferRequest(like.model, inputs, like.arrival_ns, on_device=like.on_device)

    def _on_done(self, instance: int, rows: list[_Row], execution: Execution, answers: Answers) -> None:
        self._is_busy[instance] = False
        jobs: list[Job] = []
        given: Answers = []
        now_ns = monotonic_ns()
        for row, answer in zip(rows, answers):
            if row is None:
                continue
            sequence, turn = row
            jobs.append(turn.job)
            given.append(self._without_state(sequence, answer))
            self._seats.executed(sequence, now_ns)
            if sequence.seat is None:
                self._states.pop(sequence, None)
        self._executing_count -= len(jobs)
        if not self._is_dispatching:
            self._dispatch()
        self._answering.answer(jobs, execution, given)

    def _without_state(self, sequence: Sequence[_Turn], answer: Answer) -> Answer:
        """Keeps the state that an answer holds for the next request of its sequence."""
        if not self._tensors.states:
            return answer
        if isinstance(answer, Answered):
            outputs = self._without_state(sequence, answer.outputs)
            return Answered(outputs, answer.parameters) if isinstance(outputs, dict) else outputs
        if not isinstance(answer, dict):
            return answer
        try:
            outputs, self._states[sequence] = self._tensors.split(answer)
        except KeyError as name:
            return InferError(ErrorKind.INTERNAL, f"model '{self.signature.model}' gave no state output {name}")
        return outputs


def _starts(turn: _Turn) -> bool:
    return turn.flags.start


def read_flags(request: InferRequest) -> Flags:
    """The sequence parameters of a request. Raises InferError."""
    parameters = request.parameters
    identity: CorrelationId = 0
    given = parameters.get("sequence_id", 0)
    if isinstance(given, str) or (isinstance(given, int) and not isinstance(given, bool)):
        identity = given
    else:
        raise invalid("parameter 'sequence_id' must be a number or a string")
    marks = []
    for name in ("sequence_start", "sequence_end"):
        mark = parameters.get(name, False)
        if not isinstance(mark, bool):
            raise invalid(f"parameter '{name}' must be true or false")
        marks.append(mark)
    return Flags(marks[0], marks[1], True, identity)

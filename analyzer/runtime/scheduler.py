"""One model version at work: requests queue up here, leave in batches for idle instances, and are answered."""

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from functools import partial
from time import monotonic_ns

from analyzer.runtime.alarm import Alarm
from analyzer.runtime.answering import Answering
from analyzer.runtime.backends.base import Answers, Execution
from analyzer.runtime.batcher import Batch, BatchPolicy, Wait, decide
from analyzer.runtime.decoupled import Streams, refuse_unary
from analyzer.runtime.in_order import InOrder
from analyzer.runtime.instance import UNLOADED, Crew
from analyzer.runtime.policy_queue import PolicyQueue, QueueFull, QueuePolicies, WrongParameter
from analyzer.runtime.request import CANCELLED, ErrorKind, InferError, InferRequest, Reply
from analyzer.runtime.servable import Drained, Job, QueueIsFull
from analyzer.runtime.signature import Signature
from analyzer.runtime.spans import ModelSpans
from analyzer.runtime.statistics import FailureReason, Statistics

log = logging.getLogger(__name__)


_LOOKAHEAD = 16
"""Executions handed over beyond those that can run, where each request goes alone: an instance then finds its next one
waiting, and need not wake the loop for it. Batches go ahead only where they are full, see ``_can_send``."""


_TOO_LATE = InferError(ErrorKind.UNAVAILABLE, "Request timeout expired")


@dataclass(frozen=True, slots=True)
class Queueing:
    """What a configuration says of the queue beyond first in, first out."""

    policies: QueuePolicies | None = None
    preserves_order: bool = False


class ScheduledModel:
    """A Servable over a queue, a batching policy and a crew of instances.

    A request is only queued by ``submit``; the queue is looked at once a turn of the loop, so that requests read from
    several connections in one turn go together.
    """

    def __init__(
        self,
        signature: Signature,
        statistics: Statistics,
        policy: BatchPolicy,
        crew: Crew,
        loop: asyncio.AbstractEventLoop,
        *,
        decoupled: bool = False,
        queueing: Queueing = Queueing(),
        spans: ModelSpans | None = None,
    ) -> None:
        self.signature = signature
        self.statistics = statistics
        self._policy = policy
        self._goes_alone = not policy.dynamic
        self._never_waits = not policy.dynamic or policy.max_delay_ns == 0
        self._crew = crew
        self._free = crew.size if policy.dynamic else crew.size + _LOOKAHEAD
        self._ahead = crew.size if policy.dynamic else 0
        self._loop = loop
        policies = queueing.policies
        self._queue: deque[Job] | PolicyQueue[Job] = deque() if policies is None else PolicyQueue(policies)
        self._expiry = Alarm(loop, self._expire) if policies is not None and policies.has_timeouts else None
        self._is_expiring = False  # or about to
        self._watch = self._on_request_changed  # bound once: every request gets it
        self._is_dropping = False  # or about to
        self._in_order = InOrder() if queueing.preserves_order else None
        self._queued_rows = 0
        self._sent: list[Execution] = []  # those of a model that batches, begun or waiting in the crew's inbox
        self._wait: Wait | None = None
        self._is_dispatching = False  # or about to
        self._in_flight = Drained(loop)
        self._spans = spans
        self._answering = Answering(signature, statistics, self._in_flight, spans)
        self._streams = Streams(signature, statistics, self._in_flight, loop, spans) if decoupled else None
        self._queueing_is_plain = policies is None and self._in_order is None
        self._alarm = Alarm(loop, self._dispatch) if policy.dynamic and policy.max_delay_ns else None

    @property
    def pending_count(self) -> int:
        if self._policy.dynamic:
            return len(self._queue) + sum(len(sent.requests) for sent in self._sent if not sent.start_ns)
        return max(0, self._in_flight.count - self._crew.size)  # some wait in the crew's own inbox

    @property
    def takes_device_tensors(self) -> bool:
        return self._crew.takes_device_tensors

    @property
    def failure(self) -> str:
        return self._crew.failure

    def submit(self, request: InferRequest, reply: Reply) -> None:
        if self._streams is not None and not request.accepts_stream:
            raise refuse_unary(self.signature.model)
        rows, shape_key = self.signature.check(request)
        job = Job(request, reply, rows, shape_key, monotonic_ns())
        if self._queueing_is_plain:
            self._queue.append(job)
        else:
            self._enqueue(job)
        if self._spans is not None and self._spans.ring.is_on:
            self._spans.queued(job)
        request.watcher = self._watch
        self._queued_rows += rows
        self._in_flight.count += 1
        if self._is_dispatching or (self._free <= 0 and not self._can_send()):
            return  # in a busy turn of the loop the first request has seen to it
        wait = self._wait
        if wait and self._queued_rows < wait.until_rows and shape_key == self._queue[0].shape_key:
            return
        self._is_dispatching = True
        self._loop.call_soon(self._dispatch)

    def _enqueue(self, job: Job) -> None:
        """Where a policy has a say in who is queued and answered when."""
        try:
            self._queue.append(job)
        except QueueFull:
            raise QueueIsFull from None
        except WrongParameter as error:
            raise InferError(ErrorKind.INVALID_ARGUMENT, str(error)) from None
        if self._in_order is not None:
            job.reply = self._in_order.ticket(job.reply)
        if self._expiry is not None and not self._is_expiring:
            self._is_expiring = True
            self._loop.call_soon(self._expire)

    def _expire(self) -> None:
        """Refuses what has waited too long, and sets the alarm for what comes next."""
        self._is_expiring = False
        if self._expiry is None or not isinstance(self._queue, PolicyQueue):
            return
        now_ns = monotonic_ns()
        rejected, next_ns = self._queue.expire(now_ns)
        for job in rejected:
            self._queued_rows -= job.rows
            self._answering.fail(job, _TOO_LATE, now_ns, FailureReason.REJECTED)
        self._in_flight.leave(len(rejected))
        if next_ns is not None:
            self._expiry.set(next_ns)

    def _on_request_changed(self) -> None:
        """A request may have been cancelled: looked at once a turn of the loop, as many often go at once."""
        if not self._is_dropping and self._queue:
            self._is_dropping = True
            self._loop.call_soon(self._drop_cancelled)

    def _drop_cancelled(self) -> None:
        self._is_dropping = False
        if isinstance(self._queue, PolicyQueue):
            dropped = self._queue.drop(_is_cancelled)
        else:
            dropped = [job for job in self._queue if job.request.is_cancelled]
            if dropped:
                self._queue = deque(job for job in self._queue if not job.request.is_cancelled)
        for job in dropped:
            self._queued_rows -= job.rows
            self._answering.fail(job, CANCELLED, monotonic_ns())
        self._in_flight.leave(len(dropped))

    def _can_send(self) -> bool:
        """True where an instance is idle, or is to find its next batch waiting.

        The latter only once the rows of a whole batch are queued: what comes later could not make it larger.
        """
        return self._free > 0 or (self._free > -self._ahead and self._queued_rows >= self._policy.max_batch_size)

    @property
    def crew(self) -> Crew:
        return self._crew

    def crew_resized(self, before: int) -> None:
        """Called when the crew, of ``before`` instances until now, has more or fewer."""
        self._free += self._crew.size - before
        if self._policy.dynamic:
            self._ahead = self._crew.size
        if self._queue and not self._is_dispatching and self._can_send():
            self._dispatch()

    async def drain(self) -> None:
        await self._in_flight.wait()

    async def close(self) -> None:
        if self._alarm is not None:
            self._alarm.close()
        if self._expiry is not None:
            self._expiry.close()
        while self._queue:
            self._answering.fail(self._queue.popleft(), UNLOADED, monotonic_ns())
            self._in_flight.leave(1)
        await self._crew.stop()
        if self._streams is not None:
            self._streams.close()

    def _dispatch(self) -> None:
        """Sends batches until the policy says to wait, nothing is queued or nobody is idle."""
        self._is_dispatching = True
        self._wait = None
        if self._expiry is not None:
            self._expire()
        while self._queue and (self._free > 0 or self._can_send()):
            if self._goes_alone or (self._never_waits and len(self._queue) == 1):
                self._send(1)  # as the policy would say
                continue
            decision = decide(self._policy, self._queue, monotonic_ns(), max(self._free, 1))
            if isinstance(decision, Wait) and self._alarm is not None:
                self._wait = decision
                self._alarm.set(decision.until_ns)
                break
            self._send(decision.count if isinstance(decision, Batch) else 1)
        self._is_dispatching = False

    def _send(self, count: int) -> None:
        take = self._queue.popleft
        if count == 1:
            job = take()
            jobs, requests, rows = [job], [job.request], [job.rows]
            self._queued_rows -= job.rows
        else:
            jobs = [take() for _ in range(count)]
            requests = [job.request for job in jobs]
            rows = [job.rows for job in jobs]
            self._queued_rows -= sum(rows)
        self._free -= 1
        execution = Execution(requests, rows)
        if self._spans is not None and self._spans.ring.is_on:
            self._spans.sent(jobs, execution)
        if self._streams is not None:
            execution.streams = self._streams.open(jobs, execution)
        if self._ahead:
            self._sent.append(execution)
        self._crew.start(execution, partial(self._on_done, jobs))

    def _on_done(self, jobs: list[Job], execution: Execution, answers: Answers) -> None:
        self._free += 1
        if self._ahead:
            self._sent.remove(execution)
        # The next batch goes out before these answers do: the instance works while they are written. An inline crew is
        # already called by _dispatch, which goes on by itself.
        if self._queue and not self._is_dispatching and self._can_send():
            self._dispatch()
        if self._streams is not None:
            self._streams.executed(execution, answers)
        else:
            self._answering.answer(jobs, execution, answers)


def _is_cancelled(job: Job) -> bool:
    return job.request.is_cancelled

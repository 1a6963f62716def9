"""Requests handed to a runtime in this process; a connection is no more than a number of slots."""

from array import array
from collections.abc import Iterator
from typing import Any

from perf_client.in_process import Runtime
from perf_client.record import OK, Recorder
from perf_client.transports.base import Clock, Owner, unanswered


class _Call:
    __slots__ = ("answers_ns", "scheduled_ns", "sent_ns")

    def __init__(self, scheduled_ns: int, sent_ns: int) -> None:
        self.scheduled_ns = scheduled_ns
        self.sent_ns = sent_ns
        self.answers_ns = array("q")


class InProcessConnection:
    def __init__(
        self,
        transport: "InProcessTransport",
        capacity: int,
        owner: Owner,
        recorder: Recorder,
    ) -> None:
        self.capacity = capacity
        self.in_flight = 0
        self.usable = True
        self._submit = transport.runtime.submit
        self._next_request = transport.requests.__next__
        self._several_answers = transport.several_answers
        self._owner = owner
        self._recorder = recorder
        self._clock = transport.clock
        self._calls: dict[_Call, None] = {}

    def send(self, scheduled_ns: int = 0) -> None:
        sent_ns = self._clock()
        call = _Call(scheduled_ns or sent_ns, sent_ns)
        self._calls[call] = None
        self.in_flight += 1
        self._submit(
            self._next_request(), lambda failure, message, final: self._answered(call, failure, message, final)
        )

    def _answered(self, call: _Call, failure: str, message: str, final: bool) -> None:
        if call not in self._calls:  # given up before
            return
        now_ns = self._clock()
        if not failure:
            call.answers_ns.append(now_ns)
        if failure or final:
            self._end(call, now_ns, self._recorder.code(failure, message) if failure else OK)

    def _end(self, call: _Call, now_ns: int, code: int) -> None:
        del self._calls[call]
        self.in_flight -= 1
        if self._several_answers:
            self._recorder.add_answers(call.answers_ns)
        first_ns = call.answers_ns[0] if call.answers_ns else now_ns
        self._recorder.add(call.scheduled_ns, call.sent_ns, first_ns, now_ns, code)
        self._owner.ready(self, now_ns)

    def expire(self, sent_before_ns: int, now_ns: int, failure: str = "timeout") -> None:
        for call in [each for each in self._calls if each.sent_ns < sent_before_ns]:
            self._end(call, now_ns, self._recorder.code(failure, unanswered(call.sent_ns, now_ns)))

    def close(self) -> None:
        self.usable = False
        self._calls.clear()


class InProcessTransport:
    """``several_answers``: each request may have them, and the time of each is kept."""

    slots_per_connection = 1 << 16

    def __init__(self, runtime: Runtime, requests: Iterator[Any], clock: Clock, *, several_answers: bool) -> None:
        self.runtime = runtime
        self.requests = requests
        self.clock = clock
        self.several_answers = several_answers

    async def connect(self, capacity: int, owner: Owner, recorder: Recorder) -> InProcessConnection:
        return InProcessConnection(self, capacity, owner, recorder)

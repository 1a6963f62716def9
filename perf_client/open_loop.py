"""The open loop: requests leave by a schedule, whatever the server does."""

import asyncio
from collections import deque
from collections.abc import Iterator

from perf_client.loop import RETRY_FIRST_S, Loop
from perf_client.record import NEVER, NOT_SENT, Recorder
from perf_client.timer import PreciseTimer
from perf_client.transports.base import Clock, Connection, Transport

_LOOK_S = 0.001
_BURST = 64
"""Requests sent in one go before answers are read again, when the schedule is behind."""


class OpenLoop(Loop):
    """Sends by a schedule that answers can't slow down. Connections are opened as they are needed, up to a limit.

    ``drop_over_limit`` decides what happens to a request that finds all slots taken: it is dropped (the user set a
    cap), or it waits for a slot, late but with its scheduled time.
    """

    def __init__(
        self, transport: Transport, recorder: Recorder, clock: Clock, max_slots: int, drop_over_limit: bool
    ) -> None:
        super().__init__(transport, recorder, clock)
        self._max_slots = max_slots
        self._drop_over_limit = drop_over_limit
        self._idle: list[Connection] = []
        self._waiting: deque[int] = deque()
        self._slots = 0
        self._slots_opening = 0
        self._refused_until_ns = 0
        self._refused_code = 0
        self._schedule: Iterator[int] = iter(())
        self._due_ns = 0
        self._timer: PreciseTimer | None = None

    async def open_first(self, slots: int) -> None:
        await super().open_first(min(slots, self._max_slots))
        for connection in self._connections:
            self._slots += connection.capacity
            self._idle += [connection] * connection.capacity

    def start(self, schedule: Iterator[int]) -> None:
        """Follow absolute times in rising order; when they end, wait for the last answers."""
        self._begin()
        self._schedule = schedule
        self._timer = PreciseTimer(self._send_due)
        self._next_due()

    def _next_due(self) -> None:
        try:
            self._due_ns = next(self._schedule)
        except StopIteration:
            self._end()
            return
        if self._timer is not None:
            self._timer.arm(self._due_ns)

    def next_due_ns(self, start_ns: int) -> int:
        """When a schedule that has ended would have gone on: one mean gap after its last request."""
        gaps = len(self._recorder) + self._recorder.dropped_count - 1
        return self._due_ns + (self._due_ns - start_ns) // max(gaps, 1)

    def _send_due(self) -> None:
        timer = self._timer
        if timer is None or not self._sending:
            return
        due_ns = self._due_ns
        for _ in range(_BURST):
            if due_ns > (now_ns := self._clock()):
                break
            self._dispatch(due_ns)
            following = next(self._schedule, None)
            if following is None:
                self._due_ns = due_ns
                self._end()
                return
            due_ns = following
        self._due_ns = due_ns
        # What is due sooner than a sleep would pay for is waited for awake: the timer, which has fired, calls again as
        # soon as the answers that came in the meantime are read.
        if due_ns - now_ns > timer.sleep_cost_ns:
            timer.arm(due_ns)

    def _dispatch(self, scheduled_ns: int) -> None:
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.usable:
                connection.send(scheduled_ns)
                return
        if self._refused_until_ns > scheduled_ns and not self._connections:
            self._recorder.add(scheduled_ns, NEVER, NEVER, self._clock(), self._refused_code)
        elif len(self._waiting) < self._slots_opening:
            self._waiting.append(scheduled_ns)
        elif self._slots < self._max_slots:
            self._waiting.append(scheduled_ns)
            self._open_slots()
        elif self._drop_over_limit:
            self._recorder.drop(scheduled_ns)
        else:
            self.waited_for_slot += 1
            self._waiting.append(scheduled_ns)

    def _open_slots(self) -> None:
        slots = min(self._transport.slots_per_connection, self._max_slots - self._slots)
        self._slots += slots
        self._slots_opening += slots
        self._open_more(slots)

    def ready(self, connection: Connection, now_ns: int) -> None:
        if self._waiting:
            connection.send(self._waiting.popleft())
            return
        self._idle.append(connection)
        if not self._sending:
            self._one_less_owed()

    def outstanding(self) -> int:
        return super().outstanding() + len(self._waiting)

    def _gone(self, connection: Connection) -> None:
        self._slots -= connection.capacity
        self._idle = [idle for idle in self._idle if idle is not connection]
        if len(self._waiting) > self._slots_opening and self._slots < self._max_slots:
            self._open_slots()

    def _opened(self, asked: int, connection: Connection) -> None:
        self._slots_opening -= asked
        self._slots -= asked - connection.capacity
        for _ in range(connection.capacity):
            self.ready(connection, self._clock())

    def _not_opened(self, slots: int, began_ns: int, failure: str, message: str) -> None:
        """What waited for these slots has failed, as it would have for any other client."""
        self._slots -= slots
        self._slots_opening -= slots
        code = self._recorder.code(failure, message)
        now_ns = self._clock()
        for _ in range(min(slots, len(self._waiting))):
            self._recorder.add(self._waiting.popleft(), NEVER, NEVER, now_ns, code)
        self._refused_code = code
        self._refused_until_ns = now_ns + int(RETRY_FIRST_S * 1e9)
        self._recount()

    def expire(self, timeout_ns: int) -> None:
        now_ns = self._clock()
        if self._waiting and self._waiting[0] < now_ns - timeout_ns:
            code = self._recorder.code("timeout")
            while self._waiting and self._waiting[0] < now_ns - timeout_ns:
                self._recorder.add(self._waiting.popleft(), NEVER, NEVER, now_ns, code)
        super().expire(timeout_ns)

    def give_up(self, failure: str) -> None:
        while self._waiting:
            code = self._recorder.code(failure)
            self._recorder.add(self._waiting.popleft(), NEVER, NEVER, self._clock(), code)
        super().give_up(failure)

    async def catch_up(self, limit_s: float) -> None:
        """Let what is due and late leave yet, for so long at most; only at the end of a schedule that ends."""
        until_ns = self._clock() + int(limit_s * 1e9)
        while self._sending and self._clock() < until_ns:
            await asyncio.sleep(_LOOK_S)

    def stop_sending(self) -> None:
        """What is due and has not left has failed, by the load generator's own fault."""
        due_ns: int | None = self._due_ns
        while self._sending and due_ns is not None and due_ns <= (now_ns := self._clock()):
            self._recorder.add(due_ns, NEVER, NEVER, now_ns, self._recorder.code(NOT_SENT))
            due_ns = next(self._schedule, None)
        self._end()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.close()
        super().stop_sending()

    def close(self) -> None:
        super().close()
        if self._timer is not None:
            self._timer.close()

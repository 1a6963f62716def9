"""Closed and open loop over connections that the test plays: slots, losses, refusals and the way to the end."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import accumulate, count

import pytest
import uvloop

from perf_client.closed_loop import ClosedLoop
from perf_client.errors import LoadError
from perf_client.open_loop import OpenLoop
from perf_client.record import Recorder
from perf_client.transports.base import Owner


class PlayedConnection:
    def __init__(self, capacity: int, owner: Owner, recorder: Recorder) -> None:
        self.capacity = capacity
        self.in_flight = 0
        self.usable = True
        self.scheduled: list[int] = []
        self._owner = owner
        self._recorder = recorder

    def send(self, scheduled_ns: int = 0) -> None:
        assert self.usable
        assert self.in_flight < self.capacity
        self.in_flight += 1
        self.scheduled.append(scheduled_ns)

    def answer(self, now_ns: int = 1) -> None:
        self.in_flight -= 1
        self._recorder.add(0, 0, 0, now_ns, 0)
        self._owner.ready(self, now_ns)

    def lose(self) -> None:
        self.usable = False
        for _ in range(self.in_flight):
            self._recorder.add(0, 0, 0, 1, self._recorder.code("connection reset"))
        self.in_flight = 0
        self._owner.lost(self)

    def expire(self, sent_before_ns: int, now_ns: int) -> None:
        self.lose()

    def close(self) -> None:
        self.usable = False


class PlayedTransport:
    """``errors`` are raised by the next attempts to connect, in order."""

    def __init__(self, slots_per_connection: int = 1, most: int = 100) -> None:
        self.slots_per_connection = slots_per_connection
        self.connections: list[PlayedConnection] = []
        self.errors: list[Exception] = []
        self._most = most

    async def connect(self, capacity: int, owner: Owner, recorder: Recorder) -> PlayedConnection:
        if self.errors:
            raise self.errors.pop(0)
        self.connections.append(PlayedConnection(min(capacity, self._most), owner, recorder))
        return self.connections[-1]

    def in_flight(self) -> int:
        return sum(connection.in_flight for connection in self.connections)


class Rig:
    def __init__(self, transport: PlayedTransport) -> None:
        self.transport = transport
        self.recorder = Recorder()
        self._ticks = count(1)

    def clock(self) -> int:
        return next(self._ticks)

    def closed(self) -> ClosedLoop:
        return ClosedLoop(self.transport, self.recorder, self.clock)

    def open(self, max_slots: int = 10, drop: bool = False) -> OpenLoop:
        return OpenLoop(self.transport, self.recorder, self.clock, max_slots, drop)

    def outcomes(self) -> list[str]:
        columns = self.recorder.columns(0)
        return [columns.failure_names[code] for code in columns.failure]


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scene())


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("slots", "per_connection", "most"), [(5, 1, 9), (5, 2, 9), (8, 8, 3), (1, 8, 8)])
def test_a_closed_loop_fills_exactly_its_slots(slots: int, per_connection: int, most: int):
    async def scene() -> None:
        rig = Rig(PlayedTransport(per_connection, most))
        loop = rig.closed()
        await loop.open_first(slots)
        loop.start(None)
        assert rig.transport.in_flight() == slots
        for connection in rig.transport.connections:
            connection.answer()
        assert rig.transport.in_flight() == slots
        loop.close()

    play(scene)


def test_a_closed_loop_drains_after_its_end():
    async def scene() -> None:
        rig = Rig(PlayedTransport())
        loop = rig.closed()
        await loop.open_first(2)
        loop.start(until_ns=1_000)
        first, second = rig.transport.connections
        first.answer(now_ns=999)
        assert first.in_flight == 1
        first.answer(now_ns=1_000)
        assert not loop.drained.is_set()
        second.answer(now_ns=1_001)
        assert loop.drained.is_set()

    play(scene)


def test_a_counted_closed_loop_sends_exactly_so_many():
    async def scene() -> None:
        rig = Rig(PlayedTransport())
        loop = rig.closed()
        await loop.open_first(3)
        loop.limit(4)
        loop.start(None)
        while not loop.drained.is_set():
            next(connection for connection in rig.transport.connections if connection.in_flight).answer()
        assert len(rig.outcomes()) == 4

    play(scene)


def test_a_lost_connection_is_replaced_and_its_slots_filled_again():
    async def scene() -> None:
        rig = Rig(PlayedTransport(slots_per_connection=2, most=2))
        loop = rig.closed()
        await loop.open_first(4)
        loop.start(None)
        rig.transport.connections[0].lose()
        await settle()
        assert rig.transport.in_flight() == 4
        assert rig.outcomes() == ["connection reset"] * 2
        loop.close()

    play(scene)


def test_a_connection_lost_before_the_start_is_replaced_at_the_start():
    async def scene() -> None:
        rig = Rig(PlayedTransport(slots_per_connection=2, most=2))
        loop = rig.closed()
        await loop.open_first(4)
        rig.transport.connections[0].lose()
        loop.start(None)
        await settle()
        assert rig.transport.in_flight() == 4
        loop.close()

    play(scene)


def test_a_connection_lost_before_the_start_does_not_end_the_wait_for_the_last_answers():
    """Else what was in flight at the end of the run would be given up at once, as interrupted."""

    async def scene() -> None:
        rig = Rig(PlayedTransport())
        loop = rig.closed()
        await loop.open_first(2)
        rig.transport.connections[0].lose()
        loop.start(None)
        await settle()
        loop.stop_sending()
        assert not loop.drained.is_set()
        loop.close()

    play(scene)


def test_a_refused_replacement_is_a_failure_and_tried_again():
    async def scene() -> None:
        rig = Rig(PlayedTransport())
        loop = rig.closed()
        await loop.open_first(1)
        loop.start(None)
        rig.transport.errors = [ConnectionRefusedError(), TimeoutError(), OSError("odd")]
        rig.transport.connections[0].lose()
        while rig.transport.in_flight() == 0:
            await asyncio.sleep(0.001)
        assert sorted(rig.outcomes()) == ["connection failed", "connection refused", "connection reset", "timeout"]
        loop.close()

    play(scene)


def test_refusals_use_up_a_request_count():
    async def scene() -> None:
        rig = Rig(PlayedTransport())
        loop = rig.closed()
        await loop.open_first(1)
        loop.limit(3)
        loop.start(None)
        rig.transport.errors = [ConnectionRefusedError()] * 5
        rig.transport.connections[0].lose()
        await asyncio.wait_for(loop.drained.wait(), 5)
        assert len(rig.outcomes()) == 3

    play(scene)


def test_no_server_at_the_start_is_an_error():
    async def scene() -> None:
        rig = Rig(PlayedTransport())
        rig.transport.errors = [ConnectionRefusedError("refused")]
        with pytest.raises(LoadError, match="can't be reached: refused"):
            await rig.closed().open_first(1)

    play(scene)


def test_an_open_loop_opens_connections_as_they_are_needed():
    async def scene() -> None:
        rig = Rig(PlayedTransport(slots_per_connection=2))
        loop = rig.open()
        await loop.open_first(2)
        loop.start(iter([1, 2, 3, 4, 5]))
        while rig.transport.in_flight() < 5:
            await asyncio.sleep(0.001)
        assert len(rig.transport.connections) == 3
        assert sorted(due for each in rig.transport.connections for due in each.scheduled) == [1, 2, 3, 4, 5]
        assert not loop.drained.is_set()
        for connection in rig.transport.connections:
            while connection.in_flight:
                connection.answer()
        assert loop.drained.is_set()
        loop.close()

    play(scene)


def test_requests_closer_together_than_a_sleep_takes_leave_in_order_and_never_early():
    async def main() -> None:
        rig = Rig(PlayedTransport(slots_per_connection=2000, most=2000))
        loop = OpenLoop(rig.transport, rig.recorder, time.monotonic_ns, 2000, drop_over_limit=False)
        await loop.open_first(2000)
        (connection,) = rig.transport.connections
        left_ns: list[int] = []
        send = connection.send

        def timed_send(scheduled_ns: int = 0) -> None:
            left_ns.append(time.monotonic_ns())
            send(scheduled_ns)

        connection.send = timed_send
        gaps_ns = [1_000, 5_000, 20_000, 40_000, 0] * 200
        due_ns = list(accumulate(gaps_ns, initial=time.monotonic_ns() + 2_000_000))
        loop.start(iter(due_ns))
        while len(left_ns) < len(due_ns):
            await asyncio.sleep(0.001)
        loop.close()
        assert connection.scheduled == due_ns
        assert all(left >= due for left, due in zip(left_ns, due_ns, strict=True))

    uvloop.run(main())


@pytest.mark.parametrize("drop", [True, False])
def test_over_the_limit_requests_are_dropped_or_wait_with_their_schedule(drop: bool):
    async def scene() -> None:
        rig = Rig(PlayedTransport())
        loop = rig.open(max_slots=2, drop=drop)
        await loop.open_first(5)
        assert len(rig.transport.connections) == 2
        loop.start(iter([1, 2, 3, 4]))
        while rig.transport.in_flight() < 2:
            await asyncio.sleep(0.001)
        await settle()
        for connection in rig.transport.connections:
            connection.answer()
        assert rig.transport.in_flight() == (0 if drop else 2)
        due = [due for each in rig.transport.connections for due in each.scheduled]
        assert sorted(due) == ([1, 2] if drop else [1, 2, 3, 4])
        assert rig.recorder.columns(0).dropped_ns.tolist() == ([3, 4] if drop else [])
        loop.close()

    play(scene)


def test_requests_whose_connection_was_refused_fail_and_those_right_after_too():
    async def scene() -> None:
        rig = Rig(PlayedTransport())
        loop = rig.open()
        rig.transport.errors = [ConnectionRefusedError()] * 3
        loop.start(iter([1, 2, 3, 100]))
        await asyncio.wait_for(loop.drained.wait(), 5)
        assert rig.outcomes() == ["connection refused"] * 3 + rig.outcomes()[3:]
        loop.close()

    play(scene)


def test_waiting_requests_time_out_too():
    async def scene() -> None:
        rig = Rig(PlayedTransport())
        loop = rig.open(max_slots=1)
        await loop.open_first(1)
        loop.start(iter([1, 2]))
        while not rig.transport.in_flight():
            await asyncio.sleep(0.001)
        await settle()
        for _ in range(100):
            rig.clock()
        loop.expire(timeout_ns=50)
        assert sorted(rig.outcomes()) == ["connection reset", "timeout"]
        assert loop.drained.is_set()
        loop.close()

    play(scene)


def test_what_is_due_at_the_end_and_has_not_left_has_failed():
    async def scene() -> None:
        rig = Rig(PlayedTransport())
        loop = rig.open()
        await loop.open_first(1)
        loop.start(iter([1, 2, 3, 1 << 60]))  # and the event loop does not come round to send them
        loop.stop_sending()
        assert rig.outcomes() == ["not sent in time"] * 3
        assert loop.drained.is_set()

    play(scene)


def test_late_requests_may_still_leave_at_the_end():
    async def scene() -> None:
        rig = Rig(PlayedTransport())
        loop = rig.open()
        await loop.open_first(2)
        loop.start(iter([1, 2]))
        await loop.catch_up(limit_s=10.0)
        assert rig.transport.in_flight() == 2
        loop.stop_sending()
        assert rig.outcomes() == []
        loop.close()

    play(scene)

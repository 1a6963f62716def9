"""What is sent when: a closed loop keeps slots busy, an open loop follows a schedule. Both own the connections."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator

from perf_client.errors import server_error
from perf_client.record import NEVER, Recorder
from perf_client.timer import PreciseTimer
from perf_client.transports.base import Clock, Connection, Transport, connect_failure

_RETRY_FIRST_S = 0.01
_RETRY_LAST_S = 1.0
_NEVER_NS = 1 << 62
_BURST = 64
"""Requests sent in one go before answers are read again, when the schedule is behind."""


class Loop(ABC):
    """Connections and their slots, and the run's three states: sending, waiting for the last answers, over."""

    def __init__(self, transport: Transport, recorder: Recorder, clock: Clock) -> None:
        self._transport = transport
        self._recorder = recorder
        self._clock = clock
        self._connections: dict[Connection, None] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._sending = False
        self._answers_owed = 0
        self.drained = asyncio.Event()

    async def open_first(self, slots: int) -> None:
        """Connect before the clock starts. Raises LoadError where the server can't be reached."""
        size = self._transport.slots_per_connection
        while slots > 0:
            try:
                connection = await self._transport.connect(min(size, slots), self, self._recorder)
            except (OSError, TimeoutError) as error:
                raise server_error(f"the server can't be reached: {str(error) or 'no answer'}") from None
            if not connection.usable:
                raise server_error("the server closes connections as soon as they are made")
            self._connections[connection] = None
            slots -= connection.capacity

    def _open_more(self, slots: int, delay_s: float = 0.0) -> None:
        task = asyncio.get_running_loop().create_task(self._open(slots, delay_s))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, slots: int, delay_s: float) -> None:
        if delay_s:
            await asyncio.sleep(delay_s)
        began_ns = self._clock()
        try:
            connection = await self._transport.connect(slots, self, self._recorder)
        except (OSError, TimeoutError) as error:
            self._not_opened(slots, began_ns, connect_failure(error), str(error))
            return
        if not connection.usable:
            self._not_opened(slots, began_ns, "connection closed", "")
            return
        self._connections[connection] = None
        self._opened(slots, connection)

    @abstractmethod
    def ready(self, connection: Connection, now_ns: int) -> None:
        """A slot is free: see ``Owner``."""

    def lost(self, connection: Connection) -> None:
        if connection in self._connections:
            del self._connections[connection]
            self._gone(connection)
            self._recount()

    @abstractmethod
    def _gone(self, connection: Connection) -> None: ...

    @abstractmethod
    def _opened(self, asked: int, connection: Connection) -> None: ...

    @abstractmethod
    def _not_opened(self, slots: int, began_ns: int, failure: str, message: str) -> None: ...

    def expire(self, timeout_ns: int) -> None:
        """Give up what has waited too long."""
        now_ns = self._clock()
        for connection in list(self._connections):
            if connection.in_flight:
                connection.expire(now_ns - timeout_ns, now_ns)
        self._recount()

    def stop_sending(self) -> None:
        if self._sending:
            self._sending = False
            self._recount()

    def outstanding(self) -> int:
        return sum(connection.in_flight for connection in self._connections)

    def _recount(self) -> None:
        if not self._sending:
            self._answers_owed = self.outstanding()
            if not self._answers_owed:
                self.drained.set()

    def _one_less_owed(self) -> None:
        """Counting down spares looking at all connections for each of the last answers."""
        self._answers_owed -= 1
        if self._answers_owed <= 0:
            self._recount()

    def close(self) -> None:
        self._sending = False
        for task in self._opening:
            task.cancel()
        for connection in list(self._connections):
            connection.close()
        self._connections.clear()


class ClosedLoop(Loop):
    """Keeps ``in_flight`` requests out: a slot that gets its answer sends the next request at once."""

    def __init__(self, transport: Transport, recorder: Recorder, clock: Clock) -> None:
        super().__init__(transport, recorder, clock)
        self._until_ns = _NEVER_NS
        self._requests_left: int | None = None
        self._retry_s = _RETRY_FIRST_S

    def start(self, until_ns: int | None) -> None:
        """Fill all slots and keep them full until that time, or until ``limit`` is used up."""
        self._sending = True
        self._until_ns = _NEVER_NS if until_ns is None else until_ns
        for connection in list(self._connections):
            self._fill(connection)

    def limit(self, request_count: int | None) -> None:
        """From now on so many requests more, without a limit where None."""
        self._requests_left = request_count

    def _fill(self, connection: Connection) -> None:
        while connection.usable and self._sending and connection.in_flight < connection.capacity:
            before = connection.in_flight
            self.ready(connection, self._clock())
            if connection.in_flight == before:
                return

    def ready(self, connection: Connection, now_ns: int) -> None:
        if self._sending and now_ns < self._until_ns:
            if self._requests_left is None:
                connection.send()
                return
            if self._requests_left > 0:
                self._requests_left -= 1
                connection.send()
                return
        if self._sending:
            self.stop_sending()
        else:
            self._one_less_owed()

    def _gone(self, connection: Connection) -> None:
        if self._sending:
            self._open_more(connection.capacity)

    def _opened(self, asked: int, connection: Connection) -> None:
        self._retry_s = _RETRY_FIRST_S
        if connection.capacity < asked:
            self._open_more(asked - connection.capacity)
        self._fill(connection)

    def _not_opened(self, slots: int, began_ns: int, failure: str, message: str) -> None:
        """Each slot without a connection is a request that failed; the next attempt comes a little later."""
        if not self._sending:
            return
        code = self._recorder.code(failure, message)
        now_ns = self._clock()
        for _ in range(slots):
            if self._requests_left is not None:
                self._requests_left -= 1
            self._recorder.add(began_ns, NEVER, NEVER, now_ns, code)
        if self._requests_left is not None and self._requests_left <= 0:
            self.stop_sending()
            return
        self._open_more(slots, self._retry_s)
        self._retry_s = min(2 * self._retry_s, _RETRY_LAST_S)


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
        self._sending = True
        self._schedule = schedule
        self._timer = PreciseTimer(self._send_due)
        self._next_due()

    def _next_due(self) -> None:
        try:
            self._due_ns = next(self._schedule)
        except StopIteration:
            self.stop_sending()
            return
        if self._timer is not None:
            self._timer.arm(self._due_ns)

    def _send_due(self) -> None:
        timer = self._timer
        if timer is None or not self._sending:
            return
        due_ns = self._due_ns
        for _ in range(_BURST):
            if due_ns > self._clock():
                break
            self._dispatch(due_ns)
            following = next(self._schedule, None)
            if following is None:
                timer.close()
                self.stop_sending()
                return
            due_ns = following
        self._due_ns = due_ns
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
        self._refused_until_ns = now_ns + int(_RETRY_FIRST_S * 1e9)
        self._recount()

    def expire(self, timeout_ns: int) -> None:
        now_ns = self._clock()
        if self._waiting and self._waiting[0] < now_ns - timeout_ns:
            code = self._recorder.code("timeout")
            while self._waiting and self._waiting[0] < now_ns - timeout_ns:
                self._recorder.add(self._waiting.popleft(), NEVER, NEVER, now_ns, code)
        super().expire(timeout_ns)

    def stop_sending(self) -> None:
        if self._timer is not None:
            self._timer.close()
        super().stop_sending()

    def close(self) -> None:
        super().close()
        if self._timer is not None:
            self._timer.close()

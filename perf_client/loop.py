"""What closed and open loop have in common: connections with their slots, and the way to the last answer."""

import asyncio
from abc import ABC, abstractmethod

from perf_client.errors import server_error
from perf_client.record import Recorder
from perf_client.transports.base import Clock, Connection, Transport, connect_failure

RETRY_FIRST_S = 0.01
"""How long after a refused connection the next attempt comes."""


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
        self._connect_failed = False
        self.waited_for_slot = 0
        self.drained = asyncio.Event()

    @property
    def done_count(self) -> int:
        """Requests that were answered or have failed."""
        return len(self._recorder)

    @property
    def server_gone(self) -> bool:
        """Whether every connection was lost and the last attempt to make one failed."""
        return self._connect_failed and not self._connections

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

    def _begin(self) -> None:
        """From now on there are answers to wait for; what was over before the start says nothing of the end."""
        self._sending = True
        self.drained.clear()

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
            self._connect_failed = True
            self._not_opened(slots, began_ns, connect_failure(error), str(error))
            return
        self._connect_failed = not connection.usable
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

    def spill(self) -> None:
        self._recorder.spill()

    def expire(self, timeout_ns: int) -> None:
        """Give up what has waited too long."""
        now_ns = self._clock()
        for connection in list(self._connections):
            if connection.in_flight:
                connection.expire(now_ns - timeout_ns, now_ns)
        self._recount()

    def give_up(self, failure: str) -> None:
        """Record everything that is still out as failed, so that no request is missing."""
        now_ns = self._clock()
        for connection in list(self._connections):
            if connection.in_flight:
                connection.expire(now_ns + 1, now_ns, failure)

    def one_more(self, connection: Connection) -> None:
        """After the run: a request that belongs to it, though it is not counted."""
        self.drained.clear()
        connection.send()
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

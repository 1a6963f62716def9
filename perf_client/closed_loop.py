"""The closed loop: so many requests are kept in flight, each answer lets the next one leave."""

from perf_client.loop import RETRY_FIRST_S, Loop
from perf_client.record import NEVER, Recorder
from perf_client.transports.base import Clock, Connection, Transport

_RETRY_LAST_S = 1.0
_NEVER_NS = 1 << 62


class ClosedLoop(Loop):
    """Keeps ``in_flight`` requests out: a slot that gets its answer sends the next request at once."""

    def __init__(self, transport: Transport, recorder: Recorder, clock: Clock) -> None:
        super().__init__(transport, recorder, clock)
        self._until_ns = _NEVER_NS
        self._requests_left: int | None = None
        self._started = False
        self._lost_early: list[int] = []
        self._retry_s = RETRY_FIRST_S

    def start(self, until_ns: int | None) -> None:
        """Fill all slots and keep them full until that time, or until ``limit`` is used up."""
        self._started = True
        self._begin()
        self._until_ns = _NEVER_NS if until_ns is None else until_ns
        for connection in list(self._connections):
            self._fill(connection)
        for capacity in self._lost_early:
            self._open_more(capacity)

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
        elif not self._started:  # the server retired it while all was being prepared
            self._lost_early.append(connection.capacity)

    def _opened(self, asked: int, connection: Connection) -> None:
        self._retry_s = RETRY_FIRST_S
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

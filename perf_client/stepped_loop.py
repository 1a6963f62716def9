"""The closed loop that grows: more requests are kept in flight after each so many answers."""

from perf_client.closed_loop import ClosedLoop
from perf_client.loads import PeriodicConcurrency
from perf_client.pacer import stepped_concurrency
from perf_client.record import Recorder
from perf_client.transports.base import Clock, Connection, Transport


class SteppedLoop(ClosedLoop):
    """``in_flight`` is what is to be kept out at the moment."""

    def __init__(self, transport: Transport, recorder: Recorder, clock: Clock, load: PeriodicConcurrency) -> None:
        super().__init__(transport, recorder, clock)
        self._steps = stepped_concurrency(load.start, load.end, load.step, load.period)
        _, self.in_flight = next(self._steps)
        self._following = next(self._steps, None)
        self._answers = 0
        self._filling = False

    def _fill(self, connection: Connection) -> None:
        """The slots of a new connection are ready without an answer."""
        self._filling = True
        super()._fill(connection)
        self._filling = False

    def ready(self, connection: Connection, now_ns: int) -> None:
        if self._sending and not self._filling:
            self._answers += 1
            while self._following is not None and self._answers >= self._following[0]:
                self._grow(self._following[1])
                self._following = next(self._steps, None)
        super().ready(connection, now_ns)

    def _grow(self, in_flight: int) -> None:
        size = self._transport.slots_per_connection
        for opened in range(self.in_flight, in_flight, size):
            self._open_more(min(size, in_flight - opened))
        self.in_flight = in_flight

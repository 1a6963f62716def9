"""Connections that each send from a row of requests of their own, instead of all from one pool."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

from perf_client.record import Recorder
from perf_client.transports.base import Connection, Owner, Transport


@runtime_checkable
class RecordedLane(Protocol):
    """A row of requests that has a say in how they are recorded."""

    def __next__(self) -> Any: ...

    def recorder(self, whole: Recorder) -> Recorder: ...


class LanedTransport:
    """Gives every connection one slot and a lane of its own.

    One slot, so that what the lane remembers is about the request that is in flight.
    """

    slots_per_connection = 1

    def __init__(self, carry: Callable[[Iterator[Any]], Transport], new_lane: Callable[[], Any]) -> None:
        self._carry = carry
        self._new_lane = new_lane
        self.lanes: dict[Connection, Any] = {}

    async def connect(self, capacity: int, owner: Owner, recorder: Recorder) -> Connection:
        lane = self._new_lane()
        own = lane.recorder(recorder) if isinstance(lane, RecordedLane) else recorder
        connection = await self._carry(lane).connect(1, owner, own)
        self.lanes[connection] = lane
        return connection

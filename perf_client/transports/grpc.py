"""gRPC as our own HTTP/2 client: opens connections to one server that share one row of encoded calls."""

import asyncio
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from perf_client.record import Recorder
from perf_client.target import Target
from perf_client.transports.base import Clock, Owner
from perf_client.transports.dial import Dial
from perf_client.transports.http2_connection import Http2Connection

_CONNECT_TIMEOUT_S = 10.0

Opened = TypeVar("Opened", bound=Http2Connection)


class GrpcTransport(Generic[Opened]):
    """Opens HTTP/2 connections of one kind that share one row of requests."""

    def __init__(
        self,
        target: Target,
        requests: Iterator[Any],
        clock: Clock,
        slots_per_connection: int,
        connection: type[Opened],
    ) -> None:
        self.slots_per_connection = slots_per_connection
        self._dial = Dial(target)
        self._requests = requests
        self._connection = connection
        self._clock = clock

    async def connect(self, capacity: int, owner: Owner, recorder: Recorder) -> Opened:
        connection = await self._dial.connect(
            lambda: self._connection(capacity, self._requests, owner, recorder, self._clock)
        )
        try:
            await asyncio.wait_for(connection.settled, _CONNECT_TIMEOUT_S)
        except BaseException:
            connection.close()
            raise
        return connection

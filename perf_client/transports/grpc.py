"""gRPC as our own HTTP/2 client: opens connections to one server that share one pool of encoded calls."""

import asyncio
from collections.abc import Sequence
from itertools import cycle

from perf_client.record import Recorder
from perf_client.target import Target
from perf_client.transports.base import Clock, Owner
from perf_client.transports.dial import Dial
from perf_client.transports.grpc_connection import GrpcConnection
from perf_client.transports.http2 import GrpcRequest

_CONNECT_TIMEOUT_S = 10.0


class GrpcTransport:
    """Opens HTTP/2 connections that share one pool of requests."""

    def __init__(
        self, target: Target, requests: Sequence[GrpcRequest], clock: Clock, slots_per_connection: int
    ) -> None:
        self.slots_per_connection = slots_per_connection
        self._dial = Dial(target)
        self._requests = cycle(requests)
        self._clock = clock

    async def connect(self, capacity: int, owner: Owner, recorder: Recorder) -> GrpcConnection:
        connection = await self._dial.connect(
            lambda: GrpcConnection(capacity, self._requests, owner, recorder, self._clock)
        )
        try:
            await asyncio.wait_for(connection.settled, _CONNECT_TIMEOUT_S)
        except BaseException:
            connection.close()
            raise
        return connection

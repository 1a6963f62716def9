"""What all HTTP/1.1 connections of one port share."""

from collections.abc import Callable

from analyzer.runtime.body_memory import BodyMemory
from analyzer.runtime.http_connection import HttpConnection
from analyzer.runtime.http_exchange import Action
from analyzer.runtime.http_heads import HeadMemo

_READ_BYTES = 64 * 1024


class HttpSite:
    """``connection_limit``: clients above that many are told so and closed at once; 0 is no limit."""

    def __init__(
        self,
        resolve: Callable[[str, str], Action],
        body_limit_bytes: int,
        *,
        connection_limit: int = 0,
        bodies: BodyMemory | None = None,
    ) -> None:
        self.bodies = bodies or BodyMemory()
        self.body_limit_bytes = body_limit_bytes
        self.connection_limit = connection_limit
        self.connections: set[HttpConnection] = set()
        self.scratch = memoryview(bytearray(_READ_BYTES))
        self.heads: HeadMemo[Action] = HeadMemo(resolve, body_limit_bytes)

    def connection(self) -> HttpConnection:
        return HttpConnection(self)

    def drain(self) -> None:
        """Closes every connection as soon as its requests are answered."""
        for connection in list(self.connections):
            connection.drain()

    def abort(self) -> None:
        for connection in list(self.connections):
            connection.abort()

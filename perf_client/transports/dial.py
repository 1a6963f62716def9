"""Opening a connection to the server, in the clear or over TLS: the one place that knows which."""

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from perf_client.target import Target
from perf_client.tls import HANDSHAKE_TIMEOUT_S, ssl_context

AnyProtocol = TypeVar("AnyProtocol", bound=asyncio.BaseProtocol)


class Dial:
    """All connections to a server share one TLS context, so certificates are read once."""

    def __init__(self, target: Target) -> None:
        self._host = target.host
        self._port = target.port
        self._options: dict[str, Any] = {}
        if target.tls is not None:
            self._options = {
                "ssl": ssl_context(target.tls, target.protocol),
                "ssl_handshake_timeout": HANDSHAKE_TIMEOUT_S,
            }

    async def connect(self, protocol: Callable[[], AnyProtocol]) -> AnyProtocol:
        """Raises OSError (ssl.SSLError is one) where there is no connection."""
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(protocol, self._host, self._port, **self._options)
        return made

    async def open_streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._host, self._port, **self._options)

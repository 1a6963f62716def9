"""A KServe v2 server over HTTP whose every answer is scripted, and that keeps a log of what arrived.

It runs in the event loop of the test. A script is called for each inference with its number, from 0, and returns what
to write; it may wait before, and returning None closes the connection without an answer.
"""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Script = Callable[[int], Awaitable[bytes | None]]


def answer(body: bytes = b"{}", status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


async def answer_at_once(number: int) -> bytes:
    return answer()


@dataclass
class Exchange:
    """One inference as the server saw it, times of CLOCK_MONOTONIC."""

    arrived_ns: int
    body: bytes
    header: str


@dataclass
class ScriptedServer:
    script: Script
    model: str = "scripted"
    others: tuple[str, ...] = ()
    inputs: list[dict[str, object]] = field(
        default_factory=lambda: [{"name": "INPUT0", "datatype": "FP32", "shape": [4]}]
    )
    outputs: list[dict[str, object]] = field(default_factory=list)
    config: dict[str, object] | None = None
    statistics: Callable[[str], dict[str, object] | None] = lambda model: None
    log: list[Exchange] = field(default_factory=list)
    port: int = 0
    connections: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        header = (await reader.readuntil(b"\r\n\r\n")).decode()
        arrived_ns = time.monotonic_ns()
        method, path, _ = header.split("\r\n", 1)[0].split(" ")
        if method == "GET":
            writer.write(self._describe(path))
            return True
        length = next(
            int(line.split(":")[1]) for line in header.split("\r\n") if line.lower().startswith("content-len")
        )
        exchange = Exchange(arrived_ns, await reader.readexactly(length), header)
        self.log.append(exchange)
        reply = await self.script(len(self.log) - 1)
        if reply is None:
            return False
        writer.write(reply)
        return True

    def _describe(self, path: str) -> bytes:
        model = path.split("/")[3]
        if path.endswith("/stats"):
            found = self.statistics(model)
        elif path.endswith("/config"):
            found = self.config
        elif model in (self.model, *self.others):
            found = {"name": model, "inputs": self.inputs, "outputs": self.outputs}
        else:
            found = None
        if found is None:
            return answer(json.dumps({"error": f"unknown model or extension: {path}"}).encode(), "404 Not Found")
        return answer(json.dumps(found).encode())

    def cut_connections(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def scripted_server(
    server: ScriptedServer, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedServer]:
    listener = await asyncio.start_server(server._serve, "127.0.0.1", port, backlog=1024, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        server.cut_connections()

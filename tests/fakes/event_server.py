"""A scripted service like OpenAI's, that writes each piece of an answer when its script says and logs when it did."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Pieces = Sequence[bytes | float]
"""Bytes to write, and seconds to wait between them."""

SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def token(text: str) -> bytes:
    return event({"choices": [{"index": 0, "delta": {"content": text}}]})


@dataclass
class EventServer:
    """``script`` gives the pieces of the answer to each request, by its number."""

    script: Callable[[int], Pieces]
    requests: list[tuple[str, dict[str, object]]] = field(default_factory=list)
    wrote_ns: list[list[int]] = field(default_factory=list)
    port: int = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length:")[2].split("\r\n")[0])
                self.requests.append((head, json.loads(await reader.readexactly(length))))
                log: list[int] = []
                self.wrote_ns.append(log)
                for piece in self.script(len(self.requests) - 1):
                    if isinstance(piece, float):
                        await asyncio.sleep(piece)
                    else:
                        log.append(time.monotonic_ns())
                        writer.write(piece)
                        await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def event_server(script: Callable[[int], Pieces]) -> AsyncIterator[EventServer]:
    server = EventServer(script)
    listener = await asyncio.start_server(server._serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()

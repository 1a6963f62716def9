"""HTTP over real loopback sockets, in front of a store that echoes: a client of raw bytes and requests to send."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import numpy as np
import uvloop

from analyzer.runtime.body_memory import BodyMemory
from analyzer.runtime.http import HttpSite
from analyzer.runtime.http_routes import Routes
from analyzer.runtime.intake import Intake
from tests.fakes.echo_store import EchoStore
from tests.fakes.front import connected

LIMIT_BYTES = 1_000_000


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next one that is final."""
        head = "HTTP/1.1 100 "
        while head.startswith("HTTP/1.1 100 "):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:-2])
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(lines[0].split(" ")[1]), headers, body

    async def error(self) -> tuple[int, str]:
        status, _, body = await self.answer()
        return status, json.loads(body)["error"]

    async def ended(self) -> bool:
        return await self.reader.read(1) == b""


Scene = Callable[[Client, EchoStore, HttpSite], Awaitable[None]]


def play(
    scene: Scene,
    *,
    held: bool = False,
    control: bool = True,
    datatypes: dict[str, str] | None = None,
    in_flight: int = 0,
    connections: int = 0,
    bodies: BodyMemory | None = None,
) -> None:
    async def run() -> None:
        store = EchoStore(asyncio.get_running_loop(), held=held, datatypes=datatypes)
        routes = Routes(
            store, control=control, body_limit_bytes=LIMIT_BYTES, intake=Intake(store, in_flight), bodies=bodies
        )
        site = HttpSite(routes.resolve, LIMIT_BYTES, connection_limit=connections, bodies=bodies)
        async with connected(site) as (reader, writer):
            await scene(Client(reader, writer), store, site)

    uvloop.run(run())


def post(path: str, body: bytes, *headers: str) -> bytes:
    head = "".join(f"{header}\r\n" for header in (*headers, f"Content-Length: {len(body)}"))
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + body


def infer_json(data: object, datatype: str = "INT32", shape: tuple[int, ...] = (2,), **more: object) -> bytes:
    tensor = {"name": "INPUT0", "datatype": datatype, "shape": shape, "data": data}
    return json.dumps({"inputs": [tensor], **more}).encode()


def infer(body: bytes, *headers: str) -> bytes:
    return post("/v2/models/echo/infer", body, *headers)


def binary(array: np.ndarray, datatype: str, **more: object) -> tuple[bytes, str]:
    """The body of a binary request that wants a binary answer, and the header that tells its JSON's length."""
    raw = array.tobytes()
    tensor = {
        "name": "INPUT0",
        "datatype": datatype,
        "shape": array.shape,
        "parameters": {"binary_data_size": len(raw)},
    }
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}, **more}).encode()
    return text + raw, f"Inference-Header-Content-Length: {len(text)}"

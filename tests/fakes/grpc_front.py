"""gRPC over real loopback sockets, in front of a store that echoes: a client of frames, and calls to send."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import hpack
import numpy as np
import uvloop
from tritonclient.grpc import service_pb2

from analyzer.runtime.body_memory import BodyMemory
from analyzer.runtime.frames import PREFACE, Flag, Kind, frame_head, settings_frame
from analyzer.runtime.grpc import GrpcSite
from analyzer.runtime.intake import Intake
from tests.fakes.echo_store import EchoStore
from tests.fakes.front import connected

LIMIT_BYTES = 1_000_000
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
END = Flag.END_STREAM


@dataclass
class Answer:
    headers: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    frames: int = 0

    @property
    def status(self) -> int:
        return int(self.headers["grpc-status"])

    def message(self) -> service_pb2.ModelInferResponse:
        return service_pb2.ModelInferResponse.FromString(self.data[5:])


class Client:
    """Speaks frames. ``answers`` are those complete, ``resets`` and ``gone`` the codes told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.open: dict[int, Answer] = {}
        self.done: dict[int, Answer] = {}
        self.resets: dict[int, int] = {}
        self.gone: int | None = None
        self.pongs: list[bytes] = []

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    def hello(self, settings: dict[int, int] | None = None) -> None:
        self.send(PREFACE, settings_frame(settings or {}))

    def headers(self, stream: int, path: str = INFER, flags: int = 0, **more: str) -> bytes:
        names = {":method": "POST", ":scheme": "http", ":path": path, "content-type": "application/grpc"}
        block = self.encoder.encode(
            list((names | {key.replace("_", "-"): value for key, value in more.items()}).items())
        )
        return frame_head(len(block), Kind.HEADERS, Flag.END_HEADERS | flags, stream) + block

    async def frame(self) -> None:
        head = await self.reader.readexactly(9)
        payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        answer = self.open.setdefault(stream, Answer())
        if kind == Kind.HEADERS:
            answer.headers |= dict(self.decoder.decode(payload))
        elif kind == Kind.DATA:
            answer.data += payload
            answer.frames += 1
        elif kind == Kind.RST_STREAM:
            self.resets[stream] = int.from_bytes(payload, "big")
        elif kind == Kind.GOAWAY:
            self.gone = int.from_bytes(payload[4:8], "big")
        elif kind == Kind.PING:
            self.pongs.append(payload)
        if kind in (Kind.HEADERS, Kind.DATA) and flags & END:
            self.done[stream] = answer

    async def answer(self, stream: int) -> Answer:
        while stream not in self.done:
            await self.frame()
        return self.done[stream]

    async def end(self) -> int | None:
        """The code of GOAWAY, once the server has closed."""
        try:
            while True:
                await self.frame()
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return self.gone


Scene = Callable[[Client, EchoStore, GrpcSite], Awaitable[None]]


def play(
    scene: Scene,
    *,
    held: bool = False,
    in_flight: int = 0,
    connections: int = 0,
    bodies: BodyMemory | None = None,
) -> None:
    async def run() -> None:
        store = EchoStore(asyncio.get_running_loop(), held=held)
        intake = Intake(store, in_flight)
        limits = {"message_limit_bytes": LIMIT_BYTES, "connection_limit": connections}
        site = GrpcSite(store, control=True, intake=intake, bodies=bodies, **limits)
        async with connected(site) as (reader, writer):
            await scene(Client(reader, writer), store, site)

    uvloop.run(run())


def request(size: int = 4, request_id: str = "") -> bytes:
    message = service_pb2.ModelInferRequest(model_name="echo", id=request_id)
    message.inputs.add(name="INPUT0", datatype="INT32", shape=[1, size])
    message.raw_input_contents.append(np.arange(size, dtype=np.int32).tobytes())
    return message.SerializeToString()


def prefixed(message: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(message).to_bytes(4, "big") + message


def data(stream: int, payload: bytes, flags: int = END, size: int = 16_384) -> bytes:
    parts = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    last = len(parts) - 1
    return b"".join(
        frame_head(len(part), Kind.DATA, flags if n == last else 0, stream) + part for n, part in enumerate(parts)
    )


def call(client: Client, stream: int, message: bytes, **more: str) -> bytes:
    return client.headers(stream, **more) + data(stream, prefixed(message))

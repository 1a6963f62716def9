"""What request bodies may take of the server's memory together, over both protocols."""

import asyncio
import gc
import gzip
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.body_memory import BodyMemory, memory_bytes
from analyzer.runtime.frames import window_update_frame
from analyzer.runtime.request import ErrorKind, InferError
from tests.fakes import grpc_front, http_front
from tests.fakes.grpc_front import data, prefixed
from tests.fakes.http_front import binary, infer

LARGE = np.arange(100_000, dtype=np.int32)  # more than a read of a socket takes
LIMIT_BYTES = 1_000_000


def counting() -> tuple[BodyMemory, list[None]]:
    refusals: list[None] = []
    return BodyMemory(LIMIT_BYTES, lambda: refusals.append(None)), refusals


async def until(condition) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_room_is_aligned_where_asked_and_given_back_with_the_last_tensor_in_it():
    memory = BodyMemory(100)
    room = memory.room(60, 7)
    assert len(room) == 60
    tensor = np.ndarray((5,), np.uint8, room[7:12])
    assert tensor.ctypes.data % 64 == 0
    del room
    assert memory.held_bytes == 60
    view = tensor[2:]
    del tensor
    assert memory.held_bytes == 60
    del view
    assert memory.held_bytes == 0


def test_what_would_be_above_the_limit_is_refused_now_and_what_is_larger_for_ever():
    memory, refusals = counting()
    kept = memory.room(600_000)
    with pytest.raises(InferError, match=r"holds 600000 bytes .*; try again") as now:
        memory.room(400_001)
    with pytest.raises(InferError, match="--max-body-memory-bytes") as ever:
        memory.claim(LIMIT_BYTES + 1)
    assert (now.value.kind, ever.value.kind) == (ErrorKind.UNAVAILABLE, ErrorKind.RESOURCE_EXHAUSTED)
    assert len(refusals) == 2
    other = memory.keep(bytes(400_000))
    assert memory.held_bytes == LIMIT_BYTES
    del kept, other
    assert len(memory.room(LIMIT_BYTES)) == LIMIT_BYTES


def test_without_a_limit_everything_has_room():
    assert len(BodyMemory().room(10**7)) == 10**7


@pytest.mark.parametrize(
    ("text", "expected"), [("1048576\n", 2**20), ("max\n", None), ("9223372036854771712\n", None), (None, None)]
)
def test_memory_of_a_container_counts_where_it_is_less_than_the_machines(tmp_path: Path, text, expected):
    file = tmp_path / "memory.max"
    if text is not None:
        file.write_text(text)
    machine = memory_bytes(())
    assert machine > 2**20
    assert memory_bytes((str(file),)) == (expected or machine)


def chunked(body: bytes, header: str) -> bytes:
    head = f"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n{header}\r\n\r\n".encode()
    pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def plain(body: bytes, header: str) -> bytes:
    return infer(body, header)


def zipped(body: bytes, header: str) -> bytes:
    return infer(gzip.compress(body, 1), header, "Content-Encoding: gzip")


@pytest.mark.parametrize("send", [plain, chunked, zipped])
def test_http_bodies_above_the_limit_are_refused_until_others_are_answered(send):
    bodies, refusals = counting()

    async def scene(client, store, site):
        made = send(*binary(LARGE, "INT32"))
        client.send(made * 2)
        await until(lambda: len(store.requests) == 2)
        assert 800_000 <= bodies.held_bytes <= LIMIT_BYTES
        reader, writer = await asyncio.open_connection(*client.writer.get_extra_info("peername"))
        late = http_front.Client(reader, writer)
        late.send(made)
        status, message = await late.error()
        assert status == 503
        assert "--max-body-memory-bytes" in message
        writer.close()
        store.release()
        store.release()
        store.requests.clear()
        assert [(await client.answer())[0] for _ in range(2)] == [200, 200]
        gc.collect()
        assert bodies.held_bytes < 400_000, "what the last one left may still be in hand"
        client.send(made)
        await until(lambda: store.requests)
        store.release()
        assert (await client.answer())[0] == 200

    http_front.play(scene, held=True, bodies=bodies)
    assert len(refusals) == 1


@pytest.mark.parametrize("flag", [0, 1])
def test_grpc_messages_above_the_limit_are_refused_until_others_are_answered(flag: int):
    bodies, refusals = counting()
    message = grpc_front.request(len(LARGE))

    async def scene(client, store, site):
        client.hello({4: LIMIT_BYTES})
        client.send(window_update_frame(0, LIMIT_BYTES))
        packed = gzip.compress(message, 1) if flag else message

        def send(stream: int) -> None:
            headers = client.headers(stream, grpc_encoding="gzip")
            client.send(headers, data(stream, prefixed(packed, flag)))

        held = [bodies.claim(300_000), bodies.claim(400_000)]
        send(1)
        answer = await client.answer(1)
        assert answer.status == 14
        assert "--max-body-memory-bytes" in answer.headers["grpc-message"]
        held.pop()
        send(3)
        assert (await client.answer(3)).status == 0

    grpc_front.play(scene, bodies=bodies)
    assert len(refusals) == 1

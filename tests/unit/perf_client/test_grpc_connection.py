"""One gRPC connection fed with frames by hand: what a well-behaved server seldom sends."""

import asyncio
from collections.abc import Callable
from itertools import count, cycle

import pytest

from perf_client.record import NEVER, Recorder
from perf_client.transports import http2
from perf_client.transports.base import Connection
from perf_client.transports.call import CallFailed
from perf_client.transports.grpc_connection import GrpcConnection

HEADERS = b"\x88\x0f\x10\x10application/grpc"
TRAILERS = b"\x00\x0bgrpc-status\x010"
MESSAGE = b"\0\0\0\0\x02hi"


class Wire(asyncio.Transport):
    """Keeps what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def write(self, data) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


class Notes:
    """An owner that counts."""

    def __init__(self) -> None:
        self.freed = 0
        self.gone = 0

    def ready(self, connection: Connection, now_ns: int) -> None:
        self.freed += 1

    def lost(self, connection: Connection) -> None:
        self.gone += 1


class Rig:
    """A settled connection, its wire, its owner and its records. The clock ticks by one at each look."""

    def __init__(self, message: bytes = b"x") -> None:
        self.wire, self.owner, self.recorder = Wire(), Notes(), Recorder()
        ticks = count(1)
        requests = cycle([http2.grpc_request("h", "/p", message)])
        self.connection = GrpcConnection(4, requests, self.owner, self.recorder, lambda: next(ticks))
        self.connection.connection_made(self.wire)
        self.connection.data_received(http2.frame(http2.SETTINGS, 0, 0))
        self.wire.written = b""

    def feed(self, *frames: bytes) -> None:
        self.connection.data_received(b"".join(frames))

    def outcomes(self) -> list[str]:
        columns = self.recorder.columns(0)
        return [columns.failure_names[code] for code in columns.failure]

    def sent(self) -> list[tuple[int, int, int]]:
        """(type, flags, stream) of all frames written."""
        frames, position = [], 0
        while position < len(self.wire.written):
            high, low, kind, flags, stream = http2.FRAME_HEADER.unpack_from(self.wire.written, position)
            frames.append((kind, flags, stream))
            position += 9 + (high << 8 | low)
        return frames


def with_rig(body: Callable[[Rig], None], message: bytes = b"x") -> None:
    async def main() -> None:
        body(Rig(message))

    asyncio.run(main())


def answer(stream: int) -> bytes:
    return (
        http2.frame(http2.HEADERS, 4, stream, HEADERS)
        + http2.frame(http2.DATA, 0, stream, MESSAGE)
        + http2.frame(http2.HEADERS, 5, stream, TRAILERS)
    )


def padded(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return http2.frame(kind, flags | http2.PADDED, stream, b"\x03" + payload + b"\0\0\0")


@pytest.mark.parametrize("size", [1, 2, 8, 9, 10, 40])
def test_an_answer_is_found_however_it_is_torn(size: int):
    def body(rig: Rig) -> None:
        rig.connection.send(5)
        rig.connection.send(6)
        data = answer(3) + answer(1)
        for position in range(0, len(data), size):
            rig.connection.data_received(data[position : position + size])
        assert rig.outcomes() == ["", ""]
        assert rig.owner.freed == 2
        assert rig.connection.in_flight == 0

    with_rig(body)


def test_padding_priority_and_continuations_are_read():
    def body(rig: Rig) -> None:
        rig.connection.send()
        rig.feed(
            padded(http2.HEADERS, 4 | http2.PRIORITY, 1, bytes(5) + HEADERS),
            padded(http2.DATA, 0, 1, MESSAGE),
            http2.frame(http2.HEADERS, http2.END_STREAM, 1, TRAILERS[:4]),
            http2.frame(http2.CONTINUATION, 0, 1, TRAILERS[4:8]),
            http2.frame(http2.CONTINUATION, http2.END_HEADERS, 1, TRAILERS[8:]),
        )
        assert rig.outcomes() == [""]

    with_rig(body)


def test_a_call_that_is_read_gives_its_message():
    async def main() -> None:
        rig = Rig()
        read = rig.connection.call(http2.grpc_request("h", "/p", b""))
        failed = rig.connection.call(http2.grpc_request("h", "/p", b""))
        rig.feed(
            http2.frame(http2.HEADERS, 4, 1, HEADERS),
            padded(http2.DATA, 0, 1, MESSAGE[:6]),
            http2.frame(http2.DATA, 0, 1, MESSAGE[6:]),
            http2.frame(http2.HEADERS, 5, 1, TRAILERS),
            http2.frame(http2.HEADERS, 5, 3, b"\x00\x0bgrpc-status\x0212"),
        )
        assert await read == b"hi"
        with pytest.raises(CallFailed, match="grpc UNIMPLEMENTED"):
            await failed
        assert rig.outcomes() == []

    asyncio.run(main())


def test_pings_and_settings_are_acknowledged_unknown_frames_ignored():
    def body(rig: Rig) -> None:
        rig.feed(
            http2.frame(http2.PING, 0, 0, b"12345678"),
            http2.frame(http2.SETTINGS, 0, 0),
            http2.frame(http2.SETTINGS, http2.ACK, 0),
            http2.frame(http2.PING, http2.ACK, 0, b"12345678"),
            http2.frame(77, 0, 0, b"grease"),
        )
        assert rig.sent() == [(http2.PING, http2.ACK, 0), (http2.SETTINGS, http2.ACK, 0)]

    with_rig(body)


@pytest.mark.parametrize(
    ("frames", "outcome"),
    [
        ([http2.reset(1, 2)], "grpc INTERNAL"),
        ([http2.frame(http2.HEADERS, 4, 1, b"\x08\x03503")], "http 503"),
        ([http2.frame(http2.HEADERS, 5, 1, b"\x08\x03503")], "http 503"),
        ([http2.frame(http2.HEADERS, 4, 1, HEADERS), http2.frame(http2.DATA, 1, 1, MESSAGE)], "bad answer"),
        ([http2.frame(http2.HEADERS, 5, 1, TRAILERS)], "bad answer"),
        ([http2.frame(http2.HEADERS, 5, 1, b"\x88")], "bad answer"),
        ([http2.frame(http2.GOAWAY, 0, 0, bytes(8))], "connection closed"),
    ],
)
def test_each_wrong_end_is_a_failure_of_its_call(frames: list[bytes], outcome: str):
    def body(rig: Rig) -> None:
        rig.connection.send()
        rig.feed(*frames)
        assert rig.outcomes() == [outcome]
        assert rig.connection.in_flight == 0

    with_rig(body)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        http2.frame(http2.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"),
        http2.frame(http2.SETTINGS, 0, 0, b"torn"),
    ],
)
def test_bytes_that_are_not_http2_end_the_connection(data: bytes):
    def body(rig: Rig) -> None:
        rig.connection.send()
        rig.feed(data)
        assert rig.outcomes() == ["bad answer"]
        assert rig.wire.aborted
        assert (rig.owner.gone, rig.connection.usable) == (1, False)

    with_rig(body)


def test_a_connection_that_goes_away_finishes_what_it_took():
    def body(rig: Rig) -> None:
        rig.connection.send()
        rig.connection.send()
        rig.feed(http2.frame(http2.GOAWAY, 0, 0, b"\0\0\0\x01\0\0\0\0"))
        assert rig.outcomes() == ["connection closed"]
        assert (rig.owner.gone, rig.connection.usable) == (0, False)
        rig.feed(answer(1))
        assert sorted(rig.outcomes()) == ["", "connection closed"]
        assert (rig.owner.gone, rig.owner.freed, rig.wire.aborted) == (1, 0, True)

    with_rig(body)


@pytest.mark.parametrize(("error", "outcome"), [(None, "connection closed"), (OSError("x"), "connection reset")])
def test_a_lost_connection_fails_all_that_was_on_it(error: Exception | None, outcome: str):
    def body(rig: Rig) -> None:
        rig.connection.send()
        rig.connection.send()
        rig.connection.connection_lost(error)
        assert rig.outcomes() == [outcome] * 2
        assert rig.owner.gone == 1

    with_rig(body)


def test_late_calls_are_reset_and_late_answers_ignored():
    def body(rig: Rig) -> None:
        rig.connection.send()
        rig.connection.send()
        second_sent_ns = 5
        rig.connection.expire(second_sent_ns - 1, 100)
        rig.wire.written = b""
        rig.connection.expire(50, 100)
        assert rig.outcomes() == ["timeout", "timeout"]
        assert rig.recorder.columns(0).first_byte_ns.tolist() == [NEVER, NEVER]
        rig.feed(answer(1), answer(3))
        assert len(rig.outcomes()) == 2
        assert rig.connection.usable

    with_rig(body)


def test_a_refused_stream_is_tried_again_on_a_new_one():
    def body(rig: Rig) -> None:
        rig.connection.send()
        rig.feed(http2.reset(1, http2.REFUSED_STREAM))
        assert rig.outcomes() == []
        rig.feed(answer(3))
        assert rig.outcomes() == [""]
        assert rig.owner.freed == 1

    with_rig(body)


def test_a_server_that_refuses_for_ever_is_given_up():
    def body(rig: Rig) -> None:
        rig.connection.send()
        for stream in range(1, 1_001, 2):
            rig.feed(http2.reset(stream, http2.REFUSED_STREAM))
        assert rig.outcomes() == ["grpc UNAVAILABLE"]

    with_rig(body)


def test_a_message_waits_for_the_window_and_leaves_when_it_opens():
    def body(rig: Rig) -> None:
        rig.connection.send()
        before = len(rig.wire.written)
        assert before < 70_000
        rig.feed(http2.window_update(0, 100_000))
        assert len(rig.wire.written) == before
        rig.feed(http2.window_update(1, 100_000))
        assert rig.sent()[-1] == (http2.DATA, http2.END_STREAM, 1)
        rig.feed(answer(1))
        assert rig.outcomes() == [""]

    with_rig(body, message=bytes(100_000))

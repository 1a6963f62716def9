"""Clients that break HTTP/2's rules, or keep to them and ask for much work: told why, cut, and nothing of it stays."""

import asyncio
import logging

import hpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analyzer.runtime.frames import PREFACE, Code, Flag, Kind, frame_head, read_settings, reset_frame, settings_frame
from analyzer.runtime.frames import window_update_frame as grant
from analyzer.runtime.http2 import Http2Connection
from analyzer.runtime.http2_writer import (
    CONNECTION_WINDOW_BYTES,
    STREAM_LIMIT,
    STREAM_WINDOW_BYTES,
    Http2Writer,
)
from tests.fakes.grpc_front import STREAM, call, data, play, prefixed, request

MANY = 20_000


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return frame_head(len(payload), kind, flags, stream) + payload


def opened(client, stream: int = 1) -> bytes:
    return client.headers(stream)


FAULTS = {
    "ping on a stream": (lambda c: frame(Kind.PING, bytes(8), 0, 1), Code.PROTOCOL_ERROR),
    "long ping": (lambda c: frame(Kind.PING, bytes(9)), Code.FRAME_SIZE_ERROR),
    "settings on a stream": (lambda c: frame(Kind.SETTINGS, b"", 0, 1), Code.PROTOCOL_ERROR),
    "acknowledgement with contents": (lambda c: frame(Kind.SETTINGS, bytes(6), Flag.ACK), Code.FRAME_SIZE_ERROR),
    "push neither on nor off": (lambda c: settings_frame({2: 2}), Code.PROTOCOL_ERROR),
    "an initial window too large among others": (
        lambda c: frame(Kind.SETTINGS, b"\0\4\xff\xff\xff\xff" + b"\0\4\0\0\0\1"),
        Code.FLOW_CONTROL_ERROR,
    ),
    "farewell on a stream": (lambda c: frame(Kind.GOAWAY, bytes(8), 0, 1), Code.PROTOCOL_ERROR),
    "short priority": (lambda c: frame(Kind.PRIORITY, bytes(4), 0, 1), Code.FRAME_SIZE_ERROR),
    "priority of the connection": (lambda c: frame(Kind.PRIORITY, bytes(5)), Code.PROTOCOL_ERROR),
    "headers too short for their priority": (
        lambda c: frame(Kind.HEADERS, bytes(3), Flag.PRIORITY | Flag.END_HEADERS, 1),
        Code.FRAME_SIZE_ERROR,
    ),
    "headers of the connection": (lambda c: frame(Kind.HEADERS, b"\x82", Flag.END_HEADERS), Code.PROTOCOL_ERROR),
    "data of the connection": (lambda c: frame(Kind.DATA, b"x"), Code.PROTOCOL_ERROR),
    "short reset": (lambda c: opened(c) + frame(Kind.RST_STREAM, bytes(3), 0, 1), Code.FRAME_SIZE_ERROR),
    "reset of the connection": (lambda c: frame(Kind.RST_STREAM, bytes(4)), Code.PROTOCOL_ERROR),
    "reset of a stream of ours": (lambda c: opened(c, 5) + reset_frame(4, 8), Code.PROTOCOL_ERROR),
    "short grant": (lambda c: frame(Kind.WINDOW_UPDATE, bytes(3)), Code.FRAME_SIZE_ERROR),
    "grant to an idle stream": (lambda c: grant(7, 1), Code.PROTOCOL_ERROR),
    "grants beyond the largest window of a stream": (
        lambda c: opened(c) + grant(1, 2**31 - 1) * 2,
        Code.FLOW_CONTROL_ERROR,
    ),
    "an initial window that lets a stream's window overflow": (
        lambda c: settings_frame({4: 0}) + opened(c) + grant(1, 2**31 - 1) + settings_frame({4: 1}),
        Code.FLOW_CONTROL_ERROR,
    ),
    "a call's data after its end": (
        lambda c: opened(c) + data(1, prefixed(request())) * 2,
        Code.STREAM_CLOSED,
    ),
    "data after the end of a stream of messages": (
        lambda c: c.headers(1, path=STREAM) + data(1, prefixed(request())) * 2,
        Code.STREAM_CLOSED,
    ),
    "headers after the end": (
        lambda c: opened(c) + data(1, prefixed(request())) + c.headers(1, flags=Flag.END_STREAM),
        Code.STREAM_CLOSED,
    ),
    "trailers that end nothing": (lambda c: opened(c) * 2, Code.PROTOCOL_ERROR),
    "a stream opened again": (
        lambda c: opened(c, 3) + reset_frame(3, 8) + opened(c, 3),
        Code.PROTOCOL_ERROR,
    ),
    "a block continued on another stream": (
        lambda c: frame(Kind.HEADERS, b"", 0, 1) + frame(Kind.CONTINUATION, b"\x82", Flag.END_HEADERS, 3),
        Code.PROTOCOL_ERROR,
    ),
    "padding of all and more": (
        lambda c: opened(c) + frame(Kind.DATA, b"\x05abc", Flag.PADDED, 1),
        Code.PROTOCOL_ERROR,
    ),
    "a table larger than allowed": (
        lambda c: frame(Kind.HEADERS, b"\x3f\xe1\xff\x03", Flag.END_HEADERS, 1),
        Code.COMPRESSION_ERROR,
    ),
    "an entry that is not in the table": (
        lambda c: frame(Kind.HEADERS, b"\xfe", Flag.END_HEADERS, 1),
        Code.COMPRESSION_ERROR,
    ),
    "a number without end": (
        lambda c: frame(Kind.HEADERS, b"\xff" * 2000, Flag.END_HEADERS, 1),
        Code.COMPRESSION_ERROR,
    ),
    "a header list of a megabyte out of four kilobytes": (
        # One entry of the table, named again and again.
        lambda c: frame(Kind.HEADERS, hpack.Encoder().encode([("x", "y" * 3000)]) + b"\xbe" * 400, Flag.END_HEADERS, 1),
        Code.ENHANCE_YOUR_CALM,
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_connection_that_breaks_the_rules_is_told_which_kind_of_fault_it_is(case):
    make, code = FAULTS[case]

    async def scene(client, store, site):
        client.send(PREFACE, settings_frame({}), make(client))
        assert await client.end() == code
        while site.connections:
            await asyncio.sleep(0)
        assert all(item.is_cancelled for item in store.requests)

    play(scene, held=True)


ALLOWED = {
    "unknown frames and settings": lambda c: frame(0xAB, b"x", 0xFF, 9) + settings_frame({0x99: 1, 1: 0}),
    "priorities of idle streams": lambda c: frame(Kind.PRIORITY, bytes(5), 0, 77),
    "answers to pings": lambda c: frame(Kind.PING, bytes(8), Flag.ACK),
    "a farewell": lambda c: frame(Kind.GOAWAY, bytes(8) + b"bye"),
    "data, grants and resets of a closed stream": lambda c: (
        opened(c) + reset_frame(1, 8) + data(1, b"x") + grant(1, 9) + reset_frame(1, 8)
    ),
    "the largest window": lambda c: grant(0, 2**31 - 1 - 65_535),
    "padded data of nothing": lambda c: opened(c) + frame(Kind.DATA, b"\x03" + bytes(3), Flag.PADDED, 1),
    "a block with a priority": lambda c: frame(
        Kind.HEADERS, bytes(5) + opened(c)[9:], Flag.PRIORITY | Flag.END_HEADERS, 1
    ),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_what_the_rules_allow_leaves_the_connection_serving(case):
    async def scene(client, store, site):
        client.send(PREFACE, settings_frame({}), ALLOWED[case](client))
        client.send(call(client, 1001, request()))
        assert (await client.answer(1001)).status == 0
        assert client.gone is None

    play(scene)


FLOODS = {
    "priorities": lambda c: frame(Kind.PRIORITY, bytes(5), 0, 1),
    "farewells": lambda c: frame(Kind.GOAWAY, bytes(8)),
    "acknowledgements": lambda c: frame(Kind.SETTINGS, b"", Flag.ACK),
    "grants of a byte": lambda c: grant(0, 1),
    "padding": lambda c: frame(Kind.DATA, b"\x00", Flag.PADDED, 1),
    "resets of a closed stream": lambda c: reset_frame(1, 8),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_flood_of_frames_that_carry_nothing_ends_its_connection(kind):
    async def scene(client, store, site):
        client.send(PREFACE, settings_frame({}), client.headers(1), FLOODS[kind](client) * 5 * MANY)
        assert await client.end() == Code.ENHANCE_YOUR_CALM

    play(scene)


def test_streams_opened_above_the_limit_are_refused_and_a_flood_of_them_ends_the_connection():
    async def scene(client, store, site):
        client.hello()
        blocks = [client.headers(number) for number in range(1, 2 * STREAM_LIMIT + 3, 2)]
        client.send(*blocks)
        while not client.resets:
            await client.frame()
        assert client.resets == {2 * STREAM_LIMIT + 1: Code.REFUSED_STREAM}
        last = blocks[-1]
        client.send(
            *(last[:5] + number.to_bytes(4, "big") + last[9:] for number in range(2 * STREAM_LIMIT + 3, 90_001, 2))
        )
        assert await client.end() == Code.ENHANCE_YOUR_CALM

    play(scene, held=True)


class PutAside:
    """A call whose client takes no answers, so that its messages wait."""

    missing = None
    is_ended = False

    def __init__(self, writer: Http2Writer) -> None:
        self.unacknowledged_bytes = 0
        self.window_bytes = STREAM_WINDOW_BYTES
        self._writer = writer

    def data(self, payload: bytes, end: bool) -> None:
        self._writer.acknowledge(-len(payload))
        self.unacknowledged_bytes -= len(payload)

    def cancel(self) -> None: ...

    def resume(self) -> None: ...


class PuttingAside:
    connection_limit = 0

    def __init__(self) -> None:
        self.connections: set[Http2Connection[None]] = set()

    def read(self, headers: object) -> None:
        return None

    def begin(self, writer: Http2Writer, stream_id: int, head: None) -> PutAside:
        return PutAside(writer)


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        self.is_closed = True


def test_data_beyond_the_connections_window_is_a_fault_as_it_could_fill_our_memory():
    connection, wire = Http2Connection(PuttingAside()), Wire()
    connection.connection_made(wire)
    connection.data_received(PREFACE)
    numbers = range(1, 2 * CONNECTION_WINDOW_BYTES // STREAM_WINDOW_BYTES + 2, 2)
    connection.data_received(b"".join(frame(Kind.HEADERS, b"\x82", Flag.END_HEADERS, number) for number in numbers))
    for number in numbers[:-1]:
        for _ in range(STREAM_WINDOW_BYTES // 65_536):
            connection.data_received(frame(Kind.DATA, bytes(65_536), 0, number))
    assert not wire.is_closed
    connection.data_received(frame(Kind.DATA, bytes(1), 0, numbers[-1]))
    assert wire.is_closed
    assert wire.sent[-1][13:17] == Code.FLOW_CONTROL_ERROR.to_bytes(4, "big")


def test_data_beyond_a_streams_window_is_a_fault_though_the_connections_has_room():
    connection, wire = Http2Connection(PuttingAside()), Wire()
    connection.connection_made(wire)
    connection.data_received(PREFACE + frame(Kind.HEADERS, b"\x82", Flag.END_HEADERS, 1))
    piece = frame(Kind.DATA, bytes(65_536), 0, 1)
    for _ in range(STREAM_WINDOW_BYTES // 65_536):
        connection.data_received(piece)
    assert not wire.is_closed
    connection.data_received(piece)
    assert wire.is_closed
    assert wire.sent[-1][13:17] == Code.FLOW_CONTROL_ERROR.to_bytes(4, "big")
    assert b"stream 1" in wire.sent[-1]


def test_settings_that_come_in_thousands_are_obeyed_once():
    flood = b"\0\4\0\0\0\0" * 5_000 + b"\0\4\0\0\0\1" * 5_000 + b"\0\5\0\0\x7f\xff"
    assert read_settings(flood) == {4: 1, 5: 0x7FFF}

    async def scene(client, store, site):
        client.hello()
        client.send(*(frame(Kind.SETTINGS, flood) for _ in range(10)))
        client.send(call(client, 1, request()), grant(1, 100_000))
        assert (await client.answer(1)).status == 0

    play(scene)


kinds = st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 200])
flags = st.sampled_from([0, 1, 4, 5, 8, 32, 37, 255])
frames = st.builds(frame, kinds, st.binary(max_size=40), flags, st.sampled_from([0, 1, 3, 4, 5, 2**31 - 1]))
whole = st.sampled_from(["call", "stream", "open", "reset", "grant", "settings"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(frames, whole), max_size=12), st.integers(1, 60))
def test_any_frames_in_any_order_end_their_connection_at_worst(caplog, items, piece):
    async def scene(client, store, site):
        made, number = PREFACE + settings_frame({}), 1
        for item in items:
            match item:
                case "call":
                    made, number = made + call(client, number, request()), number + 2
                case "stream":
                    message = data(number, prefixed(request()))
                    made, number = made + client.headers(number, path=STREAM) + message, number + 2
                case "open":
                    made, number = made + client.headers(number), number + 2
                case "reset":
                    made += reset_frame(max(1, number - 2), 8)
                case "grant":
                    made += grant(0, 1000)
                case "settings":
                    made += settings_frame({4: 10, 5: 20_000})
                case _:
                    made += item
        try:
            for at in range(0, len(made), piece):
                client.writer.write(made[at : at + piece])
                await asyncio.sleep(0)
            client.writer.write_eof()
        except (ConnectionError, RuntimeError):
            pass
        assert await client.end() in (None, 0, 1, 3, 5, 6, 9, 11)
        while site.connections:
            await asyncio.sleep(0)

    caplog.set_level(logging.ERROR)
    play(scene)
    assert [record.message for record in caplog.records] == []

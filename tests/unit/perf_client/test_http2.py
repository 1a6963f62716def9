"""Header blocks remembered only while they mean the same, and messages that wait for the peer's windows."""

import pytest
from hpack import Encoder, HPACKError
from hypothesis import given
from hypothesis import strategies as st

from perf_client.transports import http2
from perf_client.transports.flow import SendWindows
from perf_client.transports.http2 import AnswerHeaders, HeaderBlocks, failure_of, grpc_request

OK_HEADERS = [(":status", "200"), ("content-type", "application/grpc")]


def test_a_block_that_changes_the_table_is_not_remembered():
    encoder, blocks = Encoder(), HeaderBlocks()
    first = encoder.encode(OK_HEADERS)
    blocks.decode(first)
    assert blocks.known == {}
    second = encoder.encode(OK_HEADERS)
    assert second != first
    assert blocks.decode(second) == AnswerHeaders(200, None)
    assert list(blocks.known) == [second]


def test_all_is_forgotten_when_the_table_moves_under_it():
    encoder, blocks = Encoder(), HeaderBlocks()
    for _ in range(2):
        indexed = encoder.encode([("grpc-status", "0")])
        blocks.decode(indexed)
    assert indexed in blocks.known
    blocks.decode(encoder.encode([("grpc-status", "5")]))
    assert blocks.known == {}
    # The same bytes now point at the newer entry.
    assert blocks.decode(indexed) == AnswerHeaders(None, 5)


@given(st.lists(st.tuples(st.sampled_from(["grpc-status", "x-a", "x-b"]), st.integers(0, 9)), max_size=200))
def test_remembering_never_changes_what_is_read(headers: list[tuple[str, int]]):
    encoder, blocks = Encoder(), HeaderBlocks()
    encoder.header_table_size = 100  # two entries or so: everything is evicted all the time
    for name, value in headers:
        block = encoder.encode([(name, str(value))])
        read = blocks.known.get(block) or blocks.decode(block)
        assert read.grpc_status == (value if name == "grpc-status" else None)


def test_the_memory_for_blocks_is_bounded():
    blocks = HeaderBlocks()
    for number in range(2_000):
        blocks.decode(b"\x00\x01x\x04%04d" % number)
    assert len(blocks.known) <= 256


@pytest.mark.parametrize("block", [b"\xff\xff\xff", b"\x00\x0bgrpc-status\x01x"])
def test_a_block_that_can_not_be_is_an_error(block: bytes):
    with pytest.raises(HPACKError):
        HeaderBlocks().decode(block)


@pytest.mark.parametrize(
    ("headers", "failure"),
    [
        (AnswerHeaders(503, None), "http 503"),
        (AnswerHeaders(200, None), "bad answer"),
        (AnswerHeaders(None, 0), "bad answer"),
        (AnswerHeaders(None, 14, "busy"), "grpc UNAVAILABLE"),
        (AnswerHeaders(None, 99), "grpc 99"),
    ],
)
def test_ends_without_success_have_their_class(headers: AnswerHeaders, failure: str):
    assert failure_of(headers)[0] == failure


@pytest.mark.parametrize(("code", "name"), [(7, "grpc UNAVAILABLE"), (8, "grpc CANCELLED"), (2, "grpc INTERNAL")])
def test_stream_resets_map_to_grpc_statuses(code: int, name: str):
    assert http2.reset_class(code) == name


def test_nothing_overtakes_a_waiting_message():
    windows = SendWindows()
    large, small = grpc_request("h", "/p", bytes(70_000)), grpc_request("h", "/p", b"")
    assert not windows.take(large)
    windows.wait(1, large)
    assert not windows.take(small)
    windows.forget(1)
    assert windows.take(small)
    assert windows.connection == http2.DEFAULT_WINDOW - 5


def test_a_new_initial_window_moves_those_that_wait():
    windows = SendWindows()
    windows.widen(0, 1_000_000)
    windows.wait(1, grpc_request("h", "/p", bytes(100_000)))
    sent = len(windows.release())
    windows.change_initial(100_005)
    sent += len(windows.release())
    frames = -(-65_535 // http2.FRAME_LIMIT) + -(-34_470 // http2.FRAME_LIMIT)
    assert sent == 100_005 + 9 * frames


@given(
    st.lists(st.integers(0, 200_000), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 4), st.integers(1, 90_000)), max_size=30),
)
def test_windows_are_never_overrun_and_every_byte_leaves_in_order(sizes: list[int], updates: list[tuple[int, int]]):
    windows = SendWindows()
    allowed = dict.fromkeys(range(len(sizes) + 1), http2.DEFAULT_WINDOW)
    sent = dict.fromkeys(range(1, len(sizes) + 1), b"")
    messages = {number: bytes([number]) * size for number, size in enumerate(sizes, 1)}
    for number, message in messages.items():
        windows.wait(number, grpc_request("h", "/p", message))
    ended: set[int] = set()

    def collect() -> None:
        data, position = windows.release(), 0
        while position < len(data):
            high, low, _, flags, stream = http2.FRAME_HEADER.unpack_from(data, position)
            size = high << 8 | low
            sent[stream] += data[position + 9 : position + 9 + size]
            position += 9 + size
            if flags & http2.END_STREAM:
                ended.add(stream)

    collect()
    for stream, increment in [*updates, (0, 1 << 20), *((number, 1 << 20) for number in messages)]:
        if stream in allowed:
            windows.widen(stream, increment)
            allowed[stream] += increment
        collect()
        assert sum(map(len, sent.values())) <= allowed[0]
        assert all(len(sent[number]) <= allowed[number] for number in sent)
    for number, message in messages.items():
        assert sent[number] == b"\0" + len(message).to_bytes(4, "big") + message
    assert ended == set(messages)

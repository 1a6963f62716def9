"""Flow control and header memory of HTTP/2, as pure values."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.runtime.body_memory import BodyMemory
from analyzer.runtime.frame_reader import FrameReader
from analyzer.runtime.frames import PREFACE, ConnectionFault, Flag, Kind, frame_head
from analyzer.runtime.grpc_messages import MessageReader
from analyzer.runtime.header_memo import HeaderBlockError, HeaderMemo
from analyzer.runtime.outbox import Outbox

END = b"trailers"


def sizes(frames: list) -> tuple[list[tuple[int, int]], bytes, bool]:
    """(stream, length) of each DATA frame, what they carry, and whether the trailers are out."""
    found, data, ended, position = [], b"", False, 0
    joined = b"".join(frames)
    while position < len(joined):
        if joined[position:] == END:
            ended = True
            break
        length = int.from_bytes(joined[position : position + 3], "big")
        assert joined[position + 3] == Kind.DATA
        found.append((int.from_bytes(joined[position + 5 : position + 9], "big"), length))
        data += joined[position + 9 : position + 9 + length]
        position += 9 + length
    return found, data, ended


def test_message_over_the_frame_size_is_split():
    outbox = Outbox()
    found, _, ended = sizes(outbox.send(1, [b"a" * 40_000], END))
    assert found == [(1, 16_384), (1, 16_384), (1, 7_232)]
    assert ended
    assert outbox.waiting_count == 0


def test_message_over_the_window_waits_for_grants_of_stream_and_connection():
    outbox = Outbox()
    assert sum(length for _, length in sizes(outbox.send(1, [b"a" * 70_000], END))[0]) == 65_535
    assert outbox.grant(1, 10_000) == []
    found, _, ended = sizes(outbox.grant(0, 10_000))
    assert (found, ended) == ([(1, 4_465)], True)


def test_smaller_initial_window_may_leave_a_stream_below_zero():
    outbox = Outbox()
    outbox.send(1, [b"a" * 100_000], END)
    outbox.grant(0, 1_000_000)
    outbox.set_initial(0)
    assert outbox.grant(1, 65_535) == []
    assert sizes(outbox.grant(1, 100))[0] == [(1, 100)]


def test_reset_stream_is_forgotten():
    outbox = Outbox()
    outbox.send(1, [b"a" * 100_000], END)
    outbox.forget(1)
    assert outbox.grant(0, 1_000_000) == []
    assert outbox.waiting_count == 0


def test_window_that_overflows_is_a_fault():
    with pytest.raises(ConnectionFault):
        Outbox().grant(0, 2**31 - 1)


@given(
    st.lists(st.integers(0, 5_000), min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from([0, 1]), st.integers(1, 3_000)), max_size=60),
    st.integers(0, 2_000),
)
def test_bytes_come_in_order_never_beyond_a_window_and_all_of_them_in_the_end(parts, grants, initial):
    outbox = Outbox()
    outbox.window_bytes = connection = 1_000
    outbox.set_initial(initial)
    stream, sent, ended = initial, b"", False
    message = [bytes([65 + n]) * size for n, size in enumerate(parts)]
    for step, (target, amount) in enumerate([(-1, 0), *grants, (1, 30_000), (0, 30_000)]):
        frames = outbox.send(1, message, END) if step == 0 else [] if ended else outbox.grant(target, amount)
        connection += amount if target == 0 else 0
        stream += amount if target == 1 else 0
        _, data, now_ended = sizes(frames)
        sent, ended = sent + data, ended or now_ended
        assert len(sent) <= stream
        assert len(sent) <= connection
    assert sent == b"".join(message)
    assert ended
    assert outbox.waiting_count == 0


HEADER = st.tuples(
    st.sampled_from([b":path", b"grpc-timeout", b"x-a", b"te"]), st.sampled_from([b"1", b"22", b"trailers", b"/p" * 40])
)


@given(st.lists(st.tuples(st.lists(HEADER, max_size=4), st.booleans(), st.sampled_from([None, 0, 64, 4096]))))
def test_remembered_blocks_mean_what_a_plain_decoder_says(blocks):
    encoder, plain = hpack.Encoder(), hpack.Decoder()
    memo = HeaderMemo(list)
    for headers, sensitive, table_size in blocks:
        if table_size is not None:
            encoder.header_table_size = table_size
        block = encoder.encode([(name, value, sensitive) for name, value in headers])
        expected = [(bytes(name), bytes(value)) for name, value in plain.decode(block, raw=True)]
        assert [(bytes(name), bytes(value)) for name, value in memo.decode(block)] == expected


def test_block_that_leaves_the_table_alone_is_decoded_once():
    calls: list[int] = []
    memo = HeaderMemo(lambda headers: calls.append(1) or headers)
    encoder = hpack.Encoder()
    block = encoder.encode([(b"a", b"b", True)])
    assert memo.decode(block) is memo.decode(block)
    memo.decode(encoder.encode([(b"c", b"d")]))  # goes into the table, so nothing known before counts
    memo.decode(block)
    assert len(calls) == 3


def test_broken_block_is_told():
    with pytest.raises(HeaderBlockError):
        HeaderMemo(lambda headers: headers).decode(b"\xff\xff\xff\xff\xff\xff\xff\xff")


@given(
    st.lists(st.tuples(st.sampled_from([Kind.DATA, Kind.HEADERS, Kind.PING]), st.binary(max_size=60)), max_size=6),
    st.lists(st.integers(1, 40), max_size=20),
)
def test_frames_are_the_same_however_the_bytes_are_cut(frames, cuts):
    stream = PREFACE + b"".join(
        frame_head(len(payload), kind, Flag.END_STREAM, 7) + payload for kind, payload in frames
    )
    reader, got, position = FrameReader(100), [], 0
    for size in [*cuts, len(stream)]:
        got += list(reader.feed(stream[position : position + size]))
        position += size
    whole: list[tuple[int, bytes]] = []
    joined = b""
    for kind, flags, stream_id, payload in got:
        assert stream_id == 7
        joined += payload
        if flags:  # else a piece of DATA that goes on
            whole.append((kind, joined))
            joined = b""
    assert whole == frames


@given(st.lists(st.binary(max_size=50), max_size=6), st.lists(st.integers(0, 30), max_size=30))
def test_messages_are_the_same_however_the_bytes_are_cut(messages, cuts):
    stream = b"".join(bytes([n % 2]) + len(body).to_bytes(4, "big") + body for n, body in enumerate(messages))
    reader, got, position = MessageReader(50, BodyMemory()), [], 0
    for size in [*cuts, len(stream)]:
        got += [(flag, bytes(body)) for flag, body in reader.feed(stream[position : position + size])]
        position += size
    assert got == [(n % 2, body) for n, body in enumerate(messages)]
    assert not reader.is_inside

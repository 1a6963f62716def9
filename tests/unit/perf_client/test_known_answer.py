"""Answers recognised as a whole are exactly those that differ in nothing but stream and message."""

from hypothesis import given
from hypothesis import strategies as st

from perf_client.transports import http2
from perf_client.transports.known_answer import learn

HEADERS, TRAILERS = b"\x88headers", b"\x00trailers"
KNOWN = {HEADERS, TRAILERS}


def answer(stream: int, message: bytes = b"\0\0\0\0\x02hi", headers: bytes = HEADERS, trailers: bytes = TRAILERS):
    return (
        http2.frame(http2.HEADERS, 4, stream, headers)
        + http2.frame(http2.DATA, 0, stream, message)
        + http2.frame(http2.HEADERS, 5, stream, trailers)
    )


@given(st.integers(1, 2**31 - 1), st.integers(1, 2**31 - 1), st.binary(min_size=5, max_size=50), st.binary(max_size=9))
def test_the_same_answer_on_another_stream_is_recognised(first: int, second: int, message: bytes, before: bytes):
    known = learn(before + answer(first, message) + b"more", len(before), KNOWN)
    assert known is not None
    data = before + answer(second, bytes(len(message)))
    assert known.size == len(data) - len(before)
    assert known.message_bytes == len(message)
    assert known.lies_at(data, len(before))
    assert not known.lies_at(data[:-1], len(before))


@given(st.integers(0, len(answer(1)) - 1), st.integers(1, 255))
def test_any_other_byte_outside_the_message_is_not(position: int, change: int):
    known = learn(answer(1), 0, KNOWN)
    assert known is not None
    data = bytearray(answer(1))
    data[position] ^= change
    message_at = 9 + len(HEADERS) + 9
    if not message_at <= position < message_at + 7:
        assert not known.lies_at(bytes(data), 0)


def test_what_is_not_whole_or_not_known_is_not_learned():
    whole = answer(1)
    assert all(learn(whole[:size], 0, KNOWN) is None for size in range(len(whole)))
    assert learn(whole, 0, {HEADERS}) is None
    assert learn(whole, 0, {TRAILERS}) is None
    assert learn(answer(1, message=b""), 0, KNOWN) is None
    assert learn(whole[:-18] + answer(3)[-18:], 0, KNOWN) is None
    assert learn(whole.replace(b"\x01\x05", b"\x01\x04"), 0, KNOWN) is None

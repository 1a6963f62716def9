"""Header blocks and chunked bodies of HTTP/1.1, however they are torn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_client.transports.base import BadAnswer
from perf_client.transports.http import ChunkedBody, Head, parse_head


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Head(200, 5, True)),
        ("HTTP/1.1 200\r\ncontent-length:0\r\n\r\n", Head(200, 0, True)),
        ("HTTP/1.1 503 Busy\r\nContent-Length: 2\r\nConnection: Close\r\n\r\n", Head(503, 2, False)),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n", Head(200, 2, False)),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n", Head(200, 2, True)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Head(200, -2, True)),
        ("HTTP/1.1 200 OK\r\n\r\n", Head(200, -1, True)),
        ("HTTP/1.1 204 None\r\n\r\n", Head(204, 0, True)),
        ("HTTP/1.1 100 Continue\r\n\r\n", Head(100, 0, True)),
    ],
)
def test_header_blocks_are_read(text: str, head: Head):
    assert parse_head(text.encode()) == head


@pytest.mark.parametrize("text", ["SSH-2.0", "HTTP/2 200", "HTTP/1.1 abc", "HTTP/1.1 20", ""])
def test_what_is_not_http_is_refused(text: str):
    with pytest.raises(BadAnswer, match=r"not an HTTP/1\.1 answer"):
        parse_head(text.encode() + b"\r\n\r\n")


def test_a_length_that_is_none_is_refused():
    with pytest.raises(BadAnswer, match="content-length '-5'"):
        parse_head(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n")


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.data())
def test_the_end_of_a_chunked_body_is_found_wherever_it_is_torn(chunks: list[bytes], data: st.DataObject):
    body = b"".join(b"%x;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\nTrailer: x\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(1, len(body) - 1), max_size=6, unique=True)))
    pieces = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    reader = ChunkedBody()
    assert [reader.feed(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]


@pytest.mark.parametrize("body", [b"xyz\r\n", b"0\r\n\r\nmore"])
def test_a_chunked_body_that_can_not_be_is_refused(body: bytes):
    with pytest.raises(BadAnswer):
        ChunkedBody().feed(body)

"""Bytes to the head of an HTTP request, chunked bodies to plain ones, and answers to bytes: no sockets here."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import httptools

from analyzer.runtime.body_memory import BodyMemory, Claim
from analyzer.runtime.request import ErrorKind, InferError
from analyzer.runtime.wire import Buffer

HEAD_LIMIT_BYTES = 32 * 1024
_CHUNK_LINE_LIMIT_BYTES = 4096
_LENGTH_DIGITS_LIMIT = 15  # of Content-Length and chunk sizes; more can't be meant
_REASONS = {
    100: "Continue",
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    499: "Client Closed Request",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_SMALL_CHUNK_BYTES = 4096
_T = TypeVar("_T")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpError(Exception):
    """A request that is answered with ``status`` and one sentence. Where framing is lost, the connection closes."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True)
class Head:
    """The head of a request. ``length`` is None for a chunked body; ``accept`` is the answer's compression or ""."""

    method: str
    path: str
    keep_alive: bool
    says_keep_alive: bool = False
    """HTTP/1.0 clients want to be told."""
    length: int | None = 0
    json_length: int | None = None
    encoding: str = ""
    accept: str = ""
    expects_continue: bool = False


class _Fields:
    """Collects what httptools calls back with."""

    def __init__(self) -> None:
        self.parser: Any = None
        self.url = b""
        self.keep_alive = False
        self.headers: list[tuple[str, str]] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_headers_complete(self) -> None:
        self.keep_alive = self.parser.should_keep_alive()  # later the parser no longer knows

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.decode("latin-1").lower(), value.decode("latin-1").strip()))


def parse_head(block: bytes) -> Head:
    """``block`` runs through the empty line. Raises HttpError."""
    fields = _Fields()
    fields.parser = parser = httptools.HttpRequestParser(fields)
    try:
        parser.feed_data(block)
    except httptools.HttpParserUpgrade:
        pass  # an offer, which we decline by answering in HTTP/1.1
    except httptools.HttpParserError as error:
        raise HttpError(400, f"malformed HTTP request: {error}") from None
    try:
        path = httptools.parse_url(fields.url).path
        target = (path or b"/").decode("ascii")
    except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
        raise HttpError(400, "malformed request target") from None
    is_old = parser.get_http_version() == "1.0"
    head = Head(parser.get_method().decode("ascii"), target, fields.keep_alive, is_old and fields.keep_alive)
    _read_headers(head, fields.headers)
    return head


def _read_headers(head: Head, headers: list[tuple[str, str]]) -> None:
    for name, value in headers:
        match name:
            case "content-length":
                head.length = _number(value, "Content-Length")
            case "transfer-encoding":
                if value.lower() != "chunked":
                    raise HttpError(501, f"transfer encoding '{value}' is not supported; send chunked or plain bodies")
                head.length = None
            case "inference-header-content-length":
                head.json_length = _number(value, "Inference-Header-Content-Length")
            case "content-encoding":
                head.encoding = _known_encoding(value.lower())
            case "accept-encoding":
                head.accept = _choose_encoding(value.lower())
            case "expect":
                head.expects_continue = value.lower() == "100-continue"


def _number(value: str, header: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > _LENGTH_DIGITS_LIMIT:
        raise HttpError(400, f"{header} must be a whole number of bytes, not '{value[:40]}'")
    return int(value)


def _known_encoding(value: str) -> str:
    if value in ("", "identity"):
        return ""
    if value in ("gzip", "deflate"):
        return value
    raise HttpError(501, f"content encoding '{value[:40]}' is not supported; use gzip, deflate or none")


def _choose_encoding(value: str) -> str:
    """Of gzip and deflate the one with the highest weight, the first of equals; none where both are refused."""
    weights = {}
    for item in value.split(","):
        name, _, weight = item.replace(" ", "").partition(";q=")
        if name in ("gzip", "deflate"):
            weights[name] = _weight(weight)
    best = max(weights, key=lambda name: weights[name], default="")
    return best if weights.get(best) else ""


def _weight(text: str) -> float:
    """What is no number counts as none given."""
    try:
        return float(text)
    except ValueError:
        return 1.0


def check_unfinished_head(data: bytes, offset: int) -> None:
    if len(data) - offset > HEAD_LIMIT_BYTES:
        raise HttpError(431, f"request head is larger than {HEAD_LIMIT_BYTES} bytes")
    if data.find(b"\n\n", offset) >= 0:
        raise HttpError(400, "malformed HTTP request: header lines must end with CR LF")


def body_room(memory: BodyMemory, length: int, json_length: int) -> memoryview:
    """Room for a body whose part behind the JSON begins at an aligned address. Raises HttpError."""
    return _or_refused(lambda: memory.room(length, json_length))


def _or_refused(take: Callable[[], _T]) -> _T:
    try:
        return take()
    except InferError as error:
        raise HttpError(error.kind.value[0], error.message) from None


class ChunkedBody:
    """A chunked body as it arrives. ``feed`` returns how much it used; ``done`` says that the last chunk was seen."""

    def __init__(self, limit_bytes: int, memory: BodyMemory) -> None:
        self.body = bytearray()
        self._memory = memory
        self._claims: list[Claim] = []
        self.done = False
        self._limit_bytes = limit_bytes
        self._missing = 0  # bytes of the current chunk, its CRLF included
        self._step: Callable[[bytes, int], int | None] = self._size_line

    def feed(self, data: bytes) -> int:
        offset = 0
        while not self.done:
            used = self._step(data, offset)
            if used is None:
                break
            offset = used
        return offset

    def taken(self) -> memoryview:
        """The body, when it is done; it keeps what was claimed for it."""
        return self._memory.keep(self.body, self._claims)

    def _line(self, data: bytes, offset: int) -> tuple[bytes, int] | None:
        end = data.find(b"\r\n", offset)
        if end < 0:
            if len(data) - offset > _CHUNK_LINE_LIMIT_BYTES:
                raise HttpError(400, "malformed chunked body: a line is too long")
            return None
        return data[offset:end], end + 2

    def _size_line(self, data: bytes, offset: int) -> int | None:
        found = self._line(data, offset)
        if found is None:
            return None
        digits = found[0].partition(b";")[0].strip()
        if not digits or len(digits) > _LENGTH_DIGITS_LIMIT or digits.strip(b"0123456789abcdefABCDEF"):
            raise HttpError(400, "malformed chunked body: a chunk size is not a hexadecimal number")
        size = int(digits, 16)
        if len(self.body) + size > self._limit_bytes:
            raise HttpError(413, f"request body is larger than the limit of {self._limit_bytes} bytes")
        if size > _SMALL_CHUNK_BYTES:
            self._claims.append(_or_refused(lambda: self._memory.claim(size)))
        self._missing = size + 2
        self._step = self._chunk if size else self._trailer
        return found[1]

    def _chunk(self, data: bytes, offset: int) -> int | None:
        available = len(data) - offset
        if self._missing > 2:
            take = min(self._missing - 2, available)
            self.body += memoryview(data)[offset : offset + take]
            self._missing -= take
            return offset + take if take else None
        if available < 2:
            return None
        if data[offset : offset + 2] != b"\r\n":
            raise HttpError(400, "malformed chunked body: a chunk does not end where its size says")
        self._step = self._size_line
        return offset + 2

    def _trailer(self, data: bytes, offset: int) -> int | None:
        found = self._line(data, offset)
        if found is None:
            return None
        self.done = not found[0]
        return found[1]


def decompressed(body: Buffer, encoding: str, limit_bytes: int) -> Buffer:
    """A gzip or zlib body, plain; never more than ``limit_bytes`` are made."""
    if not encoding:
        return body
    inflater: Any = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: tell gzip and zlib apart by their header
    try:
        plain: bytes = inflater.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise InferError(ErrorKind.INVALID_ARGUMENT, f"request body is not valid {encoding}: {error}") from None
    if len(plain) > limit_bytes:
        raise InferError(
            ErrorKind.RESOURCE_EXHAUSTED, f"request is larger than the limit of {limit_bytes} bytes when decompressed"
        )
    if not inflater.eof:
        raise InferError(ErrorKind.INVALID_ARGUMENT, f"request body is not valid {encoding}: it ends too early")
    return plain


def compressed(parts: list[Buffer], encoding: str) -> list[Buffer]:
    wbits = zlib.MAX_WBITS | 16 if encoding == "gzip" else zlib.MAX_WBITS
    deflater = zlib.compressobj(level=1, wbits=wbits)
    return [b"".join([*(deflater.compress(part) for part in parts), deflater.flush()])]


def chunk(part: Buffer) -> list[Buffer]:
    """A part of a chunked body."""
    return [b"%x\r\n" % len(part), part, b"\r\n"]


@lru_cache(maxsize=64)
def stream_head(status: int, extra: str, keep_alive: bool) -> bytes:
    """The head of an answer whose length is not known yet."""
    close = "" if keep_alive else "Connection: close\r\n"
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\n{extra}{close}Transfer-Encoding: chunked\r\n\r\n"
    return head.encode("latin-1")


@lru_cache(maxsize=1024)
def answer_head(status: int, length: int, extra: str, keep_alive: bool) -> bytes:
    close = "" if keep_alive else "Connection: close\r\n"
    return f"HTTP/1.1 {status} {_REASONS[status]}\r\n{extra}{close}Content-Length: {length}\r\n\r\n".encode("latin-1")

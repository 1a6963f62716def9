"""The parts of HTTP/2 (RFC 9113) and HPACK (RFC 7541) that a gRPC client needs, as values: no sockets here.

A request is kept as byte strings that are joined by the stream id, so that sending it is one ``bytes.join``.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from struct import Struct, pack
from typing import Final

from hpack import Decoder, HPACKError

from perf_client.compression import decompress

DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 1
ACK: Final = 1
END_HEADERS: Final = 4
PADDED: Final = 8
PRIORITY: Final = 0x20

SETTINGS_MAX_CONCURRENT_STREAMS: Final = 3
SETTINGS_INITIAL_WINDOW_SIZE: Final = 4

REFUSED_STREAM: Final = 7
CANCEL: Final = 8

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DEFAULT_WINDOW: Final = 65535
LARGEST_WINDOW: Final = 2**31 - 1
FRAME_LIMIT: Final = 16384
"""The frame size that every peer takes unless it says otherwise. We neither send nor allow larger ones."""

FRAME_HEADER: Final = Struct(">HBBBI")
"""Length (upper 16 bits, lower 8), type, flags, stream id."""

GRPC_STATUS_NAMES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip

_RESET_STATUS: Final = {3: "INTERNAL", 7: "UNAVAILABLE", 8: "CANCELLED", 11: "RESOURCE_EXHAUSTED"}
"""HTTP/2 error codes to gRPC status, as gRPC over HTTP/2 maps them; all others are INTERNAL."""


def status_class(status: int) -> str:
    """The failure class of a gRPC status that isn't 0."""
    name = GRPC_STATUS_NAMES[status] if 0 <= status < len(GRPC_STATUS_NAMES) else str(status)
    return f"grpc {name}"


def reset_class(error_code: int) -> str:
    return f"grpc {_RESET_STATUS.get(error_code, 'INTERNAL')}"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return _frame_prefix(len(payload), kind, flags) + stream.to_bytes(4, "big") + payload


def _frame_prefix(length: int, kind: int, flags: int) -> bytes:
    return pack(">HBBB", length >> 8, length & 0xFF, kind, flags)


def client_start() -> bytes:
    """Preface, settings and as much receive window as there can be: a slow reader is not what is measured here."""
    settings = pack(">HIHI", 2, 0, SETTINGS_INITIAL_WINDOW_SIZE, LARGEST_WINDOW)
    return PREFACE + frame(SETTINGS, 0, 0, settings) + window_update(0, LARGEST_WINDOW - DEFAULT_WINDOW)


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, pack(">I", increment))


def reset(stream: int, error_code: int) -> bytes:
    return frame(RST_STREAM, 0, stream, pack(">I", error_code))


@dataclass(frozen=True, slots=True)
class GrpcRequest:
    """One unary call. ``stream_id.join(parts)`` is what goes over the socket.

    ``window_bytes`` is what flow control counts: the message with its prefix.
    """

    parts: tuple[bytes, ...]
    window_bytes: int
    header_bytes: int

    def headers(self, stream: int) -> bytes:
        """The HEADERS frame alone, for when the message has to wait for the peer's window."""
        return self.parts[0] + stream.to_bytes(4, "big") + self.parts[1][: self.header_bytes]

    def message(self) -> bytes:
        """The message with its prefix, out of its frames: each part but the last ends with the next frame's start."""
        pieces = [part[:-5] for part in self.parts[2:-1]]
        return b"".join(pieces) + self.parts[-1]


def grpc_request(
    authority: str,
    path: str,
    message: bytes,
    metadata: Iterable[tuple[str, str]] = (),
    *,
    scheme: str = "http",
    compressed: bool = False,
) -> GrpcRequest:
    """Encode HEADERS and DATA frames. Nothing is added to the peer's HPACK table, so the bytes are always the same.

    ``compressed`` says that ``message`` is, by the ``grpc-encoding`` in the metadata.
    """
    block = header_block(authority, path, metadata, scheme)
    data = pack(">BI", compressed, len(message)) + message
    pieces = [data[start : start + FRAME_LIMIT] for start in range(0, len(data), FRAME_LIMIT)]
    starts = [_frame_prefix(len(piece), DATA, 0) for piece in pieces]
    starts[-1] = _frame_prefix(len(pieces[-1]), DATA, END_STREAM)
    parts = [_frame_prefix(len(block), HEADERS, END_HEADERS), block + starts[0]]
    parts += [piece + start for piece, start in zip(pieces, starts[1:])]
    parts.append(pieces[-1])
    return GrpcRequest(parts=tuple(parts), window_bytes=len(data), header_bytes=len(block))


def message_of(framed: bytes | bytearray) -> bytes:
    """A message without its prefix, decompressed where that says so: gzip or zlib, told by the data itself."""
    return decompress(bytes(framed[5:]), "gzip" if framed[0] else "identity")


def data_frame(stream: int, payload: bytes, last: bool) -> bytes:
    return frame(DATA, END_STREAM if last else 0, stream, payload)


def header_block(authority: str, path: str, metadata: Iterable[tuple[str, str]] = (), scheme: str = "http") -> bytes:
    indexed_post = b"\x83"  # :method POST of the static table; so are both schemes
    indexed_scheme = b"\x87" if scheme == "https" else b"\x86"
    return (
        indexed_post
        + indexed_scheme
        + b"\x04" + _string(path)  # :path, name from the static table
        + b"\x01" + _string(authority)  # :authority
        + b"\x0f\x10" + _string("application/grpc")  # content-type, static entry 31
        + b"\x00" + _string("te") + _string("trailers")
        + b"".join(b"\x00" + _string(name.lower()) + _string(value) for name, value in metadata)
    )  # fmt: skip


def _string(text: str) -> bytes:
    """A string literal without Huffman coding; its length has a 7-bit prefix."""
    raw = text.encode()
    length = len(raw)
    if length < 127:
        return bytes([length]) + raw
    encoded = bytearray([127])
    length -= 127
    while length > 127:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded) + raw


@dataclass(frozen=True, slots=True)
class AnswerHeaders:
    """What counts in a header block of an answer: headers and trailers look alike here. None: not in the block."""

    http_status: int | None
    grpc_status: int | None
    message: str = ""


def unpadded(payload: bytes, flags: int) -> bytes:
    if not flags & PADDED or not payload:
        return payload
    return payload[1 : len(payload) - payload[0]]


def failure_of(headers: AnswerHeaders) -> tuple[str, str]:
    """Failure class and example of an answer that ended without success."""
    match headers.grpc_status:
        case None if headers.http_status not in (None, 200):
            return f"http {headers.http_status}", headers.message
        case None:
            return "bad answer", "the answer has no grpc-status"
        case 0:
            return "bad answer", "the answer has no message"
        case status:
            return status_class(status), headers.message


class HeaderBlocks:
    """Decodes header blocks of one connection, remembering by their bytes those that are always the same.

    A block means the same only as long as the table that it may refer to; whenever a block changed the table, all
    that is remembered is forgotten.
    """

    _KEPT = 256

    def __init__(self) -> None:
        self._decoder = Decoder()
        self.known: dict[bytes, AnswerHeaders] = {}
        """Read directly on the hot path, ``decode`` is for what isn't in it."""

    def decode(self, block: bytes) -> AnswerHeaders:
        """Raises ``HPACKError`` for a block that can't be one; the connection is of no more use then."""
        table = self._decoder.header_table
        size, length = table.maxsize, len(table.dynamic_entries)
        newest = table.dynamic_entries[0] if length else None
        http_status = grpc_status = None
        message = ""
        for name, value in self._decoder.decode(block, raw=True):
            match bytes(name):
                case b":status":
                    http_status = _number(bytes(value))
                case b"grpc-status":
                    grpc_status = _number(bytes(value))
                case b"grpc-message":
                    message = bytes(value).decode(errors="replace")
        headers = AnswerHeaders(http_status, grpc_status, message)
        entries = table.dynamic_entries
        unchanged = table.maxsize == size and len(entries) == length and (not length or entries[0] is newest)
        if not unchanged or len(self.known) >= self._KEPT:
            self.known.clear()
        if unchanged:
            self.known[block] = headers
        return headers


def _number(value: bytes) -> int:
    if not value.isdigit():
        raise HPACKError(f"{value!r} is not a status")
    return int(value)


class HeaderPieces:
    """Puts together header blocks that are padded, have a priority or go on in CONTINUATION frames."""

    def __init__(self) -> None:
        self._stream = 0
        self._end_stream = 0
        self._block = b""

    def add(self, kind: int, flags: int, stream: int, payload: bytes) -> tuple[int, bytes] | None:
        """The END_STREAM flag and the block once it is whole."""
        if kind == HEADERS:
            payload = unpadded(payload, flags)
            self._stream = stream
            self._end_stream = flags & END_STREAM
            self._block = payload[5:] if flags & PRIORITY else payload
        elif stream == self._stream:
            self._block += payload
        return (self._end_stream, self._block) if flags & END_HEADERS and stream == self._stream else None

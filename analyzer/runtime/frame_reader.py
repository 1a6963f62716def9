"""Bytes of an HTTP/2 connection, in whatever pieces they come, to frames."""

import struct
from collections.abc import Iterator

from analyzer.runtime.frames import PREFACE, Code, ConnectionFault, Flag, Kind

_HEAD = struct.Struct(">IBI")  # length and type, flags, stream
_HEAD_BYTES = _HEAD.size
Frame = tuple[int, int, int, bytes]
"""Type, flags, stream and payload."""


def unary_call(data: bytes, offset: int, limit_bytes: int) -> tuple[int, bytes, bytes, int] | None:
    """A call that lies whole at ``offset``, one HEADERS frame and one DATA frame that ends it, as most unary calls do.

    Gives its stream, header block, data and end; None for anything else.
    """
    start = offset + _HEAD_BYTES
    if start + _HEAD_BYTES > len(data):
        return None
    length_and_kind, flags, stream_id = _HEAD.unpack_from(data, offset)
    data_at = start + (length_and_kind >> 8)
    if length_and_kind & 0xFF != Kind.HEADERS or flags != Flag.END_HEADERS or data_at + _HEAD_BYTES > len(data):
        return None
    data_length_and_kind, data_flags, data_stream_id = _HEAD.unpack_from(data, data_at)
    data_start = data_at + _HEAD_BYTES
    end = data_start + (data_length_and_kind >> 8)
    is_whole = end <= len(data) and end - data_start <= limit_bytes and data_at - start <= limit_bytes
    if data_length_and_kind & 0xFF != Kind.DATA or data_flags != Flag.END_STREAM or not is_whole:
        return None
    if data_stream_id != stream_id or stream_id >> 31:
        return None
    return stream_id, data[start:data_at], data[data_start:end], end


class FrameReader:
    """Whole frames only, but for DATA without padding: it is passed on as it comes, so that a large message need not
    be gathered twice. END_STREAM stands on the last piece.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._greeted = False
        self._rest = b""
        self._torn: tuple[int, int, int] | None = None  # flags, stream and missing bytes of an unfinished DATA frame

    @property
    def is_between_frames(self) -> bool:
        return self._greeted and not self._rest and self._torn is None

    @property
    def missing_bytes(self) -> int:
        """Of a DATA frame that is passed on in pieces."""
        return self._torn[2] if self._torn is not None else 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Raises ConnectionFault where the bytes can't be frames."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        offset, end = 0, len(data)
        if not self._greeted:
            offset = self._greet(data)
        if self._torn is not None:
            flags, stream_id, missing = self._torn
            offset = min(missing, end)
            yield self._piece(flags, stream_id, missing, data[:missing])
        while end - offset >= _HEAD_BYTES and self._greeted:
            length = int.from_bytes(data[offset : offset + 3], "big")
            start = offset + _HEAD_BYTES
            kind, flags = data[offset + 3], data[offset + 4]
            stream_id = int.from_bytes(data[offset + 5 : start], "big") & 0x7FFFFFFF
            if length > self._limit_bytes:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, f"frame of {length} bytes is larger than announced")
            if start + length <= end:
                offset = start + length
                yield kind, flags, stream_id, data[start:offset]
            elif kind == Kind.DATA and not flags & Flag.PADDED:
                offset = end
                yield self._piece(flags, stream_id, length, data[start:])
            else:
                break
        self._rest = data[offset:]

    def _greet(self, data: bytes) -> int:
        if data[: len(PREFACE)] != PREFACE[: len(data)]:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "not HTTP/2: this port speaks gRPC only")
        self._greeted = len(data) >= len(PREFACE)
        return len(PREFACE) if self._greeted else 0

    def _piece(self, flags: int, stream_id: int, missing: int, payload: bytes) -> Frame:
        missing -= len(payload)
        self._torn = (flags, stream_id, missing) if missing else None
        return Kind.DATA, 0 if missing else flags, stream_id, payload

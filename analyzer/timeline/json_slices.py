"""A stream of trace JSON, cut into slices of whole events, so that a file of any size is never in memory as a whole.

Only a decoder knows for sure where an event ends. A slice is guessed to end before the last object that begins like its
first one; if it does not decode, brackets are counted.
"""

import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from analyzer.errors import InputError

T = TypeVar("T")

MALFORMED = (msgspec.DecodeError, UnicodeDecodeError)
"""What msgspec raises for bytes that are no JSON."""
GZIP_MAGIC = b"\x1f\x8b"
CHUNK_BYTES = 1 << 20
_ZIPPED_BYTES = 1 << 12
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["{}\[\]]', re.DOTALL)
"""A whole string, a bracket, or the quote of a string that does not end."""
_EVENTS_KEY = re.compile(rb'"traceEvents"\s*:\s*\[')
_FIRST_KEY = re.compile(rb'\s*\{\s*("[^"\\]*")')
_CLOSING = ord("]")
_BETWEEN = b", \t\r\n"
_WINDOW_BYTES = 1 << 14


def chunks(path: Path, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The content, unzipped if need be. Of a damaged gzip file what stands before the damage, and then b""."""
    try:
        with path.open("rb") as file:
            first = file.read(size)
            raw = iter(lambda: file.read(size), b"")
            yield from _unzipped(first, raw, path, size) if first.startswith(GZIP_MAGIC) else _plain(first, raw)
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}") from None


def _plain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _unzipped(first: bytes, rest: Iterator[bytes], path: Path, size: int) -> Iterator[bytes]:
    """A little at a time, since all that a call makes is lost with it when it meets damage."""
    stream = zlib.decompressobj(wbits=31)
    made = b""
    is_begun = False
    for block in _plain(first, rest):
        for place in range(0, len(block), _ZIPPED_BYTES):
            left = block[place : place + _ZIPPED_BYTES]
            while left:
                try:
                    made += stream.decompress(left, size)
                except zlib.error:
                    if not (made or is_begun):
                        raise InputError(f"{path} is a damaged gzip file; capture again") from None
                    yield from (made, b"") if made else (b"",)
                    return
                left = stream.unconsumed_tail
                if len(made) >= size:
                    yield made
                    made, is_begun = b"", True
    if made:
        yield made
    if not stream.eof:
        yield b""


class EventSlices(Generic[T]):
    """Iterates over what ``decode`` makes of each slice, a JSON array of whole events.

    Afterwards ``head`` and ``rest`` have the JSON around the events, and ``is_cut`` says whether something is missing.
    """

    def __init__(self, content: Iterator[bytes], decode: Callable[[bytes], T]) -> None:
        self._content = content
        self._decode = decode
        self._buffer = b""
        self._is_ended = False
        self._stuck_bytes = 0
        self.is_cut = False
        self.is_list = False
        self.head = b""
        self.rest = b""
        self.trouble = ""
        """Why the decoder could not go on, in its words."""

    def __iter__(self) -> Iterator[T]:
        if not self._find_array():
            return
        while True:
            self._fill()
            made, is_last = self._take()
            if made is not None:
                yield made
            if is_last:
                return

    def _more(self) -> bool:
        block = next(self._content, None)
        self.is_cut |= block == b""
        self._is_ended = not block
        self._buffer += block or b""
        return not self._is_ended

    def _fill(self) -> None:
        """A chunk beyond what is left of the last; where nothing could be taken, as much again, for one huge event."""
        wanted = max(len(self._buffer) + 1, 2 * self._stuck_bytes)
        while len(self._buffer) < wanted and not self._is_ended:
            self._more()
        self._buffer = self._buffer.lstrip(_BETWEEN)

    def _find_array(self) -> bool:
        """Read up to the begin of the events; False where the file has none, with all that it has in ``head``."""
        while self._more() and len(self._buffer.lstrip()) < 2:
            pass
        self._buffer = self._buffer.lstrip()
        self.is_list = self._buffer.startswith(b"[")
        begin = 1 if self.is_list else _events_begin(self._buffer)
        wanted = 2 * len(self._buffer)
        while not begin and self._more():
            if len(self._buffer) >= wanted:
                begin, wanted = _events_begin(self._buffer), 2 * len(self._buffer)
        begin = begin or _events_begin(self._buffer)
        self.head = self._buffer[:begin] if begin else self._buffer
        self._buffer = self._buffer[begin:] if begin else b""
        return bool(begin)

    def _take(self) -> tuple[T | None, bool]:
        """One slice off the buffer, and whether it was the last."""
        cut = 0 if self._is_ended else _likely_cut(self._buffer)
        if cut:
            try:
                made = self._decode(b"[" + self._buffer[:cut] + b"]")
            except MALFORMED:
                pass
            else:
                self._drop(cut)
                return made, False
        return self._take_counted()

    def _take_counted(self) -> tuple[T | None, bool]:
        ends, closed = _object_ends(self._buffer)
        cut = ends[-1] if ends else 0
        try:
            made = self._decode(b"[" + self._buffer[:cut] + b"]") if cut else None
        except MALFORMED as error:
            self.is_cut, self.trouble = True, str(error)
            self.rest = b"]}"
            return self._undamaged(ends), True
        if closed is None and not self._is_ended:
            self._drop(cut)
            return made, False
        if closed is not None and self._buffer[closed] == _CLOSING:
            rest = list(self._content)
            self.is_cut |= b"" in rest
            self.rest = self._buffer[closed:] + b"".join(rest)
        else:
            self.is_cut, self.rest = True, b"]}"
            self.trouble = "" if closed is None else "its brackets do not match"
        self._buffer = b""
        return made, True

    def _undamaged(self, ends: list[int]) -> T | None:
        """The longest run of whole events before the damage: if a run decodes, so does a shorter one."""
        good, bad = 0, len(ends)
        while bad - good > 1:
            middle = (good + bad) // 2
            try:
                self._decode(b"[" + self._buffer[: ends[middle - 1]] + b"]")
                good = middle
            except MALFORMED:
                bad = middle
        return self._decode(b"[" + self._buffer[: ends[good - 1]] + b"]") if good else None

    def _drop(self, cut: int) -> None:
        self._stuck_bytes = 0 if cut else len(self._buffer)
        self._buffer = self._buffer[cut:]


def _likely_cut(buffer: bytes) -> int:
    """The end of the object before the last one that begins with the key that the first begins with; 0 if unknown."""
    first = _FIRST_KEY.match(buffer)
    if first is None:
        return 0
    between = re.compile(rb"\}\s*,\s*\{\s*" + re.escape(first[1]))
    reach = _WINDOW_BYTES
    while True:
        begin = max(0, len(buffer) - reach)
        last = max((match.start() for match in between.finditer(buffer, begin)), default=-1)
        if last >= 0:
            return last + 1
        if not begin:
            return 0
        reach *= 8


def _object_ends(buffer: bytes) -> tuple[list[int], int | None]:
    """Where each whole item of an array ends, and the bracket that closes it; the buffer begins within the array."""
    ends: list[int] = []
    depth = 0
    for token in _TOKEN.finditer(buffer):
        match token[0]:
            case b"{" | b"[":
                depth += 1
            case b"}" | b"]":
                depth -= 1
                if depth < 0:
                    return ends, token.start()
                if depth == 0:
                    ends.append(token.end())
            case b'"':
                break
    return ends, None


def _events_begin(buffer: bytes) -> int:
    """The place behind the bracket that opens the events of an object; 0 if it is not there."""
    depth = 0
    for token in _TOKEN.finditer(buffer):
        match token[0]:
            case b"{" | b"[":
                depth += 1
            case b"}" | b"]":
                depth -= 1
            case b'"':
                return 0
            case b'"traceEvents"' if depth == 1 and (found := _EVENTS_KEY.match(buffer, token.start())):
                return found.end()
    return 0

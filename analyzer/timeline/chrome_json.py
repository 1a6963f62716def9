"""Trace event JSON as PyTorch, ONNX Runtime and Chrome write it, plain or gzipped: a file to a list of events.

A file that was cut off gives the events before the cut.
"""

import re
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec

from analyzer.errors import InputError
from analyzer.timeline.table import ABSENT

GZIP_MAGIC = b"\x1f\x8b"
_MAX_CUTS = 40
_BETWEEN_OBJECTS = re.compile(rb"\}\s*,\s*\{")


class TraceEvent(msgspec.Struct, gc=False):
    """One event. ``ts`` and ``dur`` are decimal µs: as floats, µs since 1970 would lose 256 ns."""

    ph: str = ""
    cat: str | None = None
    name: str | None = None
    pid: int | float | str | None = None
    tid: int | float | str | None = None
    ts: Decimal | None = None
    dur: Decimal | None = None
    id: int | float | str | None = None
    args: msgspec.Raw = msgspec.Raw(b"null")


class TraceDevice(msgspec.Struct):
    """A member of ``deviceProperties``."""

    id: int = 0
    name: str = "GPU"
    totalGlobalMem: int | None = None
    numSms: int | None = None
    computeMajor: int | None = None
    computeMinor: int | None = None


class TraceFile(msgspec.Struct):
    """What a file holds of interest. Host names, paths and other facts of the machine are not read."""

    traceEvents: list[TraceEvent]
    baseTimeNanoseconds: int = 0
    schemaVersion: int | None = None
    deviceProperties: list[TraceDevice] = []
    is_list: bool = False
    is_cut: bool = False


_MAX_US = 9 * 10**15
"""As nanoseconds it just fits 64 bits; it is in the year 2255."""


def time_ns(us: Decimal | None) -> int:
    """Nanoseconds; what no clock shows becomes a time that ``in_range`` refuses."""
    if us is None:
        return 0
    return round(us * 1000) if -_MAX_US <= us <= _MAX_US else 10 * _MAX_US * 1000


def in_range(at_ns: int) -> bool:
    return abs(at_ns) <= _MAX_US * 1000


def small_id(value: object) -> int:
    """A process, thread or device as a number; -1 for a name."""
    if isinstance(value, int) and 0 <= value < 1 << 31:
        return value
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else ABSENT


_OBJECT = msgspec.json.Decoder(TraceFile, strict=False)
_LIST = msgspec.json.Decoder(list[TraceEvent], strict=False)


def read_trace(path: Path) -> TraceFile:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}") from None
    raw, is_torn = (_unzip(raw, path)) if raw.startswith(GZIP_MAGIC) else (raw, False)
    raw = raw.strip()
    if not raw:
        raise InputError(f"{path} is empty; capture again")
    if raw[:1] not in (b"{", b"["):
        raise InputError(f"{path} is not JSON of trace events; give what a profiler wrote, unchanged")
    try:
        found = _decode(raw)
    except msgspec.ValidationError as error:
        raise InputError(f"{path} is JSON, but not of trace events ({error}); give a profiler's trace") from None
    except msgspec.DecodeError as error:
        found = _decode_cut(raw, path, str(error))
    found.is_cut = found.is_cut or is_torn
    return found


def _unzip(raw: bytes, path: Path) -> tuple[bytes, bool]:
    """The content, or what there is of it, and whether its end is missing."""
    stream = zlib.decompressobj(wbits=31)
    try:
        return stream.decompress(raw), not stream.eof
    except zlib.error:
        raise InputError(f"{path} is a damaged gzip file; capture again") from None


def _decode(raw: bytes) -> TraceFile:
    if raw[:1] == b"{":
        return _OBJECT.decode(raw)
    return TraceFile(traceEvents=_LIST.decode(raw), is_list=True)


def _decode_cut(raw: bytes, path: Path, reason: str) -> TraceFile:
    """Close the file behind the last whole event; a few tries, since objects within an event look alike."""
    for cut in _cuts(raw):
        try:
            found = _decode(raw[:cut] + (b"]}" if raw[:1] == b"{" else b"]"))
        except msgspec.DecodeError:
            continue
        found.is_cut = True
        return found
    raise InputError(f"{path} can't be read as JSON ({reason}); capture again")


def _cuts(raw: bytes) -> Iterator[int]:
    """Places behind a closing brace, from the end of the file, at most a few."""
    reach = len(raw)
    last = raw.rfind(b"}")
    if last > 0:
        yield last + 1
    window = 1 << 16
    tried = 0
    while reach > 0 and tried < _MAX_CUTS:
        begin = max(0, reach - window)
        for match in reversed(list(_BETWEEN_OBJECTS.finditer(raw, begin, reach))):
            yield match.start() + 1
            tried += 1
            if tried == _MAX_CUTS:
                return
        reach = begin

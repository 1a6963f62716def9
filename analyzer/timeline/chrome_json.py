"""Trace event JSON as PyTorch, ONNX Runtime and Chrome write it, plain or gzipped: a file to slices of its events.

A file that was cut off or damaged gives the events before the cut.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from analyzer.errors import InputError
from analyzer.timeline.json_slices import CHUNK_BYTES, MALFORMED, EventSlices, chunks
from analyzer.timeline.table import ABSENT, Column, Ns

Number = Annotated[int, msgspec.Meta(ge=ABSENT, le=2**62)]
SmallNumber = Annotated[int, msgspec.Meta(ge=ABSENT, le=2**31 - 1)]
"""What a column of 32 bits can hold."""


class EventArgs(msgspec.Struct, gc=False):
    """Arguments that the table has columns for. Kineto says ``device`` and ``stream`` here, not by pid and tid.

    ``process`` of device work is of our own traces, ``output_size`` of ONNX Runtime's.
    """

    correlation: Number = ABSENT
    process: SmallNumber = ABSENT
    device: SmallNumber = ABSENT
    stream: SmallNumber = ABSENT
    bytes: Number = ABSENT
    output_size: Number = ABSENT
    grid: tuple[int, ...] = ()
    block: tuple[int, ...] = ()
    model: str = ""
    instance: SmallNumber = ABSENT
    request: Number = ABSENT
    batch: Number = ABSENT
    step: Number = ABSENT
    size: SmallNumber = ABSENT


class TraceEvent(msgspec.Struct, gc=False):
    ph: str = ""
    cat: str | None = None
    name: str | None = None
    pid: int | float | str | None = None
    tid: int | float | str | None = None
    ts: float | None = None
    dur: float | None = None
    id: int | float | str | None = None
    args: EventArgs | None = None


class _ExactEvent(TraceEvent, gc=False):
    ts: Decimal | None = None  # type: ignore[assignment]  # the same value, from its text


class _LooseEvent(TraceEvent, gc=False):
    ts: Decimal | None = None  # type: ignore[assignment]
    args: msgspec.Raw = msgspec.Raw(b"null")  # type: ignore[assignment]  # arguments of any type


class _ArgsOnly(msgspec.Struct, gc=False):
    ph: str = ""
    args: msgspec.Raw = msgspec.Raw(b"null")


class TraceDevice(msgspec.Struct):
    """A member of ``deviceProperties``."""

    id: int = 0
    name: str = "GPU"
    totalGlobalMem: int | None = None
    numSms: int | None = None
    computeMajor: int | None = None
    computeMinor: int | None = None


class TraceFacts(msgspec.Struct):
    """What stands around the events. Host names, paths and other facts of the machine are not read."""

    traceEvents: list[Any]
    baseTimeNanoseconds: int = 0
    schemaVersion: int | None = None
    deviceProperties: list[TraceDevice] = []


MAX_US = 9 * 10**15
"""As nanoseconds it just fits 64 bits; it is in the year 2255."""
_FLOAT_US = 1 << 43
"""Below it a float of µs tells one ns from the next; µs since 1970 are above."""
_EVENTS = msgspec.json.Decoder(list[TraceEvent], strict=False)
_EXACT = msgspec.json.Decoder(list[_ExactEvent], strict=False)
_RAW_EVENTS = msgspec.json.Decoder(list[msgspec.Raw], strict=False)
_LOOSE = msgspec.json.Decoder(_LooseEvent, strict=False)
_ARGS = msgspec.json.Decoder(EventArgs, strict=False)
_FREE_ARGS = msgspec.json.Decoder(list[_ArgsOnly], strict=False)
_FACTS = msgspec.json.Decoder(TraceFacts, strict=False)


class Slice:
    """Some events of a file, with their times in ns.

    ``has_time`` is False where an event has none, ``is_timed`` where it has none that a clock shows.
    """

    def __init__(
        self, events: Sequence[TraceEvent], start_ns: Ns, is_timed: Column, has_time: Column, raw: bytes
    ) -> None:
        self.events = events
        self.start_ns = start_ns
        self.is_timed = is_timed
        self.has_time = has_time
        self._raw = raw
        self._free: list[_ArgsOnly] | None = None

    def free_args(self, place: int) -> dict[str, Any]:
        """All arguments of an event, whatever their names. Few events need that: the slice is read again for it."""
        if self._free is None:
            try:
                self._free = _FREE_ARGS.decode(self._raw)
            except MALFORMED:
                self._free = []
        if len(self._free) != len(self.events):
            return {}
        try:
            found = msgspec.json.decode(self._free[place].args)
        except MALFORMED:
            return {}
        return found if isinstance(found, dict) else {}


class TraceReader:
    """Iterates over a file's events, slice by slice; then the facts around them are known."""

    def __init__(self, path: Path, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.path = path
        self.event_count = 0
        self.odd_count = 0
        """Entries that are no events."""
        self._is_exact = False
        self._why_odd = ""
        self._slices = EventSlices(chunks(path, chunk_bytes), self._decode)

    def __iter__(self) -> Iterator[Slice]:
        for part in self._slices:
            self.event_count += len(part.events)
            yield part
        if not self.event_count and self.odd_count:
            raise self._no_trace(self._why_odd)
        if not self.event_count and self.is_cut:
            reason = self._slices.trouble or "it ends before its first event does"
            raise InputError(f"{self.path} can't be read as JSON ({reason}); capture again")

    @property
    def is_list(self) -> bool:
        return self._slices.is_list

    @property
    def is_cut(self) -> bool:
        return self._slices.is_cut

    def facts(self) -> TraceFacts:
        """To be asked after the last slice."""
        if self.is_list:
            return TraceFacts([])
        head, rest = self._slices.head, self._slices.rest
        try:
            return _FACTS.decode(head + rest)
        except msgspec.ValidationError as error:
            raise self._no_trace(str(error)) from None
        except MALFORMED as error:
            if not rest:
                raise InputError(f"{self.path} can't be read as JSON ({error}); capture again") from None
        self._slices.is_cut = True
        try:
            return _FACTS.decode(head + b"]}")
        except MALFORMED:
            return TraceFacts([])

    def _no_trace(self, reason: str) -> InputError:
        return InputError(f"{self.path} is JSON, but not of trace events ({reason}); give a profiler's trace")

    def _decode(self, raw: bytes) -> Slice:
        try:
            if not self._is_exact:
                events = _EVENTS.decode(raw)
                us = np.array([event.ts for event in events], np.float64)
                if not (np.abs(us) >= _FLOAT_US).any():
                    return Slice(events, *_from_floats(us), ~np.isnan(us), raw)
                self._is_exact = True
            exact = _EXACT.decode(raw)
        except msgspec.ValidationError as error:
            exact = self._one_by_one(raw, error)
        times = [event.ts for event in exact]
        has_time = np.array([each is not None for each in times], np.bool_)
        return Slice(exact, *_from_decimals(times), has_time, raw)

    def _one_by_one(self, raw: bytes, reason: msgspec.ValidationError) -> list[Any]:
        """Arguments of another producer may have our names and other types: then none of an event's is taken."""
        found = []
        for each in _RAW_EVENTS.decode(raw):
            try:
                event = _LOOSE.decode(each)
            except MALFORMED:
                self._why_odd = str(reason)
                self.odd_count += 1
                found.append(_ExactEvent())
                continue
            try:
                args = _ARGS.decode(event.args) if event.args != b"null" else None
            except MALFORMED:
                args = None
            columns = (event.ph, event.cat, event.name, event.pid, event.tid, event.ts, event.dur, event.id)
            found.append(_ExactEvent(*columns, args))
        return found


def _from_floats(us: Column) -> tuple[Ns, Column]:
    is_timed = np.abs(us) <= MAX_US
    known = np.where(is_timed, us, 0.0)
    whole = np.floor(known)
    return whole.astype(np.int64) * 1000 + np.rint((known - whole) * 1000).astype(np.int64), is_timed


def _from_decimals(us: list[Decimal | None]) -> tuple[Ns, Column]:
    is_timed = np.array([each is not None and -MAX_US <= each <= MAX_US for each in us], np.bool_)
    known = (round(each * 1000) if timed and each is not None else 0 for each, timed in zip(us, is_timed.tolist()))
    return np.fromiter(known, np.int64, len(us)), is_timed


def lengths_ns(events: Sequence[TraceEvent]) -> Ns:
    """Durations; -1 for one that no clock shows."""
    found, is_timed = _from_floats(np.array([event.dur or 0.0 for event in events], np.float64))
    return np.where(is_timed, found, ABSENT)


def small_id(value: object) -> int:
    """A process, thread or device as a number; -1 for a name."""
    if isinstance(value, int) and 0 <= value < 1 << 31:
        return value
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else ABSENT


def peeked(slices: Iterator[Slice]) -> tuple[Slice | None, Iterator[Slice]]:
    """The first slice, and all of them."""
    first = next(slices, None)
    return first, chain(() if first is None else (first,), slices)

"""A Chrome trace, as torch.profiler (Kineto) writes it, to a Timeline. Times are those of the file.

Other Chrome traces are read too: complete and begin/end events become ranges, asynchronous pairs spans, instants marks.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from analyzer.errors import InputError
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.chrome_json import Slice, TraceEvent, TraceFacts, TraceReader, lengths_ns, small_id
from analyzer.timeline.kinds import GPU_KINDS, Kind
from analyzer.timeline.kineto_names import DEVICE_KINDS, KINDS, SKIPPED, event_name
from analyzer.timeline.table import ABSENT, DTYPES, Anchor, Column, Device, Meta, Series, Timeline, Track
from analyzer.timeline.trace_columns import FIRST_NAMED_THREAD, NumberedName, TraceColumns

_OTHER_KINDS = {"X": Kind.RANGE, "B": Kind.RANGE, "b": Kind.SPAN, "i": Kind.MARK, "I": Kind.MARK, "R": Kind.MARK}
"""What an event of each phase is where its category does not say."""
_WHOLE = ord("X")
_PARTS, _ARROW_ENDS = list(b"BEbeiIRCM"), list(b"sft")
_ARROW = "ac2g"
"""Arrows from call to device work bear the correlation id, which older files lack in the events themselves."""


def read(path: Path) -> Timeline:
    reader = TraceReader(path)
    return from_slices(reader, iter(reader))


def from_slices(reader: TraceReader, slices: Iterator[Slice]) -> Timeline:
    found = _KinetoImport()
    for part in slices:
        found.take(part)
    facts = reader.facts()
    if not reader.event_count:
        raise InputError(f"{reader.path} has no trace events; capture again")
    return found.timeline(reader, facts)


class _KinetoImport:
    def __init__(self) -> None:
        self.build = TimelineBuilder()
        self.columns = TraceColumns(self._told, self.build.name_id)
        self.open_ranges: dict[tuple[object, object], list[_Begun]] = defaultdict(list)
        self.open_spans: dict[tuple[object, ...], list[_Begun]] = defaultdict(list)
        self.tracks: dict[Track, None] = {}
        self.has_arrows = False
        self.unread_count = 0

    def _told(self, phase: str, category: str | None, name: str | None) -> NumberedName | None:
        """What an event is; None for those that are not rows, or become rows with another."""
        other = _OTHER_KINDS.get(phase)
        if other is None or (phase == "X" and category in SKIPPED):
            return None
        kind = KINDS.get(category or "", other)
        told, copies = event_name(name or "(no name)", kind)
        return kind, self.build.name_id(told), copies

    def take(self, part: Slice) -> None:
        codes, phases, kinds = self.columns.codes(part.events)
        length = lengths_ns(part.events)
        whole = (phases == _WHOLE) & (kinds >= 0) & part.has_time
        rows = np.flatnonzero(whole & part.is_timed & (length >= 0))
        self.unread_count += int(whole.sum()) - len(rows)
        start = part.start_ns[rows]
        events = part.events if len(rows) == len(part.events) else [part.events[row] for row in rows.tolist()]
        self.columns.add(events, codes[rows], start, start + length[rows])
        self._take_others(part, np.flatnonzero(np.isin(phases, _PARTS)).tolist(), codes)
        self.has_arrows = self.has_arrows or bool(np.isin(phases, _ARROW_ENDS).any())

    def _take_others(self, part: Slice, places: list[int], codes: Column) -> None:
        rows: list[_Ended] = []
        for place in places:
            event, at_ns, is_timed = part.events[place], int(part.start_ns[place]), bool(part.is_timed[place])
            match event.ph:
                case "B":
                    self.open_ranges[(event.pid, event.tid)].append((event, int(codes[place]), at_ns, is_timed))
                case "E":
                    rows += self._closed(self.open_ranges[(event.pid, event.tid)], at_ns, is_timed)
                case "b":
                    begun = (event, int(codes[place]), at_ns, is_timed)
                    self.open_spans[(event.cat, event.id, event.name)].append(begun)
                case "e":
                    rows += self._closed(self.open_spans[(event.cat, event.id, event.name)], at_ns, is_timed)
                case "i" | "I" | "R" if is_timed or event.ts is None:
                    rows.append((event, int(codes[place]), at_ns, at_ns))
                case "C" if is_timed or event.ts is None:
                    self._counter(event, at_ns, part.free_args(place))
                case "M":
                    self._name(event, str(part.free_args(place).get("name", "")))
        if rows:
            events, row_codes, start, end = zip(*rows, strict=True)
            self.columns.add(events, np.array(row_codes), np.array(start, np.int64), np.array(end, np.int64))

    def _closed(self, opened: "list[_Begun]", end_ns: int, is_timed: bool) -> "list[_Ended]":
        if not opened:
            self.unread_count += 1
            return []
        event, code, start_ns, was_timed = opened.pop()
        if not (is_timed and was_timed):
            self.unread_count += 1
            return []
        return [(event, code, start_ns, end_ns)]

    def _counter(self, event: TraceEvent, at_ns: int, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, int | float):
                self.build.sample(Series(name=f"{event.name} {key}", process=small_id(event.pid)), at_ns, value)

    def _name(self, event: TraceEvent, name: str) -> None:
        process = small_id(event.pid)
        if name.strip() and event.name == "process_name" and process >= 0:
            self.tracks[Track(name=PurePosixPath(name.split(maxsplit=1)[0]).name or name, process=process)] = None
        elif name and event.name == "thread_name":
            self.tracks[Track(name=name, process=process, thread=self.columns.thread(event.tid))] = None

    def timeline(self, reader: TraceReader, facts: TraceFacts) -> Timeline:
        unclosed = sum(map(len, (*self.open_ranges.values(), *self.open_spans.values())))
        columns = self.columns.joined() or {name: np.zeros(0, np.int64) for name in ("pid", *DTYPES)}
        is_device = np.isin(columns["kind"], list(DEVICE_KINDS))
        if self.has_arrows and ((columns["correlation"] < 0) & (is_device | (columns["kind"] == Kind.API))).any():
            _follow_arrows(reader.path, self.columns, columns)
        _place(columns, is_device)
        tracks, kinds = _seen(self.tracks, columns), np.unique(columns["kind"])
        self.build.add(**{name: columns.pop(name) for name in DTYPES if name in columns})
        meta = Meta(
            producer="Kineto" if facts.schemaVersion is not None else "Chrome trace",
            schema_version="" if facts.schemaVersion is None else str(facts.schemaVersion),
            collected=tuple(Kind(kind).name.lower() for kind in kinds.tolist()),
            partial=reader.is_cut or unclosed > 0,
            warnings=tuple(_doubts(reader, unclosed, self.unread_count, kinds)),
        )
        nesting = [Kind.RANGE, Kind.OPERATOR]
        return self.build.build(meta, tracks, _devices(facts), _anchors(facts), nesting)


_Begun = tuple[TraceEvent, int, int, bool]
"""An event that has begun, what it is, when, and whether a clock shows that time."""
_Ended = tuple[TraceEvent, int, int, int]


def _place(columns: dict[str, Column], is_device: Column) -> None:
    """Host events stand on a thread of a process, device work on a stream of a device.

    Kineto's device work has no process: it gets that of its launch, or else that of most host events.
    """
    host = np.where(is_device, ABSENT, columns["pid"])
    hosts, counts = np.unique(host[~is_device], return_counts=True)
    usual = int(hosts[counts.argmax()]) if len(hosts) else ABSENT
    calls = np.flatnonzero(columns["kind"] == Kind.API)
    calls = calls[np.argsort(columns["correlation"][calls], kind="stable")]
    launched = columns["correlation"][calls]
    wanted = columns["correlation"]
    place = np.searchsorted(launched, wanted, side="right") - 1
    if len(calls):
        is_known = (place >= 0) & (launched[place] == wanted)
        by_launch = np.where(is_known, columns["pid"][calls[place]], usual)
    else:
        by_launch = np.full(len(wanted), usual)
    process = np.where(columns["process"] < 0, by_launch, columns["process"])
    columns["process"] = np.where(is_device, process, host).astype(np.int32)
    line = np.where(columns["thread"] < FIRST_NAMED_THREAD, columns["thread"], ABSENT)
    for name, fallback in (("device", columns.pop("pid")), ("stream", line)):
        told = np.where(columns[name] < 0, fallback, columns[name])
        columns[name] = np.where(is_device, told, ABSENT).astype(np.int32)
    columns["thread"] = np.where(is_device, ABSENT, columns["thread"]).astype(np.int32)


def _follow_arrows(path: Path, numbers: TraceColumns, columns: dict[str, Column]) -> None:
    """Read the file again, for the arrows only, and give what begins where one leaves or arrives its correlation."""
    ids: dict[tuple[int, int, int], int] = {}
    for part in TraceReader(path):
        for place, event in enumerate(part.events):
            if event.cat == _ARROW and isinstance(event.id, int) and 0 <= event.id < 1 << 62:
                key = (small_id(event.pid), numbers.thread(event.tid), int(part.start_ns[place]))
                ids[key] = event.id
    lost = np.flatnonzero(columns["correlation"] < 0)
    lost = lost[np.isin(columns["kind"][lost], [*DEVICE_KINDS, Kind.API])]
    keys = zip(*(columns[name][lost].tolist() for name in ("pid", "thread", "start_ns")), strict=True)
    columns["correlation"][lost] = [ids.get(key, ABSENT) for key in keys]


def _seen(tracks: dict[Track, None], columns: dict[str, Any]) -> tuple[Track, ...]:
    """Names of processes and threads with events; the profiler also names devices as if they were processes."""
    keys = np.unique(((columns["process"].astype(np.int64) + 1) << 32) + columns["thread"] + 1).tolist()
    pairs = {((key >> 32) - 1, (key & 0xFFFFFFFF) - 1) for key in keys}
    processes = {process for process, _ in pairs}
    is_seen = [
        (each.process, each.thread) in pairs or (each.thread < 0 and each.process in processes) for each in tracks
    ]
    return tuple(each for each, seen in zip(tracks, is_seen, strict=True) if seen)


def _devices(facts: TraceFacts) -> tuple[Device, ...]:
    return tuple(
        Device(
            id=each.id,
            name=each.name,
            memory_bytes=each.totalGlobalMem,
            sm_count=each.numSms,
            compute_capability=None if each.computeMajor is None else (each.computeMajor, each.computeMinor or 0),
        )
        for each in facts.deviceProperties
    )


def _anchors(facts: TraceFacts) -> tuple[Anchor, ...]:
    is_kineto = facts.schemaVersion is not None
    return (Anchor(clock="utc", offset_ns=facts.baseTimeNanoseconds),) if is_kineto else ()


def _doubts(reader: TraceReader, unclosed: int, unopened: int, kinds: Column) -> list[str]:
    doubts = []
    if reader.is_cut:
        doubts.append(f"the file is cut off; {reader.event_count} entries before the cut were read")
    if reader.odd_count:
        doubts.append(f"{reader.odd_count} entries are no trace events; they are left out")
    if unclosed or unopened:
        doubts.append(f"{unclosed} ranges never ended and {unopened} never began; they are left out")
    if not np.isin(kinds, GPU_KINDS).any():
        doubts.append("no GPU activity in the capture")
    return doubts

"""A Chrome trace, as torch.profiler (Kineto) writes it, to a Timeline. Times are those of the file.

Other Chrome traces are read too: complete and begin/end events become ranges, asynchronous pairs spans, instants marks.
"""

from array import array
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec
import numpy as np

from analyzer.errors import InputError
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.chrome_json import TraceEvent, TraceFile, in_range, read_trace, small_id, time_ns
from analyzer.timeline.kineto_names import (
    DEVICE_KINDS,
    KINDS,
    SKIPPED,
    EventArgs,
    event_args,
    event_name,
    product,
)
from analyzer.timeline.table import ABSENT, GPU_KINDS, Anchor, Device, Kind, Meta, Series, Timeline, Track

_COLUMNS = (
    *("kind", "name_id", "copy_kind", "src_kind", "dst_kind"),
    *("start_ns", "end_ns", "process", "thread", "device", "stream", "correlation"),
    *("bytes", "model_id", "instance", "request", "batch", "step", "size", "block_count", "thread_count"),
)
_Where = tuple[int, int, int, int, int]
"""Process, thread, device, stream, correlation."""


def read(path: Path) -> Timeline:
    return from_trace(read_trace(path), str(path))


def from_trace(trace: TraceFile, source: str) -> Timeline:
    if not trace.traceEvents:
        raise InputError(f"{source} has no trace events; capture again")
    reader = _KinetoImport()
    for event in trace.traceEvents:
        reader.take_flow(event)
    for event in trace.traceEvents:
        reader.take(event)
    return reader.timeline(trace)


class _KinetoImport:
    def __init__(self) -> None:
        self.build = TimelineBuilder()
        self.cells: array[int] = array("q")
        self.named: dict[tuple[str, Kind], tuple[int, ...]] = {}
        self.hosts: Counter[int] = Counter()
        self.process_by_call: dict[int, int] = {}
        self.flow_ids: dict[tuple[object, object, int], int] = {}
        self.open_ranges: dict[tuple[object, object], list[TraceEvent]] = defaultdict(list)
        self.open_spans: dict[tuple[object, ...], list[TraceEvent]] = defaultdict(list)
        self.threads: dict[object, int] = {}
        self.tracks: dict[Track, None] = {}
        self.unread_count = 0

    def take_flow(self, event: TraceEvent) -> None:
        """Arrows from call to device work bear the correlation id, which older files lack in the events themselves."""
        if event.cat == "ac2g" and isinstance(event.id, int):
            self.flow_ids[(event.pid, event.tid, time_ns(event.ts))] = event.id

    def take(self, event: TraceEvent) -> None:
        match event.ph:
            case "X" if event.ts is not None and event.cat not in SKIPPED:
                start = time_ns(event.ts)
                self._event(event, start, start + time_ns(event.dur))
            case "B":
                self.open_ranges[(event.pid, event.tid)].append(event)
            case "E":
                self._close(self.open_ranges[(event.pid, event.tid)], event, Kind.RANGE)
            case "b":
                self.open_spans[(event.cat, event.id, event.name)].append(event)
            case "e":
                self._close(self.open_spans[(event.cat, event.id, event.name)], event, Kind.SPAN)
            case "i" | "I" | "R":
                self._event(event, time_ns(event.ts), time_ns(event.ts), Kind.MARK)
            case "C":
                self._counter(event)
            case "M":
                self._name(event)

    def _close(self, opened: list[TraceEvent], end: TraceEvent, kind: Kind) -> None:
        if not opened:
            self.unread_count += 1
            return
        begin = opened.pop()
        self._event(begin, time_ns(begin.ts), time_ns(end.ts), kind)

    def _event(self, event: TraceEvent, start_ns: int, end_ns: int, other: Kind = Kind.RANGE) -> None:
        kind = KINDS.get(event.cat or "", other)
        if not (in_range(start_ns) and in_range(end_ns)):
            self.unread_count += 1
            return
        args = event_args(event.args)
        self.cells.extend(self._name_cells(event.name or "(no name)", kind))
        self.cells.extend((start_ns, end_ns, *self._where(event, kind, args, start_ns), args.bytes))
        model_id = self.build.name_id(args.model) if args.model else ABSENT
        self.cells.extend((model_id, args.instance, args.request, args.batch, args.step, args.size))
        self.cells.extend((product(args.grid, 2**31 - 1), product(args.block, 2**15 - 1)))

    def _name_cells(self, name: str, kind: Kind) -> tuple[int, ...]:
        """Kind, name and what the name says of a copy: most events share theirs with many others."""
        cells = self.named.get((name, kind))
        if cells is None:
            told, copies = event_name(name, kind)
            cells = (int(kind), self.build.name_id(told), *copies)
            self.named[(name, kind)] = cells
        return cells

    def _where(self, event: TraceEvent, kind: Kind, args: EventArgs, start_ns: int) -> _Where:
        correlation = args.correlation
        if correlation < 0 and self.flow_ids and (kind in DEVICE_KINDS or kind is Kind.API):
            correlation = self.flow_ids.get((event.pid, event.tid, start_ns), ABSENT)
        if kind in DEVICE_KINDS:
            device = args.device if args.device >= 0 else small_id(event.pid)
            stream = args.stream if args.stream >= 0 else small_id(event.tid)
            return args.process, ABSENT, device, stream, correlation
        process, thread = small_id(event.pid), self._thread(event.tid)
        self.hosts[process] += 1
        if kind is Kind.API:
            self.process_by_call[correlation] = process
        return process, thread, ABSENT, ABSENT, correlation

    def _thread(self, tid: object) -> int:
        """Ids that are no thread ids of the system, such as names, get numbers of their own above those."""
        if tid is None:
            return ABSENT
        number = small_id(tid)
        if 0 <= number < 1 << 24:
            return number
        return self.threads.setdefault(tid, (1 << 24) + len(self.threads))

    def _counter(self, event: TraceEvent) -> None:
        values = _plain(event.args) if in_range(time_ns(event.ts)) else {}
        for key, value in values.items():
            if isinstance(value, int | float):
                series = Series(name=f"{event.name} {key}", process=small_id(event.pid))
                self.build.sample(series, time_ns(event.ts), value)

    def _name(self, event: TraceEvent) -> None:
        name, process = str(_plain(event.args).get("name", "")), small_id(event.pid)
        if name and event.name == "process_name" and process >= 0:
            self.tracks[Track(name=PurePosixPath(name.split(maxsplit=1)[0]).name or name, process=process)] = None
        elif name and event.name == "thread_name":
            self.tracks[Track(name=name, process=process, thread=self._thread(event.tid))] = None

    def timeline(self, trace: TraceFile) -> Timeline:
        unclosed = sum(map(len, (*self.open_ranges.values(), *self.open_spans.values())))
        table = np.frombuffer(self.cells, np.int64).reshape(-1, len(_COLUMNS))
        columns = {name: table[:, place] for place, name in enumerate(_COLUMNS)}
        columns["process"] = self._processes(columns)
        self.build.add(**columns)
        meta = Meta(
            producer="Kineto" if trace.schemaVersion is not None else "Chrome trace",
            schema_version="" if trace.schemaVersion is None else str(trace.schemaVersion),
            collected=tuple(Kind(kind).name.lower() for kind in np.unique(columns["kind"]).tolist()),
            partial=trace.is_cut or unclosed > 0,
            warnings=tuple(_doubts(trace, unclosed, self.unread_count, columns["kind"])),
        )
        return self.build.build(
            meta, _seen(self.tracks, columns), _devices(trace), _anchors(trace), [Kind.RANGE, Kind.OPERATOR]
        )

    def _processes(self, columns: dict[str, Any]) -> Any:
        """Kineto's device work has no process: it gets that of its launch, or else that of most host events."""
        process = columns["process"].copy()
        usual = self.hosts.most_common(1)[0][0] if self.hosts else ABSENT
        work = np.flatnonzero(np.isin(columns["kind"], list(DEVICE_KINDS)) & (process < 0))
        process[work] = [self.process_by_call.get(call, usual) for call in columns["correlation"][work].tolist()]
        return process


def _plain(args: msgspec.Raw) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(args)
    except msgspec.MsgspecError:
        return {}
    return found if isinstance(found, dict) else {}


def _seen(tracks: dict[Track, None], columns: dict[str, Any]) -> tuple[Track, ...]:
    """Names of processes and threads with events; the profiler also names devices as if they were processes."""
    keys = np.unique(((columns["process"] + 1) << 32) + columns["thread"] + 1).tolist()
    pairs = {((key >> 32) - 1, (key & 0xFFFFFFFF) - 1) for key in keys}
    processes = {process for process, _ in pairs}
    is_seen = [
        (each.process, each.thread) in pairs or (each.thread < 0 and each.process in processes) for each in tracks
    ]
    return tuple(each for each, seen in zip(tracks, is_seen, strict=True) if seen)


def _devices(trace: TraceFile) -> tuple[Device, ...]:
    return tuple(
        Device(
            id=each.id,
            name=each.name,
            memory_bytes=each.totalGlobalMem,
            sm_count=each.numSms,
            compute_capability=None if each.computeMajor is None else (each.computeMajor, each.computeMinor or 0),
        )
        for each in trace.deviceProperties
    )


def _anchors(trace: TraceFile) -> tuple[Anchor, ...]:
    is_kineto = trace.schemaVersion is not None
    return (Anchor(clock="utc", offset_ns=trace.baseTimeNanoseconds),) if is_kineto else ()


def _doubts(trace: TraceFile, unclosed: int, unopened: int, kinds: Any) -> list[str]:
    doubts = []
    if trace.is_cut:
        doubts.append(f"the file is cut off; {len(trace.traceEvents)} entries before the cut were read")
    if unclosed or unopened:
        doubts.append(f"{unclosed} ranges never ended and {unopened} never began; they are left out")
    if not np.isin(kinds, GPU_KINDS).any():
        doubts.append("no GPU activity in the capture")
    return doubts

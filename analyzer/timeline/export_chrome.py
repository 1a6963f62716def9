"""A timeline as Chrome trace JSON in the dialect of torch.profiler (Kineto), for Perfetto, HTA and older viewers.

What another tool would drop is avoided: two complete events on one line never overlap unless one holds the other;
what may overlap is a pair of asynchronous events. Times are µs with three decimals, from the table's zero or, where
that is so far away that a float could not tell one ns from the next, from the first event.

Not in this format, so lost on the way: edges between requests and batches, names of streams, the thread on which a span
ends, and units of counters, which join their names.
"""

from collections.abc import Iterator
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from analyzer.timeline.analyses.launches import launch_rows
from analyzer.timeline.export_file import replacing
from analyzer.timeline.export_lanes import codes, disjoint_lanes, nesting_lanes
from analyzer.timeline.kinds import GPU_KINDS, Kind
from analyzer.timeline.kineto_names import CATEGORIES, DEVICE_KINDS, trace_name
from analyzer.timeline.table import ABSENT, Device, Rows, Timeline

_ASYNC_KINDS = (Kind.SPAN, Kind.CLIENT_REQUEST, Kind.REQUEST, Kind.STEP)
_EXACT_NS = 1 << 52
"""Below it µs as a float are exact to the ns."""
_ARGUMENTS = ("correlation", "device", "stream", "bytes", "instance", "request", "batch", "step", "size")
_FIRST_LINE = 1 << 24
"""Lines that are no thread or stream get numbers above those of threads."""
_BLOCK_EVENTS = 1024

_Event = dict[str, Any]


def write(timeline: Timeline, path: Path) -> None:
    encoder = msgspec.json.Encoder()
    events = _events(timeline)
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(encoder.encode(_facts(timeline))[:-1] + b',"traceEvents":[')
        separator = b"\n"
        while block := list(islice(events, _BLOCK_EVENTS)):
            file.write(separator + encoder.encode(block)[1:-1])
            separator = b",\n"
        file.write(b"\n]}\n")


def _base_ns(timeline: Timeline) -> int:
    counted = timeline.counters.time_ns
    first = min(timeline.start_ns, int(counted[0]) if len(counted) else timeline.start_ns)
    return 0 if 0 <= first < _EXACT_NS else first


def _facts(timeline: Timeline) -> _Event:
    """Wall clock times are possible only where the table's zero is known in them."""
    facts: _Event = {"displayTimeUnit": "ns", "deviceProperties": [_device(each) for each in timeline.devices]}
    for anchor in timeline.anchors:
        if anchor.clock == "utc":
            facts |= {"schemaVersion": 1, "baseTimeNanoseconds": anchor.offset_ns + _base_ns(timeline)}
    return facts


def _device(device: Device) -> _Event:
    major, minor = device.compute_capability or (None, None)
    return {
        "id": device.id,
        "name": device.name,
        "totalGlobalMem": device.memory_bytes,
        "numSms": device.sm_count,
        "computeMajor": major,
        "computeMinor": minor,
    }


def _events(timeline: Timeline) -> Iterator[_Event]:
    base = _base_ns(timeline)
    lines = _Lines(timeline)
    yield from lines.names()
    yield from _slices(timeline, lines, base)
    yield from _arrows(timeline, lines, base)
    counters = timeline.counters
    for number, at, value in zip(
        counters.series_id.tolist(), (counters.time_ns - base).tolist(), counters.value.tolist()
    ):
        series = counters.series[number]
        name = f"GPU {series.device} {series.name}" if series.device >= 0 else series.name
        event: _Event = {"ph": "C", "name": name, "ts": at / 1e3, "args": {series.unit or "value": value}}
        yield event | ({"pid": series.process} if series.process >= 0 else {"pid": 0})


class _Lines:
    """Where each event stands: pid and tid, and whether it can't be a complete event there."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        events = timeline.events
        is_device = np.isin(events.kind, [int(kind) for kind in DEVICE_KINDS])
        self.pid = np.where(is_device, events.device, events.process).astype(np.int64)
        self.tid = np.where(is_device, events.stream, events.thread).astype(np.int64)
        is_loose = np.isin(events.kind, [int(kind) for kind in _ASYNC_KINDS])
        is_loose |= ~is_device & ((events.thread < 0) | ((events.kind == Kind.STAGE) & (events.request >= 0)))
        self.is_loose = is_loose & (events.kind != Kind.MARK)
        self._keep_threads(np.flatnonzero(~is_device & ~self.is_loose))
        self._part_streams(np.flatnonzero(is_device))

    def _keep_threads(self, rows: Rows) -> None:
        events = self.timeline.events
        lane = nesting_lanes(events.start_ns[rows], events.end_ns[rows], codes(self.pid[rows], self.tid[rows])[0])
        self.is_loose[rows[(lane > 0) & (events.kind[rows] != Kind.MARK)]] = True

    def _part_streams(self, rows: Rows) -> None:
        """Work of several processes on one stream number, waits, and work that overlaps get lines of their own."""
        events = self.timeline.events
        is_wait = (events.kind[rows] == Kind.SYNC).astype(np.int64)
        group = codes(self.pid[rows], self.tid[rows], is_wait)[0]
        lane = disjoint_lanes(events.start_ns[rows], events.end_ns[rows], group)
        line, sample = codes(group, lane)
        is_own = (lane[sample] == 0) & (is_wait[sample] == 0)
        own_line = np.where(
            self.tid[rows][sample] < 0, -2 - np.arange(len(sample)), _FIRST_LINE + np.arange(len(sample))
        )
        self.tid[rows] = np.where(is_own, self.tid[rows][sample], own_line)[line]

    def names(self) -> Iterator[_Event]:
        for track in self.timeline.tracks:
            if track.device < 0 and track.process >= 0:
                what = "process_name" if track.thread < 0 else "thread_name"
                yield self._label(what, track.process, max(0, track.thread), track.name)
        events = self.timeline.events
        rows = self.timeline.rows(*DEVICE_KINDS)
        if len(rows):
            for row in rows[codes(self.pid[rows], self.tid[rows])[1]].tolist():
                name = f"stream {events.stream[row]}" + (" waits" if events.kind[row] == Kind.SYNC else "")
                yield self._label("thread_name", int(self.pid[row]), int(self.tid[row]), name)

    def _label(self, what: str, pid: int, tid: int, name: str) -> _Event:
        return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}


def _slices(timeline: Timeline, lines: _Lines, base_ns: int) -> Iterator[_Event]:
    events = timeline.events
    columns = (
        *(events.kind, events.start_ns - base_ns, events.duration_ns, lines.pid, lines.tid, lines.is_loose),
        *(events.process, events.model_id, events.block_count, events.thread_count),
    )
    present = [name for name in _ARGUMENTS if (getattr(events, name) >= 0).any()]
    numbers = zip(*(getattr(events, name).tolist() for name in present)) if present else repeat(())
    names = _names(timeline)
    for row, (kind, start, length, pid, tid, is_loose, process, model, blocks, threads) in enumerate(
        zip(*(column.tolist() for column in columns))
    ):
        args: _Event = {key: value for key, value in zip(present, next(numbers)) if value >= 0}
        if model >= 0:
            args["model"] = timeline.names[model]
        if blocks >= 0:
            args["grid"] = (blocks, 1, 1)
        if threads >= 0:
            args["block"] = (threads, 1, 1)
        if kind in DEVICE_KINDS and process >= 0:
            args["process"] = process
        event: _Event = {"ph": "X", "cat": CATEGORIES[kind], "name": names[row], "ts": start / 1e3, "args": args}
        if pid != ABSENT:
            event["pid"] = pid
        if tid != ABSENT:
            event["tid"] = tid
        if is_loose:
            event |= {"ph": "b", "id": row}
            yield event
            yield {key: value for key, value in event.items() if key != "args"} | {
                "ph": "e",
                "ts": (start + length) / 1e3,
            }
        elif kind == Kind.MARK:
            yield event | {"ph": "i", "s": "t"}
        else:
            yield event | {"dur": length / 1e3}


def _names(timeline: Timeline) -> list[str]:
    """Copies and memsets are named as Kineto names them, since its readers take the direction from there."""
    events = timeline.events
    found = [timeline.names[name_id] for name_id in events.name_id.tolist()]
    for row in timeline.rows(Kind.MEMCPY, Kind.MEMSET).tolist():
        told = (events.copy_kind[row], events.src_kind[row], events.dst_kind[row])
        found[row] = trace_name(found[row], Kind(events.kind[row]), *map(int, told))
    return found


def _arrows(timeline: Timeline, lines: _Lines, base_ns: int) -> Iterator[_Event]:
    """From a call to the work that it launched, where both stand on a line."""
    work = timeline.rows(*GPU_KINDS)
    calls = launch_rows(timeline, work)
    kept = (calls >= 0) & ~lines.is_loose[calls]
    columns = (lines.pid, lines.tid, timeline.events.start_ns - base_ns)
    leaving, reached = (zip(*(column[rows[kept]].tolist() for column in columns)) for rows in (calls, work))
    for number, (one, other) in enumerate(zip(leaving, reached), 1):
        arrow: _Event = {"cat": "ac2g", "name": "ac2g", "id": number}
        yield {"ph": "s", "pid": one[0], "tid": one[1], "ts": one[2] / 1e3, **arrow}
        yield {"ph": "f", "pid": other[0], "tid": other[1], "ts": other[2] / 1e3, "bp": "e", **arrow}

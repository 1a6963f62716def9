"""A timeline as a Perfetto trace: https://ui.perfetto.dev and trace_processor open it. Times are exact to the ns.

Tracks are those of ``export_tracks``, arrows those of ``export_flows``. Field numbers are of Perfetto's
``trace_packet.proto``, ``track_event.proto``, ``track_descriptor.proto`` and ``interned_data.proto``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analyzer.timeline.analyses.serving import queue_depths, requests_in_flight
from analyzer.timeline.export_file import replacing
from analyzer.timeline.export_flows import flows
from analyzer.timeline.export_protobuf import (
    Bytes,
    MessageColumns,
    Messages,
    delimited,
    in_order,
    interleave,
    number,
    varint,
)
from analyzer.timeline.export_tracks import Layout, Place, layout
from analyzer.timeline.kinds import Kind, MemoryKind
from analyzer.timeline.table import ABSENT, Column, Ns, Series, Timeline

_PACKET, _TIMESTAMP, _TRACK_EVENT, _CLOCKS, _INTERNED, _DESCRIPTOR = 1, 8, 11, 6, 12, 60
_SEQUENCE = number(10, 1)
_CLEARED, _NEEDED = number(13, 1), number(13, 2)
_TYPE, _UUID, _CATEGORY, _NAME, _ANNOTATION, _FLOW, _DOUBLE = 9, 11, 3, 10, 4, 47, 44
_BEGIN, _END, _INSTANT, _COUNTER = 1, 2, 3, 4
_EXPLICIT = 3
"""An order of tracks."""
_KEY, _INTEGER, _STRING = 1, 4, 17
_REALTIME, _BOOTTIME = 1, 6
_NUMBERS = {
    "correlation": "correlation",
    "instance": "instance",
    "request": "request",
    "batch": "batch",
    "step": "step",
    "size": "size",
    "bytes": "bytes",
    "blocks": "block_count",
    "threads per block": "thread_count",
}
_MEMORIES = {"source memory": "src_kind", "destination memory": "dst_kind"}
_MODEL = "model"
_ARGUMENTS = (*_NUMBERS, *_MEMORIES, _MODEL)
_CHUNK_PACKETS = 1 << 16


def write(timeline: Timeline, path: Path) -> None:
    with replacing(path) as partial, partial.open("wb") as file:
        for block in blocks(timeline):
            file.write(block)


def blocks(timeline: Timeline) -> Iterator[bytes]:
    """The trace in parts, each of whole packets."""
    found = layout(timeline)
    shift_ns = -min(0, timeline.start_ns)  # the format has no times below zero
    yield _packet(_head(timeline, shift_ns))
    for place, track in enumerate(found.places):
        yield _packet(_SEQUENCE + delimited(_DESCRIPTOR, _track(place, track) + _rank(place, track.parent, found)))
    yield from _Slices(timeline, found.place, shift_ns).blocks()
    yield from _counters(timeline, found, shift_ns)


def _packet(content: bytes) -> bytes:
    return delimited(_PACKET, content)


def _head(timeline: Timeline, shift_ns: int) -> bytes:
    """Names by number for all that follows, and what the wall clock showed if that is known."""
    names = b"".join(_name(2, iid, name) for iid, name in enumerate(timeline.names, 1))
    categories = b"".join(_name(1, kind + 1, kind.name.lower()) for kind in Kind)
    keys = b"".join(_name(3, iid, key) for iid, key in enumerate(_ARGUMENTS, 1))
    texts = (*(kind.name.lower() for kind in MemoryKind), *timeline.names)
    strings = b"".join(_name(29, iid, text) for iid, text in enumerate(texts, 1))
    head = _SEQUENCE + _CLEARED + delimited(_INTERNED, categories + names + keys + strings)
    for anchor in timeline.anchors:
        if anchor.clock == "utc":
            at = timeline.start_ns
            clocks = _clock(_BOOTTIME, at + shift_ns) + _clock(_REALTIME, at + anchor.offset_ns)
            return number(_TIMESTAMP, at + shift_ns) + head + delimited(_CLOCKS, clocks)
    return head


def _name(field: int, iid: int, name: str) -> bytes:
    return delimited(field, number(1, iid) + delimited(2, name))


def _clock(clock: int, at_ns: int) -> bytes:
    return delimited(1, number(1, clock) + number(2, at_ns))


def _track(place: int, track: Place) -> bytes:
    """Numbers of tracks begin at 1. Process 0 would be the idle task, so it is a mere name."""
    content = number(1, place + 1)
    if track.parent >= 0:
        content += number(5, track.parent + 1)
    if track.process > 0 and track.thread > 0:
        return content + delimited(4, number(1, track.process) + number(2, track.thread) + delimited(5, track.name))
    content += delimited(2, track.name)
    if track.process > 0 and track.thread < 0:
        content += delimited(3, number(1, track.process) + delimited(6, track.name))
    return content


def _rank(place: int, parent: int, found: Layout) -> bytes:
    """Under a GPU its streams, then its counters; by their names the counters would stand among the streams."""
    devices = found.devices.values()
    if place in devices:
        return number(11, _EXPLICIT)
    return number(12, place + 1) if parent in devices else b""


@dataclass(frozen=True, slots=True)
class _Arrows:
    """The numbers of the arrows at each row: those of row r are ``ids[first[r]:first[r + 1]]``."""

    first: Column
    ids: Column

    def at(self, rows: Column) -> Messages:
        count = self.first[rows + 1] - self.first[rows]
        gone = np.cumsum(count) - count
        chosen = self.ids[np.arange(int(count.sum())) + np.repeat(self.first[rows] - gone, count)]
        fields = np.empty((len(chosen), 10), np.uint8)
        fields[:, :2] = np.frombuffer(varint(_FLOW << 3 | 1), np.uint8)
        fields[:, 2:] = chosen.astype("<u8").view(np.uint8).reshape(-1, 8)
        return Messages(fields.ravel(), count * 10)


def _arrows(timeline: Timeline) -> _Arrows:
    source, target = flows(timeline)
    rows, ids = np.concatenate([source, target]), np.tile(np.arange(1, len(source) + 1), 2)
    order = np.argsort(rows, kind="stable")
    return _Arrows(np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(timeline)))]), ids[order])


class _Slices:
    """Begins and ends of all events, in the order in which a stack of them opens and closes."""

    def __init__(self, timeline: Timeline, place: Column, shift_ns: int) -> None:
        self.events = timeline.events
        self.place, self.shift_ns = place, shift_ns
        self.arrows = _arrows(timeline)

    def blocks(self) -> Iterator[bytes]:
        order = _emission(self.events.start_ns, self.events.end_ns, self.events.kind == Kind.MARK)
        for first in range(0, len(order), _CHUNK_PACKETS):
            yield self._block(order[first : first + _CHUNK_PACKETS]).tobytes()

    def _block(self, packets: Column) -> Bytes:
        """Packets by number: below the count of rows the begin of that row, above it the end."""
        count = len(self.events)
        is_end = packets >= count
        parts = (self._begins(packets[~is_end]), self._ends(packets[is_end] - count))
        order = np.empty(len(packets), np.int64)
        order[~is_end] = np.arange(len(parts[0]))
        order[is_end] = np.arange(len(parts[1])) + len(parts[0])
        return in_order(parts, order)

    def _begins(self, rows: Column) -> Messages:
        events = self.events
        fields = MessageColumns(len(rows))
        fields.number(_TYPE, np.where(events.kind[rows] == Kind.MARK, _INSTANT, _BEGIN))
        fields.number(_UUID, self.place[rows] + 1)
        fields.number(_CATEGORY, events.kind[rows].astype(np.int64) + 1)
        fields.number(_NAME, events.name_id[rows].astype(np.int64) + 1)
        for iid, key in enumerate(_ARGUMENTS, 1):
            self._argument(fields, rows, number(_KEY, iid), key)
        return _packets(events.start_ns[rows] + self.shift_ns, fields.messages(), self.arrows.at(rows))

    def _argument(self, fields: MessageColumns, rows: Column, key: bytes, name: str) -> None:
        column = getattr(self.events, _NUMBERS.get(name) or _MEMORIES.get(name) or "model_id")[rows]
        known = column >= 0
        if not known.any():
            return
        if name in _NUMBERS:
            fields.annotation(_ANNOTATION, key, _INTEGER, column, known)
        else:
            first = len(MemoryKind) if name == _MODEL else 0
            fields.annotation(_ANNOTATION, key, _STRING, column.astype(np.int64) + first + 1, known)

    def _ends(self, rows: Column) -> Messages:
        fields = MessageColumns(len(rows))
        fields.constant(number(_TYPE, _END))
        fields.number(_UUID, self.place[rows] + 1)
        return _packets(self.events.end_ns[rows] + self.shift_ns, fields.messages())


def _packets(time_ns: Ns, *event: Messages) -> Messages:
    """Packets of the trace around the parts of their track events."""
    head = MessageColumns(len(time_ns))
    head.number(_TIMESTAMP, time_ns)
    head.constant(_SEQUENCE + _NEEDED)
    inner = sum((part.lengths for part in event), np.zeros(len(time_ns), np.int64))
    head.holder(_TRACK_EVENT, inner)
    heads = head.messages()
    outer = MessageColumns(len(time_ns))
    outer.holder(_PACKET, heads.lengths + inner)
    return interleave((outer.messages(), heads, *event))


def _emission(start_ns: Ns, end_ns: Ns, is_mark: Column) -> Column:
    """At one time: first what ends, the innermost first; then what begins, the outermost first; then what is empty."""
    count = len(start_ns)
    rows = np.arange(count)
    is_empty = end_ns == start_ns
    begins = np.where(is_empty, 2, 1), np.where(is_empty, 2 * rows, rows)
    ends = np.where(is_empty, 2, 0), np.where(is_empty, 2 * rows + 1, -rows)
    step, place = (np.concatenate(pair) for pair in zip(begins, ends, strict=True))
    order = np.lexsort((place, step, np.concatenate([start_ns, end_ns])))
    found: Column = order[(order < count) | ~is_mark[order % count]] if count else order
    return found


def _counters(timeline: Timeline, found: Layout, shift_ns: int) -> Iterator[bytes]:
    first = len(found.places)
    for place, (series, times, values) in enumerate(_series(timeline), first):
        yield _packet(_SEQUENCE + delimited(_DESCRIPTOR, _counter(place, series, found)))
        for begin in range(0, len(times), _CHUNK_PACKETS):
            chosen = slice(begin, begin + _CHUNK_PACKETS)
            fields = MessageColumns(len(times[chosen]))
            fields.constant(number(_TYPE, _COUNTER) + number(_UUID, place + 1))
            fields.double(_DOUBLE, values[chosen])
            yield _packets(times[chosen] + shift_ns, fields.messages()).content.tobytes()


def _counter(place: int, series: Series, found: Layout) -> bytes:
    parent = found.devices.get(series.device, found.processes.get(series.process, ABSENT))
    content = number(1, place + 1) + delimited(2, series.name)
    content += number(5, parent + 1) if parent >= 0 else b""
    content += delimited(8, delimited(6, series.unit) if series.unit else b"")
    return content + _rank(place, parent, found)


def _series(timeline: Timeline) -> Iterator[tuple[Series, Ns, Column]]:
    """The counters that were sampled, and those that follow from the events."""
    counters = timeline.counters
    for number_, series in enumerate(counters.series):
        mine = counters.series_id == number_
        yield series, counters.time_ns[mine], counters.value[mine]
    server = _server(timeline)
    in_flight = requests_in_flight(timeline)
    if len(in_flight.time_ns):
        yield Series(name="requests in flight", unit="requests", process=server), in_flight.time_ns, in_flight.count
    for model, depth in queue_depths(timeline).items():
        name = f"queue depth of {model or 'unknown model'}"
        yield Series(name=name, unit="requests", process=server), depth.time_ns, depth.count


def _server(timeline: Timeline) -> int:
    """The process that has the batches."""
    processes = timeline.events.process[timeline.rows(Kind.BATCH, Kind.REQUEST)]
    return int(processes[0]) if len(processes) else ABSENT

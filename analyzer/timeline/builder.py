"""Blocks of events from a collector or importer to a Timeline: names interned, rows in order."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from analyzer.timeline.intervals import parents
from analyzer.timeline.kinds import Kind, Relation
from analyzer.timeline.table import (
    ABSENT,
    DTYPES,
    Anchor,
    Column,
    Counters,
    Device,
    Edges,
    Events,
    Meta,
    Series,
    Timeline,
    Track,
    empty_edges,
)

Values = npt.ArrayLike


class TimelineBuilder:
    """Takes blocks of columns, in any order of time, and builds the timeline once.

    A parent is given as a position: the number of events added before it. ``add`` returns it for the first of a block.
    """

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._blocks: list[tuple[int, dict[str, Values]]] = []
        self._count = 0
        self._edges: list[tuple[Relation, Column, Column]] = []
        self._series: dict[Series, int] = {}
        self._samples: list[tuple[int, Column, Column]] = []

    def name_id(self, name: str) -> int:
        return self._ids.setdefault(name, len(self._ids))

    def name_ids(self, names: Iterable[str]) -> npt.NDArray[np.int32]:
        return np.fromiter(map(self.name_id, names), np.int32)

    def add(self, kind: Kind | Values, start_ns: Values, end_ns: Values, name_id: Values, **columns: Values) -> int:
        """Add a block and return its first position. A column may be one value for all; one left out is absent."""
        first = self._count
        count = len(np.atleast_1d(np.asarray(start_ns)))
        unknown = columns.keys() - DTYPES.keys()
        if unknown:
            raise TypeError(f"the event table has no column {sorted(unknown)[0]!r}")
        if count:
            block = {"kind": kind, "start_ns": start_ns, "end_ns": end_ns, "name_id": name_id, **columns}
            self._blocks.append((count, block))
        self._count += count
        return first

    def link(self, relation: Relation, source: Values, target: Values) -> None:
        """Add edges between ids, one or many."""
        ends = np.broadcast_arrays(np.atleast_1d(np.asarray(source, np.int64)), np.asarray(target, np.int64))
        self._edges.append((relation, ends[0], ends[1]))

    def sample(self, series: Series, time_ns: Values, value: Values) -> None:
        """Add samples of a counter."""
        series_id = self._series.setdefault(series, len(self._series))
        times = np.atleast_1d(np.asarray(time_ns, np.int64))
        values = np.broadcast_to(np.asarray(value, np.float64), times.shape)
        self._samples.append((series_id, times, values))

    def build(
        self,
        meta: Meta,
        tracks: Sequence[Track] = (),
        devices: Sequence[Device] = (),
        anchors: Sequence[Anchor] = (),
        nesting: Sequence[Kind] = (),
    ) -> Timeline:
        """Make the timeline, once: the blocks are freed on the way.

        Rows of the ``nesting`` kinds get the innermost one on their thread as their parent.
        """
        return Timeline(
            events=_nested(self._ordered_events(), nesting),
            names=tuple(self._ids),
            meta=meta,
            tracks=tuple(tracks),
            devices=tuple(devices),
            anchors=tuple(anchors),
            edges=self._all_edges(),
            counters=self._all_counters(),
        )

    def _ordered_events(self) -> Events:
        start, end = self._column("start_ns"), self._column("end_ns")
        np.maximum(end, start, out=end)
        order = np.lexsort((-end, start))
        columns: dict[str, Column] = {"start_ns": start[order], "end_ns": end[order]}
        del start, end
        for name in DTYPES.keys() - columns.keys():
            columns[name] = self._column(name)[order]
        rank = np.empty(self._count, np.int32)
        rank[order] = np.arange(self._count, dtype=np.int32)
        parent = columns["parent"]
        columns["parent"] = (
            np.where(parent >= 0, rank[np.maximum(parent, 0)], ABSENT).astype(np.int32) if len(rank) else parent
        )
        return Events(**columns)

    def _column(self, name: str) -> Column:
        column = np.empty(self._count, DTYPES[name])
        first = 0
        for count, block in self._blocks:
            column[first : first + count] = block.pop(name, ABSENT)  # freed at once: memory is never needed twice
            first += count
        return column

    def _all_edges(self) -> Edges:
        if not self._edges:
            return empty_edges()
        relation = [np.full(len(source), kind, np.uint8) for kind, source, _ in self._edges]
        source, target = ([each[side] for each in self._edges] for side in (1, 2))
        return Edges(np.concatenate(relation), np.concatenate(source), np.concatenate(target))

    def _all_counters(self) -> Counters:
        ids = [np.full(len(times), series, np.int32) for series, times, _ in self._samples]
        times = np.concatenate([np.zeros(0, np.int64), *(each[1] for each in self._samples)])
        values = np.concatenate([np.zeros(0, np.float64), *(each[2] for each in self._samples)])
        order = np.argsort(times, kind="stable")
        series_id = np.concatenate([np.zeros(0, np.int32), *ids])
        return Counters(tuple(self._series), series_id[order], times[order], values[order])


def _nested(events: Events, kinds: Sequence[Kind]) -> Events:
    rows = np.flatnonzero(np.isin(events.kind, [int(kind) for kind in kinds]))
    rows = rows[events.parent[rows] == ABSENT]
    lane = (events.process[rows].astype(np.int64) << 32) + events.thread[rows]
    found = parents(events.start_ns[rows], events.end_ns[rows], lane)
    held = found >= 0
    events.parent[rows[held]] = rows[found[held]]
    return events

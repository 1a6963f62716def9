"""Sums by name: kernels, copies by time and by size, calls, ranges. The figures are those of ``nsys stats``.

Sums of durations count overlaps twice, as Nsight's do: for how long a device was at work see ``busy``.
"""

import numpy as np

from analyzer.domain.record import Record
from analyzer.timeline.analyses.spread import Spread, spreads
from analyzer.timeline.kinds import COPY_KINDS, Kind
from analyzer.timeline.table import Column, Rows, Timeline


class NameSum(Record, frozen=True):
    """All events of one name. ``share_ratio`` is its part of the total of its table; times in ns, sizes in bytes."""

    name: str
    share_ratio: float
    spread: Spread


class RangeSum(Record, frozen=True):
    name: str
    style: str
    share_ratio: float
    spread: Spread


def kernel_sums(timeline: Timeline) -> tuple[NameSum, ...]:
    return _by_name(timeline, timeline.rows(Kind.KERNEL), timeline.events.duration_ns)


def copy_time_sums(timeline: Timeline) -> tuple[NameSum, ...]:
    return _by_name(timeline, timeline.rows(*COPY_KINDS), timeline.events.duration_ns)


def copy_size_sums(timeline: Timeline) -> tuple[NameSum, ...]:
    rows = timeline.rows(*COPY_KINDS)
    return _by_name(timeline, rows[timeline.events.bytes[rows] >= 0], timeline.events.bytes)


def operator_sums(timeline: Timeline) -> tuple[NameSum, ...]:
    """Operators of a framework on the host. One that calls others holds their time too."""
    return _by_name(timeline, timeline.rows(Kind.OPERATOR), timeline.events.duration_ns)


def api_sums(timeline: Timeline) -> tuple[NameSum, ...]:
    """Calls by name, without a version of four digits at its end, which is what Nsight cuts off."""
    rows = timeline.rows(Kind.API)
    bare = {name_id: without_version(timeline.names[name_id]) for name_id in np.unique(timeline.events.name_id[rows])}
    first = {name: name_id for name_id, name in reversed(bare.items())}
    used, inverse = np.unique(timeline.events.name_id[rows], return_inverse=True)
    merged = np.array([first[bare[name_id]] for name_id in used], np.int64)
    keys = merged[inverse] if len(rows) else merged
    return _sums(timeline, keys, timeline.events.duration_ns[rows], bare)


def range_sums(timeline: Timeline) -> tuple[RangeSum, ...]:
    """Ranges by name and style: PushPop nest on a thread, StartEnd may overlap."""
    found = []
    for kind, style in STYLES.items():
        rows = timeline.rows(kind)
        groups = spreads(timeline.events.name_id[rows], timeline.events.duration_ns[rows])
        found += [(timeline.names[key], style, spread) for key, spread in groups.items()]
    total = sum(spread.total for _, _, spread in found) or 1
    found.sort(key=lambda each: (-each[2].total, each[0]))
    return tuple(
        RangeSum(name=name, style=style, share_ratio=spread.total / total, spread=spread)
        for name, style, spread in found
    )


STYLES = {Kind.RANGE: "PushPop", Kind.SPAN: "StartEnd"}


def without_version(name: str) -> str:
    return name[:-6] if len(name) > 6 and name[-6:-4] == "_v" and name[-4:].isdigit() else name


def _by_name(timeline: Timeline, rows: Rows, values: Column) -> tuple[NameSum, ...]:
    return _sums(timeline, timeline.events.name_id[rows], values[rows], {})


def _sums(timeline: Timeline, keys: Column, values: Column, renamed: dict[int, str]) -> tuple[NameSum, ...]:
    groups = spreads(keys, values)
    total = sum(spread.total for spread in groups.values()) or 1
    found = [
        NameSum(name=renamed.get(key, timeline.names[key]), share_ratio=spread.total / total, spread=spread)
        for key, spread in groups.items()
    ]
    return tuple(sorted(found, key=lambda each: (-each.spread.total, each.name)))

"""Which device work was launched from within which range: ranges projected onto the GPU, as Nsight Systems does it.

An operation belongs to a range when its launching call lies inside the range on the same thread. The projected range
goes from the start of the first such operation to the end of the last. A range that ends on another thread projects
nothing; nested ranges each have the operation, so totals may exceed the run.
"""

from dataclasses import dataclass

import numpy as np

from analyzer.domain.record import Record
from analyzer.timeline.analyses.launches import launch_rows
from analyzer.timeline.analyses.spread import Spread, spreads
from analyzer.timeline.analyses.sums import STYLES
from analyzer.timeline.kinds import COPY_KINDS, Kind
from analyzer.timeline.table import ABSENT, Column, Ns, Rows, Timeline


@dataclass(frozen=True, slots=True)
class Projection:
    """Ranges that launched work, in order of their start, and the pairs of (range, operation) by row of the table."""

    ranges: Rows
    start_ns: Ns
    end_ns: Ns
    work_count: Column
    pair_range: Rows
    pair_work: Rows


class ProjectedSum(Record, frozen=True):
    """All ranges of one name that launched work: ``projected`` in device time, ``range_total_ns`` of the host."""

    name: str
    style: str
    projected: Spread
    range_total_ns: int
    work_count: int
    mean_level: float
    mean_child_count: float


class RangeKernelSum(Record, frozen=True):
    """One kernel within all ranges of one name on one thread; outside of any range the name is empty."""

    range: str
    style: str
    process: int
    thread: int
    range_count: int
    kernel: str
    spread: Spread


def project(timeline: Timeline, kinds: tuple[Kind, ...] = (Kind.KERNEL, Kind.GRAPH, *COPY_KINDS)) -> Projection:
    events = timeline.events
    work = timeline.rows(*kinds)
    calls = launch_rows(timeline, work)
    work, calls = work[calls >= 0], calls[calls >= 0]
    ranges = timeline.rows(*STYLES)
    ranges = ranges[events.end_thread[ranges] == ABSENT]
    pair_range, pair_work = [np.zeros(0, np.intp)], [np.zeros(0, np.intp)]
    call_lane, range_lane = _lane(timeline, calls), _lane(timeline, ranges)
    for lane in np.unique(range_lane).tolist():
        mine = np.flatnonzero(call_lane == lane)
        mine = mine[np.argsort(events.start_ns[calls[mine]], kind="stable")]
        own = ranges[range_lane == lane]
        first = np.searchsorted(events.start_ns[calls[mine]], events.start_ns[own], side="left")
        last = np.searchsorted(events.start_ns[calls[mine]], events.end_ns[own], side="right")
        count = last - first
        place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
        holder, held = np.repeat(own, count), mine[place]
        inside = events.end_ns[calls[held]] <= events.end_ns[holder]
        pair_range.append(holder[inside])
        pair_work.append(work[held[inside]])
    return _projection(timeline, np.concatenate(pair_range), np.concatenate(pair_work))


def _lane(timeline: Timeline, rows: Rows) -> Column:
    return (timeline.events.process[rows].astype(np.int64) << 32) + timeline.events.thread[rows]


def _projection(timeline: Timeline, pair_range: Rows, pair_work: Rows) -> Projection:
    order = np.argsort(pair_range, kind="stable")
    pair_range, pair_work = pair_range[order], pair_work[order]
    ranges, first, count = np.unique(pair_range, return_index=True, return_counts=True)
    start, end = timeline.events.start_ns[pair_work], timeline.events.end_ns[pair_work]
    if len(ranges):
        start, end = np.minimum.reduceat(start, first), np.maximum.reduceat(end, first)
    return Projection(ranges, start, end, count, pair_range, pair_work)


def innermost_range(timeline: Timeline, projection: Projection) -> Rows:
    """For each row of the table that is device work, the last-starting range that launched it; -1 for all else."""
    found = np.full(len(timeline), ABSENT, np.intp)
    found[projection.pair_work] = (
        projection.pair_range
    )  # pairs are in order of the ranges' start, so the last one stays
    return found


def projected_sums(timeline: Timeline) -> tuple[ProjectedSum, ...]:
    """Ranges by name and style, the longest on the device first."""
    found = []
    projection = project(timeline)
    level, children = _nesting(timeline, projection.ranges)
    for kind, style in STYLES.items():
        chosen = timeline.events.kind[projection.ranges] == kind
        rows = projection.ranges[chosen]
        keys = timeline.events.name_id[rows]
        host, work = spreads(keys, timeline.events.duration_ns[rows]), spreads(keys, projection.work_count[chosen])
        levels, below = spreads(keys, level[chosen]), spreads(keys, children[chosen])
        for key, spread in spreads(keys, (projection.end_ns - projection.start_ns)[chosen]).items():
            found.append(
                ProjectedSum(
                    name=timeline.names[key],
                    style=style,
                    projected=spread,
                    range_total_ns=host[key].total,
                    work_count=work[key].total,
                    mean_level=levels[key].mean,
                    mean_child_count=below[key].mean,
                )
            )
    return tuple(sorted(found, key=lambda each: (-each.projected.total, each.name)))


def _nesting(timeline: Timeline, ranges: Rows) -> tuple[Column, Column]:
    """How deep each of these ranges lies within the others, and how many of them lie directly in it."""
    place = {row: index for index, row in enumerate(ranges.tolist())}
    level, children = np.zeros(len(ranges), np.int64), np.zeros(len(ranges), np.int64)
    for index, parent in enumerate(timeline.events.parent[ranges].tolist()):
        if parent in place:
            level[index] = level[place[parent]] + 1
            children[place[parent]] += 1
    return level, children


def range_kernel_sums(timeline: Timeline) -> tuple[RangeKernelSum, ...]:
    """Kernels by the range that launched them; those outside of all ranges first."""
    projection = project(timeline, (Kind.KERNEL,))
    kernels = timeline.rows(Kind.KERNEL)
    loose = np.setdiff1d(kernels, projection.pair_work)
    calls = launch_rows(timeline, loose)
    lost = np.where(calls >= 0, timeline.events.thread[calls.clip(min=0)], ABSENT)
    found = _kernel_groups(timeline, np.full(len(loose), ABSENT, np.intp), loose, lost)
    threads = timeline.events.thread[projection.pair_range]
    found += _kernel_groups(timeline, projection.pair_range, projection.pair_work, threads)
    return tuple(sorted(found, key=lambda each: (each.range, each.thread, -each.spread.total, each.kernel)))


def _kernel_groups(timeline: Timeline, ranges: Rows, kernels: Rows, threads: Column) -> list[RangeKernelSum]:
    """One sum for each name of a range (none for -1), process, thread and kernel."""
    events, held = timeline.events, ranges >= 0
    range_name = np.where(held, events.name_id[ranges], ABSENT)
    style = np.where(held, events.kind[ranges], ABSENT)
    columns = np.stack([range_name, style, events.process[kernels], threads, events.name_id[kernels]], axis=1)
    groups, key = np.unique(columns, axis=0, return_inverse=True)
    held_by = np.unique(np.stack([key.reshape(-1), ranges], axis=1), axis=0)[:, 0]
    range_count = np.bincount(held_by, minlength=len(groups))
    found = []
    for number, spread in spreads(key.reshape(-1), events.duration_ns[kernels]).items():
        name, kind, process, thread, kernel = groups[number].tolist()
        found.append(
            RangeKernelSum(
                range=timeline.names[name] if name >= 0 else "",
                style=STYLES[Kind(kind)] if kind >= 0 else "",
                process=process,
                thread=thread,
                range_count=int(range_count[number]) if name >= 0 else 0,
                kernel=timeline.names[kernel],
                spread=spread,
            )
        )
    return found

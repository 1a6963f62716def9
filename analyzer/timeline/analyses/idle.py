"""Gaps in a device's or stream's work: how long, why, and what stood on both sides.

Causes follow Holistic Trace Analysis: host wait if the call that launched the next operation began after the previous
operation had ended; kernel wait if it had been launched before and the gap is below a threshold (30 µs, which is what
that tool applies to traces in µs); other where it had been launched and the gap is longer. Two are ours: of a host
wait, the time in which the server held no request at all, and gaps whose next operation has no call in the capture.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from analyzer.domain.record import Record
from analyzer.timeline.analyses.busy import active, devices
from analyzer.timeline.analyses.launches import launch_rows
from analyzer.timeline.analyses.projection import innermost_range, project
from analyzer.timeline.kinds import GPU_KINDS, Kind
from analyzer.timeline.table import Column, Ns, Rows, Timeline

KERNEL_WAIT_NS = 30_000


class Cause(StrEnum):
    HOST_WAIT = "host wait"
    NO_REQUEST = "no request"
    KERNEL_WAIT = "kernel wait"
    OTHER = "other"
    UNKNOWN = "unknown"


class CauseTime(Record, frozen=True):
    cause: Cause
    time_ns: int
    gap_count: int


class Idle(Record, frozen=True):
    """The gaps of one device, or of one stream of it (-1: all streams together). Causes add up to ``idle_ns``."""

    device: int
    stream: int
    span_ns: int
    idle_ns: int
    causes: tuple[CauseTime, ...]

    def ratio(self, cause: Cause) -> float:
        """Part of the idle time that this cause has."""
        found = sum(each.time_ns for each in self.causes if each.cause is cause)
        return found / self.idle_ns if self.idle_ns else 0.0


class Side(Record, frozen=True):
    """What ended before a gap, or began after it. ``range`` is the innermost that launched it; -1 is not known."""

    row: int
    name: str
    kind: str
    range: str
    model: str
    batch: int
    step: int


class Gap(Record, frozen=True):
    device: int
    start_ns: int
    duration_ns: int
    cause: Cause
    before: Side
    after: Side


@dataclass(frozen=True, slots=True)
class Gaps:
    """Gaps as columns: the rows on both sides, the cause (a place in ``CAUSES``), the part without any request."""

    start_ns: Ns
    end_ns: Ns
    before: Rows
    after: Rows
    cause: Column
    no_request_ns: Ns


CAUSES = (Cause.HOST_WAIT, Cause.KERNEL_WAIT, Cause.OTHER, Cause.UNKNOWN)
_HOST, _KERNEL, _OTHER, _UNKNOWN = range(4)


def gap_columns(timeline: Timeline, work: Rows, kernel_wait_ns: int = KERNEL_WAIT_NS) -> Gaps:
    """The gaps between operations, which are rows in order of their start."""
    events = timeline.events
    reach, last = _reach(events.end_ns[work])
    place = np.flatnonzero(events.start_ns[work[1:]] > reach[:-1]) + 1 if len(work) else np.zeros(0, np.intp)
    before, after = work[last[place - 1]], work[place]
    start, end = events.end_ns[before], events.start_ns[after]
    calls = launch_rows(timeline, after)
    launched_late = events.start_ns[calls.clip(min=0)] > start
    waited = np.where(end - start < kernel_wait_ns, _KERNEL, _OTHER)
    cause = np.where(calls < 0, _UNKNOWN, np.where(launched_late, _HOST, waited))
    requests = timeline.rows(Kind.REQUEST)
    no_request = end - start - active(timeline, requests).covered_ns(start, end)
    if not len(requests):
        no_request = np.zeros(len(start), np.int64)
    return Gaps(start, end, before, after, cause, np.where(cause == _HOST, no_request, 0))


def _reach(end_ns: Ns) -> tuple[Ns, Rows]:
    """The latest end so far, and which operation it is of."""
    reach = np.maximum.accumulate(end_ns)
    is_new = np.concatenate([[True], reach[1:] > reach[:-1]]) if len(reach) else np.zeros(0, bool)
    return reach, np.maximum.accumulate(np.where(is_new, np.arange(len(reach)), 0))


def idle(timeline: Timeline, by_stream: bool = False, kernel_wait_ns: int = KERNEL_WAIT_NS) -> tuple[Idle, ...]:
    """Idle time by cause, for each device or for each stream."""
    events = timeline.events
    found = []
    for device in devices(timeline):
        work = timeline.rows(*GPU_KINDS)
        work = work[events.device[work] == device]
        streams = [int(stream) for stream in np.unique(events.stream[work])] if by_stream else [-1]
        for stream in streams:
            rows = work[events.stream[work] == stream] if by_stream else work
            span = int(events.end_ns[rows].max() - events.start_ns[rows].min())
            found.append(_idle(device, stream, span, gap_columns(timeline, rows, kernel_wait_ns)))
    return tuple(found)


def _idle(device: int, stream: int, span_ns: int, gaps: Gaps) -> Idle:
    length = gaps.end_ns - gaps.start_ns
    time = {cause: int((length - gaps.no_request_ns)[gaps.cause == place].sum()) for place, cause in enumerate(CAUSES)}
    count = {cause: int((gaps.cause == place).sum()) for place, cause in enumerate(CAUSES)}
    time[Cause.NO_REQUEST] = int(gaps.no_request_ns.sum())
    count[Cause.NO_REQUEST] = int((gaps.no_request_ns > 0).sum())
    causes = [CauseTime(cause=cause, time_ns=time[cause], gap_count=count[cause]) for cause in time if count[cause]]
    causes.sort(key=lambda each: -each.time_ns)
    return Idle(device=device, stream=stream, span_ns=span_ns, idle_ns=int(length.sum()), causes=tuple(causes))


def gaps(timeline: Timeline, floor_ns: int, limit: int = 50, kernel_wait_ns: int = KERNEL_WAIT_NS) -> tuple[Gap, ...]:
    """The longest gaps of any device that last at least ``floor_ns``, with what stands on both sides."""
    holder = innermost_range(timeline, project(timeline))
    found = []
    for device in devices(timeline):
        work = timeline.rows(*GPU_KINDS)
        columns = gap_columns(timeline, work[timeline.events.device[work] == device], kernel_wait_ns)
        length = columns.end_ns - columns.start_ns
        order = np.argsort(-length, kind="stable")
        for place in order[length[order] >= floor_ns][:limit].tolist():
            is_unasked = int(columns.no_request_ns[place]) * 2 > int(length[place])
            found.append(
                Gap(
                    device=device,
                    start_ns=int(columns.start_ns[place]),
                    duration_ns=int(length[place]),
                    cause=Cause.NO_REQUEST if is_unasked else CAUSES[int(columns.cause[place])],
                    before=_side(timeline, holder, int(columns.before[place])),
                    after=_side(timeline, holder, int(columns.after[place])),
                )
            )
    return tuple(sorted(found, key=lambda gap: (-gap.duration_ns, gap.start_ns))[:limit])


def _side(timeline: Timeline, holder: Rows, row: int) -> Side:
    outer = int(holder[row])
    return Side(
        row=row,
        name=timeline.name(row),
        kind=Kind(int(timeline.events.kind[row])).name.lower(),
        range=timeline.name(outer) if outer >= 0 else "",
        model=timeline.model(row),
        batch=int(timeline.events.batch[row]),
        step=int(timeline.events.step[row]),
    )

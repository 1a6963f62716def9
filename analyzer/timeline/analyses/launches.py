"""Host calls and the device work that they launch: the join of both, delays, and the device's queue over time."""

import numpy as np

from analyzer.domain.record import Record
from analyzer.timeline.analyses.depth import Depth, depth
from analyzer.timeline.analyses.spread import Spread, spread
from analyzer.timeline.kinds import GPU_KINDS, Kind
from analyzer.timeline.table import ABSENT, Column, Rows, Timeline


def launch_rows(timeline: Timeline, work: Rows) -> Rows:
    """The row of the API call that launched each of these device operations; -1 where the capture does not have it.

    Correlation ids are unique only within a process, so both are the key. Where a runtime call and the driver call
    inside it share an id, the outer one is taken, since the host's time is spent there.
    """
    events = timeline.events
    calls = timeline.rows(Kind.API)
    calls = calls[events.correlation[calls] >= 0]
    if not len(calls) or not len(work):
        return np.full(len(work), ABSENT, np.intp)
    keys = _keys(events.process[calls], events.correlation[calls])
    order = np.argsort(keys, kind="stable")
    keys, calls = keys[order], calls[order]
    wanted = _keys(events.process[work], events.correlation[work])
    place = np.searchsorted(keys, wanted, side="left").clip(max=len(keys) - 1)
    found = (keys[place] == wanted) & (events.correlation[work] >= 0)
    return np.where(found, calls[place], ABSENT)


def _keys(process: Column, correlation: Column) -> Column:
    """One number for both: a process id has 24 bits at most, a correlation id 32."""
    return (process.astype(np.int64) << 40) + correlation


class LaunchDelays(Record, frozen=True):
    """From the begin of each launching call to the begin of its operation, over all operations with a call.

    ``queued`` is from the end of the call, over those that began after it, as Nsight Systems counts queue time. The
    counts are those of Holistic Trace Analysis: operations shorter than their call, calls and delays above a limit.
    """

    operation_count: int
    without_call_count: int
    delay: Spread | None
    queued: Spread | None
    short_operation_count: int
    long_call_count: int
    long_delay_count: int


def launch_delays(timeline: Timeline, long_call_ns: int = 50_000, long_delay_ns: int = 100_000) -> LaunchDelays:
    """Operations of a graph share one launch; only the first of each counts."""
    events = timeline.events
    work = timeline.rows(*GPU_KINDS)
    calls = launch_rows(timeline, work)
    joined, first = np.unique(calls, return_index=True)
    calls, began = joined[joined >= 0], work[first[joined >= 0]]
    delay = (events.start_ns[began] - events.start_ns[calls]).clip(min=0)
    queued = events.start_ns[began] - events.end_ns[calls]
    queued = queued[queued > 0]
    call_time = events.duration_ns[calls]
    return LaunchDelays(
        operation_count=len(work),
        without_call_count=int((launch_rows(timeline, work) < 0).sum()),
        delay=spread(delay) if len(delay) else None,
        queued=spread(queued) if len(queued) else None,
        short_operation_count=int((events.duration_ns[began] < call_time).sum()),
        long_call_count=int((call_time > long_call_ns).sum()),
        long_delay_count=int((delay > long_delay_ns).sum()),
    )


def device_queues(timeline: Timeline) -> dict[tuple[int, int], Depth]:
    """For each device and stream, how many operations were launched and had not begun."""
    events = timeline.events
    work = timeline.rows(*GPU_KINDS)
    calls = launch_rows(timeline, work)
    work, calls = work[calls >= 0], calls[calls >= 0]
    keys = np.stack([events.device[work].astype(np.int64), events.stream[work].astype(np.int64)], axis=1)
    found = {}
    for device, stream in np.unique(keys, axis=0).tolist():
        mine = (keys == (device, stream)).all(axis=1)
        start = events.start_ns[calls[mine]]
        found[(device, stream)] = depth(start, np.maximum(events.start_ns[work[mine]], start))
    return found

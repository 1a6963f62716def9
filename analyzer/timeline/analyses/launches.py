"""Host calls and the device work that they launch: the join of both, delays, and the device's queue over time."""

import numpy as np

from analyzer.timeline.table import ABSENT, Column, Kind, Rows, Timeline


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

"""A timeline cut down to a part of its time, such as the measured part of a run without its warm-up."""

from dataclasses import fields, replace

import numpy as np

from analyzer.errors import InputError
from analyzer.timeline.table import ABSENT, Counters, Events, Timeline


def within(timeline: Timeline, start_ns: int, end_ns: int) -> Timeline:
    """Events that begin in the window, samples that lie in it; edges, names and all else stay."""
    begin = timeline.events.start_ns
    rows = np.flatnonzero((begin >= start_ns) & (begin < end_ns))
    columns = {each.name: getattr(timeline.events, each.name)[rows] for each in fields(Events)}
    place = np.full(len(timeline), ABSENT, np.int32)
    place[rows] = np.arange(len(rows), dtype=np.int32)
    parent = columns["parent"]
    columns["parent"] = np.where(parent >= 0, place[parent], ABSENT).astype(np.int32)
    counters = timeline.counters
    kept = (counters.time_ns >= start_ns) & (counters.time_ns < end_ns)
    samples = Counters(counters.series, counters.series_id[kept], counters.time_ns[kept], counters.value[kept])
    return replace(timeline, events=Events(**columns), counters=samples)


def extent(timeline: Timeline, name: str) -> tuple[int, int]:
    """From the begin of the first event of this name to the end of the last."""
    if name not in timeline.names:
        raise InputError(f"the timeline has no event named {name!r}; 'analyze' lists the ranges")
    rows = np.flatnonzero(timeline.events.name_id == timeline.names.index(name))
    if not len(rows):
        raise InputError(f"the timeline has no event named {name!r}; 'analyze' lists the ranges")
    return int(timeline.events.start_ns[rows].min()), int(timeline.events.end_ns[rows].max())

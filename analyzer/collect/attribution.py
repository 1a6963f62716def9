"""Whose work a foreign profiler saw: its calls and kernels are given to the batches of the runtime's own spans.

A call or an operator belongs to the batch that was under way on its thread, and a kernel to the call of its
correlation id. The two clocks meet in wall time, to some microseconds only; where the profiler saw our NVTX ranges too,
the same batches stand in both and their difference is taken out first.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from analyzer.timeline.kinds import GPU_KINDS, Kind
from analyzer.timeline.table import ABSENT, Events, Rows, Timeline

_BATCH_RANGE = ":batch"  # of the domain of its model
_NEAR_NS = 5_000_000
"""Ranges further from a batch than this are of another one."""

_PROCESS_SHIFT = 40  # correlation ids are unique within a process, and have 32 bits

_ON_THREADS = (Kind.API, Kind.SYNC, Kind.OPERATOR, Kind.RANGE)

Ns = npt.NDArray[np.int64]


def aligned(foreign: Timeline, own: Timeline, shift_ns: int) -> int:
    """``shift_ns``, which takes times of ``foreign`` to times of ``own``, corrected by the batches that both saw."""
    names = [place for place, name in enumerate(foreign.names) if name.endswith(_BATCH_RANGE)]
    ranges = foreign.rows(Kind.RANGE)
    ranges = ranges[np.isin(foreign.events.name_id[ranges], names)]
    differences = [
        _differences(foreign.events.start_ns[theirs] + shift_ns, own.events.start_ns[ours])
        for thread, ours in _batches_of(own).items()
        if len(theirs := ranges[foreign.events.thread[ranges] == thread])
    ]
    near = np.concatenate(differences) if differences else np.zeros(0, np.int64)
    return shift_ns + int(np.median(near)) if len(near) else shift_ns


def attributed(timeline: Timeline) -> Timeline:
    """With batch, model and instance on each call, operator, range and piece of device work that lacks them."""
    events = timeline.events
    batch = events.batch.copy()
    calls = timeline.rows(*_ON_THREADS)
    calls = calls[batch[calls] == ABSENT]
    batches = timeline.rows(Kind.BATCH)
    for thread, rows in _batches_of(timeline).items():
        mine = calls[events.thread[calls] == thread]
        batch[mine] = _under_way(events, rows, events.start_ns[mine])
    work = timeline.rows(*GPU_KINDS)
    work = work[batch[work] == ABSENT]
    batch[work] = _of_call(events, work, calls, batch)
    given = np.concatenate([calls, work])
    given = given[batch[given] != ABSENT]
    places = dict(zip(events.batch[batches].tolist(), batches.tolist()))
    owner = np.array([places[number] for number in batch[given].tolist()], np.intp)
    model, instance = events.model_id.copy(), events.instance.copy()
    model[given], instance[given] = events.model_id[owner], events.instance[owner]
    return replace(timeline, events=replace(events, batch=batch, model_id=model, instance=instance))


def _batches_of(timeline: Timeline) -> dict[int, Rows]:
    """The batches of each thread, in order of their start."""
    rows = timeline.rows(Kind.BATCH)
    threads = timeline.events.thread[rows]
    return {int(thread): rows[threads == thread] for thread in np.unique(threads) if thread > 0}


def _differences(theirs: Ns, ours: Ns) -> Ns:
    """From each of theirs to the nearest of ours, where one is near. Both in order."""
    place = np.clip(np.searchsorted(ours, theirs), 1, max(len(ours) - 1, 1))
    before, after = ours[place - 1], ours[np.minimum(place, len(ours) - 1)]
    nearest = np.where(theirs - before <= after - theirs, before, after)
    found = nearest - theirs
    return found[np.abs(found) <= _NEAR_NS]


def _under_way(events: Events, batches: Rows, times: Ns) -> Ns:
    """The batch that lasts at each time; ABSENT between batches."""
    place = np.searchsorted(events.start_ns[batches], times, side="right") - 1
    row = batches[np.maximum(place, 0)]
    inside = (place >= 0) & (times <= events.end_ns[row])
    return np.where(inside, events.batch[row], ABSENT)


def _of_call(events: Events, work: Rows, calls: Rows, batch: Ns) -> Ns:
    """The batch of the call that each piece of work has its correlation id of."""
    calls = calls[events.correlation[calls] != ABSENT]
    if not len(calls):
        return np.full(len(work), ABSENT, np.int64)
    keys = (events.process.astype(np.int64) << _PROCESS_SHIFT) | events.correlation
    ordered = calls[np.argsort(keys[calls], kind="stable")]
    place = np.minimum(np.searchsorted(keys[ordered], keys[work]), len(ordered) - 1)
    call = ordered[place]
    return np.where(keys[call] == keys[work], batch[call], ABSENT)

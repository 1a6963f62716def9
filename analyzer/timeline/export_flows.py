"""Which event leads to which: the arrows of a viewer, from a client's request to the kernels of its batch."""

import numpy as np

from analyzer.timeline.analyses.launches import launch_rows
from analyzer.timeline.kinds import GPU_KINDS, Kind, Relation
from analyzer.timeline.table import ABSENT, Column, Rows, Timeline

Pairs = tuple[Rows, Rows]


def flows(timeline: Timeline) -> Pairs:
    """Rows that an arrow leaves and rows that it reaches.

    Client's request to server's request, request to batch or to the request it makes, batch to the first call that
    works for it, call to the device's work. Without calls the arrow goes from the batch to its first work.
    """
    requests, batches = _by_id(timeline, Kind.REQUEST, "request"), _by_id(timeline, Kind.BATCH, "batch")
    clients = timeline.rows(Kind.CLIENT_REQUEST)
    arrows = [_known(clients, _found(requests, timeline.events.request[clients]))]
    made = timeline.edges.of(Relation.REQUEST_CHILD)
    arrows.append(_known(_found(requests, made[0]), _found(requests, made[1])))
    joined = timeline.edges.of(Relation.REQUEST_BATCH)
    arrows.append(_known(_found(requests, joined[0]), _found(batches, joined[1])))
    arrows.extend(_work(timeline, batches))
    return np.concatenate([each[0] for each in arrows]), np.concatenate([each[1] for each in arrows])


def _work(timeline: Timeline, batches: tuple[Column, Rows]) -> list[Pairs]:
    work = timeline.rows(*GPU_KINDS)
    calls = launch_rows(timeline, work)
    first = np.where(calls >= 0, calls, work)
    of_batch = timeline.events.batch[work]
    of_batch, first = of_batch[of_batch >= 0], first[of_batch >= 0]
    order = np.lexsort((first, of_batch))  # rows are in order of time
    ids, place = np.unique(of_batch[order], return_index=True)
    return [_known(_found(batches, ids), first[order][place]), _known(calls, work)]


def _by_id(timeline: Timeline, kind: Kind, column: str) -> tuple[Column, Rows]:
    """Ids in order, and the first row of each."""
    rows = timeline.rows(kind)
    ids = getattr(timeline.events, column)[rows]
    known, place = np.unique(ids[ids >= 0], return_index=True)
    return known, rows[ids >= 0][place]


def _found(table: tuple[Column, Rows], ids: Column) -> Rows:
    known, rows = table
    if not len(known):
        return np.full(len(ids), ABSENT, np.intp)
    place = np.searchsorted(known, ids).clip(max=len(known) - 1)
    return np.where(known[place] == ids, rows[place], ABSENT)


def _known(source: Rows, target: Rows) -> Pairs:
    both = (source >= 0) & (target >= 0)
    return source[both], target[both]

"""Which requests of a timeline stand for the others: the one of median length, and those around it."""

import numpy as np

from analyzer.timeline.kinds import Kind, Relation
from analyzer.timeline.table import Rows, Timeline


def root_rows(timeline: Timeline) -> Rows:
    """Requests as the server saw them, without those made on behalf of others; else as clients saw them."""
    rows = timeline.rows(Kind.REQUEST)
    rows = rows if len(rows) else timeline.rows(Kind.CLIENT_REQUEST)
    children = timeline.edges.of(Relation.REQUEST_CHILD)[1]
    ids = timeline.events.request[rows]
    kept: Rows = rows[(ids >= 0) & ~np.isin(ids, children)]
    return kept


def median_row(timeline: Timeline) -> int | None:
    """The request whose length is nearest to the median; of several the one nearest to the middle of the window."""
    rows = root_rows(timeline)
    if not len(rows):
        return None
    took = timeline.events.duration_ns[rows]
    off = np.abs(took - np.median(took))
    place = np.abs(np.arange(len(rows)) - len(rows) / 2)
    return int(rows[np.lexsort((place, off))[0]])


def median_request(timeline: Timeline) -> int | None:
    row = median_row(timeline)
    return None if row is None else int(timeline.events.request[row])


def around_median(timeline: Timeline, count: int) -> Rows:
    """So many requests that came one after another, the one of median length in their middle; in order of arrival."""
    middle = median_row(timeline)
    rows = root_rows(timeline)
    if middle is None:
        return rows
    place = int(np.flatnonzero(rows == middle)[0])
    first = max(0, min(place - count // 2, len(rows) - count))
    return rows[first : first + count]

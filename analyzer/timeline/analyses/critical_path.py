"""What one request waited for: its time cut into pieces that follow each other, from its begin to its end.

Walking back from the end, the piece before each moment is the one that ended last; where nothing of the request ran,
the time is a wait. So the pieces add up to the request's time, and work beside the path is left out.
"""

import numpy as np

from analyzer.domain.record import Record
from analyzer.errors import InputError
from analyzer.timeline.analyses.busy import active
from analyzer.timeline.kinds import GPU_KINDS, Kind, Relation
from analyzer.timeline.table import ABSENT, Rows, Timeline

OUTSIDE = "client and network"


class Piece(Record, frozen=True):
    """``name`` is the stage's, or says what a wait lies between. ``gpu_ns``: in it the batch had work on a GPU."""

    name: str
    start_ns: int
    duration_ns: int
    is_wait: bool
    model: str = ""
    instance: int = ABSENT
    batch: int = ABSENT
    step: int = ABSENT
    row: int = ABSENT
    gpu_ns: int = 0


class CriticalPath(Record, frozen=True):
    """``standing`` says which of all it is, such as the slowest; empty where it was asked for by its id."""

    request: int
    model: str
    start_ns: int
    duration_ns: int
    pieces: tuple[Piece, ...]
    standing: str = ""


def slowest(timeline: Timeline, count: int = 1) -> list[int]:
    """Ids of the requests that took longest; those made on behalf of others don't count."""
    rows = timeline.rows(Kind.CLIENT_REQUEST)
    rows = rows if len(rows) else timeline.rows(Kind.REQUEST)
    children = timeline.edges.of(Relation.REQUEST_CHILD)[1]
    ids = timeline.events.request[rows]
    rows = rows[(ids >= 0) & ~np.isin(ids, children)]
    order = np.argsort(-timeline.events.duration_ns[rows], kind="stable")[:count]
    found: list[int] = timeline.events.request[rows[order]].tolist()
    return found


def critical_path(timeline: Timeline, request: int) -> CriticalPath:
    events = timeline.events
    own = np.flatnonzero(events.request == request)
    roots = own[np.isin(events.kind[own], (Kind.CLIENT_REQUEST, Kind.REQUEST))]
    if not len(roots):
        raise InputError(f"the timeline has no request {request}; 'analyze' lists the slowest ones")
    root = int(roots[np.argmax(events.duration_ns[roots])])
    leaves = _leaves(timeline, request)
    pieces = _walk(timeline, leaves, int(events.start_ns[root]), int(events.end_ns[root]))
    if events.kind[root] == Kind.CLIENT_REQUEST:
        pieces = [_renamed(piece, place, len(pieces)) for place, piece in enumerate(pieces)]
    return CriticalPath(
        request=request,
        model=timeline.model(root),
        start_ns=int(events.start_ns[root]),
        duration_ns=int(events.duration_ns[root]),
        pieces=tuple(pieces),
    )


def _leaves(timeline: Timeline, request: int) -> Rows:
    """Rows that the path can be made of: stages, and whatever of batches and steps has no stages in it."""
    events = timeline.events
    requests = _with_children(timeline, request)
    sources, batches = timeline.edges.of(Relation.REQUEST_BATCH)
    mine = np.unique(batches[np.isin(sources, requests)])
    of_request = np.isin(events.request, requests)
    of_batch = np.isin(events.batch, mine) & (events.batch >= 0)
    stages = np.flatnonzero((events.kind == Kind.STAGE) & (of_request | of_batch))
    chosen = stages
    for kind, belongs in ((Kind.BATCH, of_batch), (Kind.STEP, of_request), (Kind.REQUEST, of_request)):
        rows = np.flatnonzero(
            (events.kind == kind) & belongs & (events.request != request if kind == Kind.REQUEST else True)
        )
        covered = active(timeline, chosen).covered_ns(events.start_ns[rows], events.end_ns[rows])
        chosen = np.concatenate([chosen, rows[covered == 0]])
    return chosen[events.duration_ns[chosen] > 0]


def _with_children(timeline: Timeline, request: int) -> list[int]:
    parents, children = timeline.edges.of(Relation.REQUEST_CHILD)
    found, fresh = [request], [request]
    while fresh:
        below = np.unique(children[np.isin(parents, fresh)]).tolist()
        fresh = [child for child in below if child not in found]
        found += fresh
    return found


def _walk(timeline: Timeline, leaves: Rows, begin_ns: int, end_ns: int) -> list[Piece]:
    events = timeline.events
    pieces: list[Piece] = []
    at, after = end_ns, ""
    while at > begin_ns:
        open_leaves = leaves[(events.start_ns[leaves] < at) & (events.end_ns[leaves] > begin_ns)]
        if not len(open_leaves):
            pieces.append(_wait(begin_ns, at, "", after))
            break
        ended = np.minimum(events.end_ns[open_leaves], at)
        row = int(open_leaves[np.lexsort((events.start_ns[open_leaves], -ended))[0]])
        reached = int(min(events.end_ns[row], at))
        name = timeline.name(row)
        if reached < at:
            pieces.append(_wait(reached, at, name, after))
        start = max(int(events.start_ns[row]), begin_ns)
        pieces.append(_piece(timeline, row, start, reached))
        at, after = start, name
        leaves = leaves[leaves != row]
    return pieces[::-1]


def _wait(start_ns: int, end_ns: int, before: str, after: str) -> Piece:
    name = f"between {before} and {after}" if before and after else f"before {after}" if after else f"after {before}"
    return Piece(
        name=name if before or after else "not known", start_ns=start_ns, duration_ns=end_ns - start_ns, is_wait=True
    )


def _piece(timeline: Timeline, row: int, start_ns: int, end_ns: int) -> Piece:
    events = timeline.events
    batch = int(events.batch[row])
    work = timeline.rows(*GPU_KINDS)
    work = work[(events.batch[work] == batch) & (batch >= 0)]
    gpu = active(timeline, work).covered_ns(np.array([start_ns]), np.array([end_ns]))
    return Piece(
        name=timeline.name(row),
        start_ns=start_ns,
        duration_ns=end_ns - start_ns,
        is_wait=False,
        model=timeline.model(row),
        instance=int(events.instance[row]),
        batch=batch,
        step=int(events.step[row]),
        row=row,
        gpu_ns=int(gpu[0]),
    )


def _renamed(piece: Piece, place: int, count: int) -> Piece:
    """Before the first and after the last known piece, a request is with the client and the network."""
    is_edge = piece.is_wait and place in (0, count - 1)
    if not is_edge:
        return piece
    return Piece(name=OUTSIDE, start_ns=piece.start_ns, duration_ns=piece.duration_ns, is_wait=True)

"""What a server did, by the names that the runtime's NVTX ranges have, so that it compares with a capture of those."""

import numpy as np

from analyzer.timeline.analyses.spread import Spread, spreads
from analyzer.timeline.analyses.sums import range_sums
from analyzer.timeline.kinds import Kind
from analyzer.timeline.table import Rows, Timeline

_WHOLE = {Kind.REQUEST: "request", Kind.BATCH: "batch", Kind.CLIENT_REQUEST: "client request"}
_PARTS = (Kind.STAGE, Kind.STEP)
"""These have names of their own."""


def range_spreads(timeline: Timeline) -> dict[str, Spread]:
    """Ranges by name, with the style behind it where both styles have it; then requests, batches, steps and stages.

    Where a capture has our ranges and our spans of the same, the ranges count.
    """
    found: dict[str, Spread] = {}
    for each in range_sums(timeline):
        found[f"{each.name} ({each.style})" if each.name in found else each.name] = each.spread
    for kind in (*_WHOLE, *_PARTS):
        for name, figures in _named(timeline, kind).items():
            found.setdefault(name, figures)
    return found


def _named(timeline: Timeline, kind: Kind) -> dict[str, Spread]:
    events = timeline.events
    rows = timeline.rows(kind)
    model = events.model_id[rows]
    if kind is Kind.STEP:
        model = _models_of_requests(timeline, rows)
    keys = ((model.astype(np.int64) + 1) << 32) + (events.name_id[rows] if kind in _PARTS else 0)
    return {
        _name(timeline, (key >> 32) - 1, _WHOLE.get(kind) or timeline.names[key & 0xFFFFFFFF]): figures
        for key, figures in spreads(keys, events.duration_ns[rows]).items()
    }


def _name(timeline: Timeline, model: int, what: str) -> str:
    return f"{timeline.names[model]}:{what}" if model >= 0 else what


def _models_of_requests(timeline: Timeline, steps: Rows) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """A step is one of the ensemble's: its request's model, not the one that it calls."""
    events = timeline.events
    requests = timeline.rows(Kind.REQUEST)
    model = dict(zip(events.request[requests].tolist(), events.model_id[requests].tolist(), strict=True))
    return np.array([model.get(request, -1) for request in events.request[steps].tolist()], np.int64)

"""The order in which a reader expects models and stages: as a request meets them."""

import numpy as np

from analyzer.timeline.kinds import Kind
from analyzer.timeline.table import Timeline

_STAGES = ("queue", "compute_input", "compute_infer", "compute_output")


def model_order(timeline: Timeline) -> dict[str, int]:
    """Steps of ensembles as they follow each other in the usual request, then the other models by name."""
    events = timeline.events
    rows = timeline.rows(Kind.STEP)
    rows = rows[events.request[rows] >= 0]
    rows = rows[np.argsort(events.request[rows], kind="stable")]  # of each request in order of start
    first = np.searchsorted(events.request[rows], events.request[rows], side="left")
    place = np.arange(len(rows)) - first
    models = events.model_id[rows]
    mean = {timeline.names[each]: float(place[models == each].mean()) for each in np.unique(models[models >= 0])}
    others = {timeline.names[each] for each in np.unique(events.model_id[events.model_id >= 0])} - mean.keys()
    ordered = [*sorted(mean, key=lambda name: (mean[name], name)), *sorted(others)]
    return {name: number for number, name in enumerate(ordered)}


def stage_order(stage: str) -> tuple[int, str]:
    """Those of every batch first, in their order in time."""
    return (_STAGES.index(stage) if stage in _STAGES else len(_STAGES), stage)

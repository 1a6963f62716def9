"""Where a server's time goes: per model, instance, stage and step, the gaps between steps, how batches were formed."""

from dataclasses import dataclass

import numpy as np

from analyzer.domain.record import Record
from analyzer.timeline.analyses.busy import active
from analyzer.timeline.analyses.depth import Depth, depth
from analyzer.timeline.analyses.order import model_order, stage_order
from analyzer.timeline.analyses.spread import Spread, spread, spreads
from analyzer.timeline.kinds import COMPUTE_KINDS, COPY_KINDS, GPU_KINDS, Kind, Relation
from analyzer.timeline.table import ABSENT, Column, Ns, Rows, Timeline

QUEUE = "queue"


class InstanceTime(Record, frozen=True):
    """One instance. ``row_count`` is None where batches don't say their size; GPU times are of work known to be its."""

    model: str
    instance: int
    batch_count: int
    row_count: int | None
    execute: Spread
    busy_ns: int
    kernels_ns: int
    copies_ns: int


class StageTime(Record, frozen=True):
    model: str
    stage: str
    spread: Spread


class StepGap(Record, frozen=True):
    """Between two consecutive steps of a request. ``gpu_idle_ns`` is the part of all these gaps without GPU work."""

    before: str
    after: str
    gap: Spread
    gpu_idle_ns: int | None


class BatchForming(Record, frozen=True):
    """Batches of one model. Waits are of the request that waited longest, and of the one that completed the batch."""

    model: str
    batch_count: int
    mean_size: float | None
    batches_by_size: dict[int, int]
    mean_request_count: float | None
    oldest_wait: Spread | None
    newest_wait: Spread | None
    mean_depth_at_form: float | None


@dataclass(frozen=True, slots=True)
class BatchColumns:
    """Batches as columns, in order of their start; -1 where it is not known."""

    rows: Rows
    request_count: Column
    oldest_wait_ns: Ns
    newest_wait_ns: Ns
    depth_at_form: Column


def instance_times(timeline: Timeline) -> tuple[InstanceTime, ...]:
    events = timeline.events
    rows = timeline.rows(Kind.BATCH)
    found = []
    for model, instance in _pairs(events.model_id[rows], events.instance[rows]):
        mine = rows[(events.model_id[rows] == model) & (events.instance[rows] == instance)]
        size = events.size[mine]
        found.append(
            InstanceTime(
                model=timeline.names[model] if model >= 0 else "",
                instance=instance,
                batch_count=len(mine),
                row_count=int(size.sum()) if (size >= 0).all() else None,
                execute=spread(events.duration_ns[mine]),
                busy_ns=active(timeline, mine).total_ns,
                kernels_ns=_device_time(timeline, model, instance, COMPUTE_KINDS),
                copies_ns=_device_time(timeline, model, instance, COPY_KINDS),
            )
        )
    place = model_order(timeline)
    return tuple(sorted(found, key=lambda each: (place.get(each.model, -1), each.instance)))


def _pairs(one: Column, other: Column) -> list[list[int]]:
    pairs: list[list[int]] = np.unique(np.stack([one, other], axis=1), axis=0).tolist()
    return pairs


def _device_time(timeline: Timeline, model: int, instance: int, kinds: tuple[Kind, ...]) -> int:
    rows = timeline.rows(*kinds)
    events = timeline.events
    return active(timeline, rows[(events.model_id[rows] == model) & (events.instance[rows] == instance)]).total_ns


def stage_times(timeline: Timeline) -> tuple[StageTime, ...]:
    """Stages by model, both as a request meets them."""
    return _by_model(timeline, timeline.rows(Kind.STAGE))


def step_times(timeline: Timeline) -> tuple[StageTime, ...]:
    """Steps of ensembles by the model that each calls."""
    return _by_model(timeline, timeline.rows(Kind.STEP))


def _by_model(timeline: Timeline, rows: Rows) -> tuple[StageTime, ...]:
    events = timeline.events
    keys = ((events.model_id[rows].astype(np.int64) + 1) << 32) + events.name_id[rows]
    found = []
    for key, figures in spreads(keys, events.duration_ns[rows]).items():
        model = (key >> 32) - 1
        name = timeline.names[model] if model >= 0 else ""
        found.append(StageTime(model=name, stage=timeline.names[key & 0xFFFFFFFF], spread=figures))
    place = model_order(timeline)
    return tuple(sorted(found, key=lambda each: (place.get(each.model, -1), stage_order(each.stage))))


def step_gaps(timeline: Timeline) -> tuple[StepGap, ...]:
    """Gaps between consecutive steps of each request; without steps, between ranges that follow each other in a range.

    A step is over when its batch is: what its answer then takes to reach the next step is part of the gap. A step that
    begins before an earlier one has ended leaves no gap.
    """
    events = timeline.events
    rows, holder, ends = timeline.rows(Kind.STEP), events.request, events.end_ns
    if len(rows):
        ends = _executed(timeline, rows)
    else:
        rows, holder = timeline.rows(Kind.RANGE), events.parent.astype(np.int64)
    rows = rows[holder[rows] >= 0]
    rows = rows[np.lexsort((events.start_ns[rows], holder[rows]))]
    before, after = _neighbours(holder[rows], ends[rows], events.start_ns[rows])
    before, after = rows[before], rows[after]
    start, end = ends[before], events.start_ns[after]
    work = active(timeline, timeline.rows(*GPU_KINDS))
    idle = end - start - work.covered_ns(start, end) if timeline.has_gpu_activity else None
    keys = (events.name_id[before].astype(np.int64) << 32) + events.name_id[after]
    idle_by_key = {} if idle is None else spreads(keys, idle)
    found = []
    for key, figures in spreads(keys, end - start).items():
        first, second = timeline.names[key >> 32], timeline.names[key & 0xFFFFFFFF]
        gpu_idle = idle_by_key[key].total if idle_by_key else None
        found.append(StepGap(before=first, after=second, gap=figures, gpu_idle_ns=gpu_idle))
    return tuple(sorted(found, key=lambda each: -each.gap.total))


def _executed(timeline: Timeline, steps: Rows) -> Ns:
    """The ends of all events, those of steps moved to the end of their last batch where that is known."""
    events = timeline.events
    rows = timeline.rows(Kind.BATCH)
    ended = dict(zip(events.batch[rows].tolist(), events.end_ns[rows].tolist(), strict=True))
    last: dict[int, int] = {}
    for batch, step in zip(*(ids.tolist() for ids in timeline.edges.of(Relation.BATCH_STEP)), strict=True):
        last[step] = max(last.get(step, 0), ended.get(batch, 0))
    ends = events.end_ns.copy()
    known = np.array([last.get(step, 0) for step in events.step[steps].tolist()], np.int64)
    moved = (known > events.start_ns[steps]) & (known < ends[steps])
    ends[steps[moved]] = known[moved]
    return ends


def _neighbours(holder: Column, end_ns: Ns, start_ns: Ns) -> tuple[Rows, Rows]:
    """Places of events that begin when all earlier ones of their holder have ended, and of the one that ended last."""
    before, after = [], []
    last = -1
    for place in range(len(holder)):
        if last >= 0 and holder[last] == holder[place]:
            if start_ns[place] > end_ns[last]:
                before.append(last)
                after.append(place)
            if end_ns[place] >= end_ns[last]:
                last = place
        else:
            last = place
    return np.array(before, np.intp), np.array(after, np.intp)


def queue_depths(timeline: Timeline) -> dict[str, Depth]:
    """By model, how many requests waited in its queue."""
    events = timeline.events
    rows = _queue_rows(timeline)
    found = {
        timeline.names[model] if model >= 0 else "": depth(events.start_ns[mine], events.end_ns[mine])
        for model in np.unique(events.model_id[rows]).tolist()
        for mine in [rows[events.model_id[rows] == model]]
    }
    place = model_order(timeline)
    return {name: found[name] for name in sorted(found, key=lambda each: place.get(each, -1))}


def requests_in_flight(timeline: Timeline) -> Depth:
    """Of clients: what an ensemble asks of its models is part of one of these."""
    rows = timeline.rows(Kind.REQUEST)
    children = timeline.edges.of(Relation.REQUEST_CHILD)[1]
    rows = rows[~np.isin(timeline.events.request[rows], children)]
    return depth(timeline.events.start_ns[rows], timeline.events.end_ns[rows])


def _queue_rows(timeline: Timeline) -> Rows:
    rows = timeline.rows(Kind.STAGE)
    is_queue = np.array([name == QUEUE for name in timeline.names] + [False])
    chosen: Rows = rows[is_queue[timeline.events.name_id[rows]]]
    return chosen


def batch_columns(timeline: Timeline) -> BatchColumns:
    """Each batch with its requests, joined by edges; a request's wait is from the begin of its queue stage."""
    events = timeline.events
    rows = timeline.rows(Kind.BATCH)
    requests, batches = timeline.edges.of(Relation.REQUEST_BATCH)
    order = np.argsort(batches, kind="stable")
    requests, batches = requests[order], batches[order]
    queued = _queued_since(timeline)
    count = np.full(len(rows), ABSENT, np.int64)
    oldest, newest, deep = count.copy(), count.copy(), count.copy()
    depths = queue_depths(timeline)
    for place, row in enumerate(rows.tolist()):
        first, last = np.searchsorted(batches, [events.batch[row], events.batch[row] + 1])
        begun = int(events.start_ns[row])
        since = [queued.get((int(request), int(events.model_id[row]))) for request in requests[first:last]]
        waits = [begun - each for each in since if each is not None]
        count[place] = last - first if len(batches) else ABSENT
        if waits:
            oldest[place], newest[place] = max(*waits, 0), max(min(waits), 0)
        model_depth = depths.get(timeline.model(row))
        if model_depth is not None:
            deep[place] = int(model_depth.at(np.array([begun - 1]))[0])
    return BatchColumns(rows, count, oldest, newest, deep)


def _queued_since(timeline: Timeline) -> dict[tuple[int, int], int]:
    rows = _queue_rows(timeline)
    events = timeline.events
    keys = zip(events.request[rows].tolist(), events.model_id[rows].tolist(), strict=True)
    return dict(zip(keys, events.start_ns[rows].tolist(), strict=True))


def batch_forming(timeline: Timeline) -> tuple[BatchForming, ...]:
    columns = batch_columns(timeline)
    models = timeline.events.model_id[columns.rows]
    found = [
        _forming(timeline, timeline.names[model] if model >= 0 else "", columns, models == model)
        for model in np.unique(models).tolist()
    ]
    place = model_order(timeline)
    return tuple(sorted(found, key=lambda each: place.get(each.model, -1)))


def _forming(timeline: Timeline, model: str, columns: BatchColumns, mine: Column) -> BatchForming:
    size = timeline.events.size[columns.rows[mine]]
    sizes, counts = np.unique(size[size >= 0], return_counts=True)
    known = {name: values[mine][values[mine] >= 0] for name, values in _figures(columns).items()}
    means = {name: float(values.mean()) if len(values) else None for name, values in known.items()}
    return BatchForming(
        model=model,
        batch_count=int(mine.sum()),
        mean_size=float(size[size >= 0].mean()) if len(sizes) else None,
        batches_by_size=dict(zip(sizes.tolist(), counts.tolist(), strict=True)),
        mean_request_count=means["requests"],
        oldest_wait=spread(known["oldest"]) if len(known["oldest"]) else None,
        newest_wait=spread(known["newest"]) if len(known["newest"]) else None,
        mean_depth_at_form=means["depth"],
    )


def _figures(columns: BatchColumns) -> dict[str, Column]:
    return {
        "requests": columns.request_count,
        "oldest": columns.oldest_wait_ns,
        "newest": columns.newest_wait_ns,
        "depth": columns.depth_at_form,
    }

"""What each model's queue and batches did, from the spans of a timeline or from the server's statistics alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from analyzer.domain.measurement import Measurement
from analyzer.timeline.analyses import serving
from analyzer.timeline.analyses.busy import active
from analyzer.timeline.intervals import Intervals, at_least
from analyzer.timeline.kinds import Kind
from analyzer.timeline.table import Column, Rows, Timeline
from perf_client.profile import ServerTimes


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """One model. None is "not known", as most things are without a timeline.

    ``free_wait_ns`` is the part of ``wait_ns`` in which an instance was free, so that only the batcher held requests
    back. ``wait_by_batch_ns`` is how long the oldest request of each batch waited, ``deep_ratio`` the part of the
    batches that left at least a batch of their own size behind in the queue. ``fixed_ratio`` is the part of a mean
    execution that does not grow with the batch.
    """

    model: str
    request_count: int
    wait_ns: float
    free_wait_ns: float | None
    busy_ratio: float
    instance_count: int
    batch_count: int
    mean_size: float | None
    mean_depth: float
    execute_ns: float
    fixed_ratio: float | None
    oldest_wait_ns: Column
    free_at_form: Column
    sizes: Column
    depth_at_form: Column
    rows: Rows


def from_timeline(timeline: Timeline, instances: Mapping[str, int | None]) -> tuple[ModelLoad, ...]:
    """Models that have batches, in order of their names' ids. Empty where the timeline has none."""
    columns = serving.batch_columns(timeline)
    ids = timeline.events.model_id[columns.rows]
    return tuple(
        _of_model(timeline, model, columns, ids == model, instances.get(timeline.names[model]))
        for model in np.unique(ids[ids >= 0]).tolist()
    )


def _of_model(
    timeline: Timeline, model: int, columns: serving.BatchColumns, mine: Column, known: int | None
) -> ModelLoad:
    events, name = timeline.events, timeline.names[model]
    rows = columns.rows[mine]
    count = max(known or 1, len(np.unique(events.instance[rows])))
    lanes = [active(timeline, rows[events.instance[rows] == lane]) for lane in np.unique(events.instance[rows])]
    all_busy = at_least(
        np.concatenate([lane.start_ns for lane in lanes]), np.concatenate([lane.end_ns for lane in lanes]), count
    )
    waits = _queue_rows(timeline, model)
    start, end = events.start_ns[waits], events.end_ns[waits]
    wait = int((end - start).sum())
    size = events.size[rows]
    depth = serving.queue_depths(timeline).get(name)
    return ModelLoad(
        model=name,
        request_count=len(waits),
        wait_ns=float(wait),
        free_wait_ns=float(wait - int(all_busy.covered_ns(start, end).sum())),
        busy_ratio=sum(lane.total_ns for lane in lanes) / max(count * (timeline.end_ns - timeline.start_ns), 1),
        instance_count=count,
        batch_count=len(rows),
        mean_size=float(size.mean()) if (size > 0).all() else None,
        mean_depth=depth.mean if depth is not None else 0.0,
        execute_ns=float(events.duration_ns[rows].mean()),
        fixed_ratio=_fixed_ratio(size, events.duration_ns[rows]),
        oldest_wait_ns=columns.oldest_wait_ns[mine],
        free_at_form=_was_free(all_busy, events.start_ns[rows], columns.oldest_wait_ns[mine]),
        sizes=size,
        depth_at_form=columns.depth_at_form[mine],
        rows=rows,
    )


def _queue_rows(timeline: Timeline, model: int) -> Rows:
    rows = timeline.rows(Kind.STAGE)
    queue = timeline.names.index(serving.QUEUE) if serving.QUEUE in timeline.names else -2
    chosen: Rows = rows[(timeline.events.name_id[rows] == queue) & (timeline.events.model_id[rows] == model)]
    return chosen


def _was_free(all_busy: Intervals, start_ns: Column, wait_ns: Column) -> Column:
    """Whether an instance was free for most of the time in which a batch's oldest request waited."""
    wait = wait_ns.clip(min=0)
    busy = all_busy.covered_ns(start_ns - wait, start_ns)
    return (wait > 0) & (busy * 2 < wait)


def _fixed_ratio(size: Column, took_ns: Column) -> float | None:
    """A straight line through execution times by batch size; None where all batches have one size."""
    if not len(size) or (size <= 0).any() or size.min() == size.max():
        return None
    slope, fixed = np.polyfit(size.astype(float), took_ns.astype(float), 1)
    return float(np.clip(fixed / max(fixed + slope * size.mean(), 1.0), 0.0, 1.0))


def from_statistics(measurement: Measurement, instances: Mapping[str, int | None]) -> tuple[ModelLoad, ...]:
    """From the growth of the server's counters over the counted window."""
    load = measurement.load
    window = load.counted_to_ns - load.counted_from_ns
    return tuple(
        _of_statistics(times, window, instances.get(times.model) or 1)
        for times in load.server
        if times.execution_count and times.success_count and window > 0
    )


def _of_statistics(times: ServerTimes, window_ns: int, count: int) -> ModelLoad:
    """Stage times are told for each request, so a mean batch took as long as a mean request."""
    execute = (times.compute_input_ns + times.compute_infer_ns + times.compute_output_ns) / times.success_count
    nothing = np.zeros(0, np.int64)
    return ModelLoad(
        model=times.model,
        request_count=times.success_count,
        wait_ns=float(times.queue_ns),
        free_wait_ns=None,
        busy_ratio=min(1.0, execute * times.execution_count / (count * window_ns)),
        instance_count=count,
        batch_count=times.execution_count,
        mean_size=times.inference_count / times.execution_count,
        mean_depth=times.queue_ns / window_ns,
        execute_ns=execute,
        fixed_ratio=None,
        oldest_wait_ns=nothing,
        free_at_form=nothing,
        sizes=nothing,
        depth_at_form=nothing,
        rows=nothing.astype(np.intp),
    )

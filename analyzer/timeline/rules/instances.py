"""The rule of instances that do not run side by side."""

from dataclasses import dataclass

import numpy as np

from analyzer.domain.finding import Finding, Ruling
from analyzer.domain.thresholds import Thresholds
from analyzer.timeline.analyses.busy import active
from analyzer.timeline.analyses.overlap import instance_overlap, stream_overlap
from analyzer.timeline.intervals import at_least
from analyzer.timeline.kinds import Kind
from analyzer.timeline.rules.case import Case, abstained, quiet
from analyzer.timeline.rules.loads import ModelLoad
from analyzer.timeline.table import Timeline


@dataclass(frozen=True, slots=True)
class Together:
    """How a model's instances get on. ``overlap_ratio`` is of kernels where they are known, else None."""

    load: ModelLoad
    slowdown: float
    source: str
    overlap_ratio: float | None


def serialised(case: Case, limits: Thresholds) -> Ruling:
    """R9: executions take about n times as long when n instances run, so that nothing is gained by them.

    On a GPU the kernels of the instances must also take turns. On the CPU an execution holds its instance whether it
    computes or waits for a lock, a core or the interpreter, so there the slowdown alone tells.
    """
    several = [load for load in case.loads if load.instance_count > 1]
    if not case.loads:
        return abstained("R9", "executions of each instance (spans of the runtime)")
    if not several:
        return quiet("R9", "no model has two instances")
    known = [each for load in several if (each := _together(case, load)) is not None]
    if not known:
        return abstained("R9", "how long an execution takes with one instance alone, here or in another measurement")
    found = [_ruling(case, each, limits) for each in known]
    findings = [each for each in found if isinstance(each, Finding)]
    return max(findings, key=lambda each: each.recoverable_ms) if findings else found[0]


def _together(case: Case, load: ModelLoad) -> Together | None:
    overlap = None if case.timeline is None else _kernel_overlap(case.timeline, load.model)
    own = None if case.timeline is None else _own_slowdown(case.timeline, load)
    if own is not None:
        return Together(load, own, "as one that runs alone in the same measurement", overlap)
    size = load.mean_size or 1.0
    like = [each for each in case.alone.get(load.model, ()) if 0.75 <= each.batch / size <= 1.33]
    if not like:
        return None
    nearest = min(like, key=lambda each: abs(each.batch - size))
    return Together(load, load.execute_ns / 1e6 / max(nearest.execute_ms, 1e-6), "as with one instance alone", overlap)


def _own_slowdown(timeline: Timeline, load: ModelLoad) -> float | None:
    """Executions that mostly had company against those that had none, of like size; None without enough of both."""
    events, rows = timeline.events, load.rows
    start, end = events.start_ns[rows], events.end_ns[rows]
    lanes = [active(timeline, rows[events.instance[rows] == lane]) for lane in np.unique(events.instance[rows])]
    crowd = at_least(np.concatenate([x.start_ns for x in lanes]), np.concatenate([x.end_ns for x in lanes]), 2)
    took = np.maximum(end - start, 1)
    company = crowd.covered_ns(start, end) / took
    size = events.size[rows].clip(min=1)
    usual = np.abs(size - np.median(size)) <= 0.25 * np.median(size)
    alone, beside = took[usual & (company < 0.1)], took[usual & (company > 0.9)]
    if len(alone) < 5 or len(beside) < 5:
        return None
    return float(np.median(beside) / np.median(alone))


def _kernel_overlap(timeline: Timeline, model: str) -> float | None:
    """Part of the time of its kernels in which two instances run some; by stream where instances aren't known."""
    if not timeline.has_gpu_activity:
        return None
    own = next((each for each in instance_overlap(timeline, Kind.KERNEL) if each.group == model), None)
    if own is not None and len(own.lanes) > 1:
        return own.shared_ratio
    streams = [each for each in stream_overlap(timeline) if len(each.lanes) > 1]
    return max((each.shared_ratio for each in streams), default=None)


def _ruling(case: Case, seen: Together, limits: Thresholds) -> Ruling:
    load = seen.load
    told = f"an execution of {load.model} takes {seen.slowdown:.2f} times as long {seen.source}"
    runs_together = seen.overlap_ratio is not None and seen.overlap_ratio >= limits.R9.overlap_ratio
    wanted = 1 + (limits.R9.slowdown - 1) * (load.instance_count - 1)
    if seen.slowdown < wanted or runs_together:
        shared = "" if seen.overlap_ratio is None else f"; kernels overlap for {seen.overlap_ratio:.0%}"
        return quiet("R9", f"{told}{shared}")
    lost = case.lost_by_requests(load.execute_ns * (1 - 1 / seen.slowdown) * max(load.request_count, load.batch_count))
    shared = "" if seen.overlap_ratio is None else f" and their kernels overlap for {seen.overlap_ratio:.1%} only"
    fewer = load.instance_count - 1
    return case.finding(
        "R9",
        lost,
        f"With {load.instance_count} instances {told}{shared}: they take turns.",
        {
            "slowdown": seen.slowdown,
            "instance_count": load.instance_count,
            **({} if seen.overlap_ratio is None else {"kernel_overlap_ratio": seen.overlap_ratio}),
        },
        action=f"Serve {load.model} with fewer instances (each costs memory), with fewer threads each, or put them on "
        "different GPUs; on one GPU let them share it through MPS or streams of their own.",
        change=f"instance_group [ {{ count: {fewer} }} ]",
        check="With fewer instances throughput stays and an execution gets faster.",
        model=load.model,
        rows=load.rows,
    )

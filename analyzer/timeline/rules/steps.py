"""Rules of ensembles: gaps between steps, and copies that the next step would not need."""

import numpy as np

from analyzer.domain.finding import Ruling
from analyzer.domain.thresholds import Thresholds
from analyzer.timeline.analyses.busy import active, devices
from analyzer.timeline.analyses.serving import StepGap, step_gaps
from analyzer.timeline.kinds import GPU_KINDS, CopyKind, Kind, Relation
from analyzer.timeline.rules.case import Case, abstained, quiet
from analyzer.timeline.rules.copying import busy_ratio, device_span
from analyzer.timeline.table import Column, Rows, Timeline

STEPS = "steps of an ensemble, or ranges that follow each other (spans of the runtime, or NVTX ranges)"


def step_gap(case: Case, limits: Thresholds) -> Ruling:
    """R1."""
    timeline = case.timeline
    if timeline is None or not len(timeline.rows(Kind.STEP, Kind.RANGE)):
        was_watched = timeline is not None and timeline.collected(Kind.STEP)
        return quiet("R1", "no requests went through an ensemble") if was_watched else abstained("R1", STEPS)
    held_ns, held_count = _holders(timeline)
    gaps = step_gaps(timeline)
    if not gaps or not held_ns:
        return quiet("R1", "no gap between two steps")
    total = sum(each.gap.total for each in gaps)
    share, worst = total / held_ns, gaps[0]
    if worst.gap.median <= limits.R1.gap_us * 1000 or share <= limits.R1.share_ratio:
        return quiet(
            "R1", f"the longest, {worst.before} to {worst.after}, is {_us(worst.gap.median)}; all are {share:.1%}"
        )
    is_ensemble = bool(len(timeline.rows(Kind.STEP)))
    lost = case.lost_by_requests(total) if is_ensemble else case.lost_by_span(total)
    return case.finding(
        "R1",
        lost,
        f"Between {worst.before} and {worst.after} nothing of the request runs for {_us(worst.gap.median)} (median); "
        f"all gaps between steps are {share:.0%} of the time of {held_count:,} "
        f"{'requests' if is_ensemble else 'ranges'}"
        f"{_idle(worst)}.",
        {"median_gap_us": worst.gap.median / 1e3, "gap_share_ratio": share, "gap_count": worst.gap.count},
        action="Put both steps into one model (fuse them), keep the tensors between them on the device, or give the "
        "server more cores, so that the next step is told sooner.",
        check="The gap between these two steps in `analyzer timeline analyze` falls, and p50 with it.",
        rows=timeline.rows(Kind.STEP),
    )


def _idle(gap: StepGap) -> str:
    if gap.gpu_idle_ns is None or not gap.gap.total:
        return ""
    return f"; the GPU has no work in {gap.gpu_idle_ns / gap.gap.total:.0%} of them"


def _holders(timeline: Timeline) -> tuple[int, int]:
    """Time and number of what holds the steps: requests with steps, or ranges with several ranges in them."""
    events = timeline.events
    steps = timeline.rows(Kind.STEP)
    if len(steps):
        rows = timeline.rows(Kind.REQUEST)
        rows = rows[np.isin(events.request[rows], events.request[steps])]
    else:
        inner = events.parent[timeline.rows(Kind.RANGE)]
        held, count = np.unique(inner[inner >= 0], return_counts=True)
        rows = held[count > 1].astype(np.intp)
    return int(events.duration_ns[rows].sum()), len(rows)


def copy_churn(case: Case, limits: Thresholds) -> Ruling:
    """R6."""
    timeline = case.timeline
    if timeline is None or not timeline.has_gpu_activity:
        return abstained("R6", "copies of a GPU")
    if timeline.collected(Kind.REQUEST) and not len(timeline.rows(Kind.STEP)):
        return quiet("R6", "no requests went through an ensemble")
    _, steps = timeline.edges.of(Relation.BATCH_STEP)
    copies = timeline.rows(Kind.MEMCPY)
    if not len(steps) or not (timeline.events.batch[copies] >= 0).any():
        return abstained("R6", "which batch and which step of an ensemble each copy belongs to")
    rows = copies[_is_between(timeline, copies)]
    span = max(device_span(timeline, device) for device in devices(timeline))
    busiest = max(busy_ratio(timeline, device) for device in devices(timeline))
    taken = active(timeline, rows).total_ns
    share = taken / max(span, 1)
    if share <= limits.R6.share_ratio:
        return quiet("R6", f"copies between steps on one device take {share:.1%} of its time")
    size = timeline.events.bytes[rows]
    return case.finding(
        "R6",
        case.lost_by_work(taken, span, busiest),
        f"{len(rows):,} copies ({size[size > 0].sum() / 2**20:.1f} MiB) leave a step whose successor runs on the same "
        f"GPU: {share:.1%} of the GPU's time.",
        {"copy_share_ratio": share, "copy_count": len(rows), "copy_ms": taken / 1e6},
        action="Hand the tensors on where they are: outputs bound to the device, so that the next step reads them "
        "there instead of from the host.",
        check="The DtoH and DtoD rows of the copy table get fewer by the number of steps.",
        rows=rows,
    )


def _is_between(timeline: Timeline, copies: Rows) -> Column:
    """Copies to the host or on the device, made by a step that is not its request's last one on that device."""
    events = timeline.events
    batches, steps = timeline.edges.of(Relation.BATCH_STEP)
    rows = timeline.rows(Kind.STEP)
    began = dict(zip(events.step[rows].tolist(), events.start_ns[rows].tolist(), strict=True))
    owner = dict(zip(events.step[rows].tolist(), events.request[rows].tolist(), strict=True))
    work = timeline.rows(*GPU_KINDS)
    device_of = dict(zip(events.batch[work].tolist(), events.device[work].tolist(), strict=True))
    last: dict[tuple[int, int], int] = {}
    for batch, step in zip(batches.tolist(), steps.tolist(), strict=True):
        if step in began and batch in device_of:
            key = (owner[step], device_of[batch])
            last[key] = max(last.get(key, 0), began[step])
    inner = {
        batch
        for batch, step in zip(batches.tolist(), steps.tolist(), strict=True)
        if step in began and began[step] < last.get((owner[step], device_of.get(batch, -1)), 0)
    }
    outward = np.isin(events.copy_kind[copies], (CopyKind.DEVICE_TO_HOST, CopyKind.DEVICE_TO_DEVICE))
    found: Column = outward & np.isin(events.batch[copies], sorted(inner))
    return found


def _us(value_ns: float) -> str:
    return f"{value_ns / 1e6:.2f} ms" if value_ns >= 1e6 else f"{value_ns / 1e3:.0f} µs"

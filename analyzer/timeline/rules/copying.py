"""Rules of copies between host and device."""

import numpy as np

from analyzer.domain.finding import Ruling
from analyzer.domain.thresholds import Thresholds
from analyzer.timeline.analyses.busy import active, device_rows, devices
from analyzer.timeline.analyses.copies import copy_matrix
from analyzer.timeline.intervals import subtract
from analyzer.timeline.kinds import COMPUTE_KINDS, GPU_KINDS, CopyKind, Kind, MemoryKind
from analyzer.timeline.rules.case import Case, abstained, quiet
from analyzer.timeline.table import Rows, Timeline

COPIES = "copies of a GPU (CUPTI, Nsight Systems or a PyTorch trace)"
_INWARD = (CopyKind.HOST_TO_DEVICE, CopyKind.UNIFIED_HOST_TO_DEVICE)


def host_to_device(case: Case, limits: Thresholds) -> Ruling:
    """R4."""
    timeline = case.timeline
    if timeline is None or not timeline.has_gpu_activity or not timeline.collected(Kind.MEMCPY):
        return abstained("R4", COPIES)
    exposed, span, device = max((_exposed(timeline, device) for device in devices(timeline)), default=(0, 1, 0))
    share = exposed / max(span, 1)
    if share <= limits.R4.exposed_ratio:
        return quiet("R4", f"copies to the device that no kernel hides take {share:.1%} of its time")
    rows = _inward(timeline, device)
    size = timeline.events.bytes[rows]
    return case.finding(
        "R4",
        case.lost_by_work(exposed, span, busy_ratio(timeline, device)),
        f"For {share:.0%} of its time GPU {device} only receives inputs: {len(rows):,} copies, "
        f"{size[size > 0].sum() / 2**20:,.1f} MiB, no kernel beside them.",
        {"exposed_share_ratio": share, "exposed_ms": exposed / 1e6, "copy_count": len(rows)},
        action="Send less (uint8 instead of float, preprocessing on the GPU), copy from pinned memory, or let a second "
        "instance compute meanwhile.",
        change="instance_group [ { count: 2 kind: KIND_GPU } ]",
        check="The HtoD time that is not hidden falls in `analyzer timeline analyze`.",
        rows=rows,
    )


def _inward(timeline: Timeline, device: int) -> Rows:
    rows = device_rows(timeline, device, Kind.MEMCPY)
    chosen: Rows = rows[np.isin(timeline.events.copy_kind[rows], _INWARD)]
    return chosen


def _exposed(timeline: Timeline, device: int) -> tuple[int, int, int]:
    """Time of a device in which it is copied to and no kernel runs, the device's span, and the device."""
    kernels = active(timeline, device_rows(timeline, device, *COMPUTE_KINDS))
    exposed = subtract(active(timeline, _inward(timeline, device)), kernels).total_ns
    return exposed, device_span(timeline, device), device


def busy_ratio(timeline: Timeline, device: int) -> float:
    """Kernels and copies over the device's span."""
    busy = active(timeline, device_rows(timeline, device, *GPU_KINDS)).total_ns
    return busy / max(device_span(timeline, device), 1)


def device_span(timeline: Timeline, device: int) -> int:
    """From a device's first to its last operation."""
    rows = device_rows(timeline, device, *GPU_KINDS)
    return int(timeline.events.end_ns[rows].max() - timeline.events.start_ns[rows].min())


def pageable(case: Case, limits: Thresholds) -> Ruling:
    """R5."""
    timeline = case.timeline
    if timeline is None or not timeline.has_gpu_activity or not timeline.collected(Kind.MEMCPY):
        return abstained("R5", COPIES)
    events = timeline.events
    copies = timeline.rows(Kind.MEMCPY)
    known = [kind for kind in MemoryKind if kind is not MemoryKind.UNKNOWN]
    told = np.isin(events.src_kind[copies], known) | np.isin(events.dst_kind[copies], known)
    if len(copies) and not told.any():
        return abstained("R5", "whether the memory of a copy is pinned (the capture does not say)")
    is_pageable = (events.src_kind[copies] == MemoryKind.PAGEABLE) | (events.dst_kind[copies] == MemoryKind.PAGEABLE)
    rows = copies[is_pageable]
    size = int(events.bytes[rows].clip(min=0).sum())
    taken = active(timeline, rows).total_ns
    span = max(device_span(timeline, device) for device in devices(timeline))
    share = taken / max(span, 1)
    busiest = max(busy_ratio(timeline, device) for device in devices(timeline))
    if size <= limits.R5.total_kib * 1024 or share <= limits.R5.share_ratio:
        return quiet("R5", f"pageable copies: {size / 1024:,.0f} KiB, {share:.1%} of the device's time")
    cells = [cell for cell in copy_matrix(timeline) if cell.is_pageable]
    exposed = min(taken, sum(cell.exposed_ns for cell in cells))
    return case.finding(
        "R5",
        case.lost_by_work(exposed / 2, span, busiest),
        f"{len(rows):,} copies ({size / 2**20:,.1f} MiB) use pageable memory; they take {share:.1%} of the device's "
        "time and make the host wait. Half of what no kernel hides is taken as recoverable.",
        {"pageable_share_ratio": share, "pageable_mib": size / 2**20, "copy_count": len(rows)},
        action="Keep inputs and outputs in pinned memory: the server's pinned pool, or shared memory of the client.",
        change="perf-client --shared-memory cuda",
        check="The copy table shows pinned instead of pageable, and more bytes a second.",
        rows=rows,
    )

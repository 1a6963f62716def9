"""How long each device was at work, two ways: kernels only, and kernels with copies and memsets.

Both are unions, so work that overlaps counts once. Without another window the span is that from the first to the last
operation of the device, as the GPU gaps of Nsight Systems define it. A device without operations has no figure at all.
"""

import numpy as np

from analyzer.domain.record import Record
from analyzer.timeline.intervals import Intervals, clip, union
from analyzer.timeline.kinds import COMPUTE_KINDS, GPU_KINDS, Kind
from analyzer.timeline.table import Rows, Timeline

Window = tuple[int, int]


class Busy(Record, frozen=True):
    """One device. ``kernel_sum_ns`` counts overlaps twice: above ``kernels_ns`` by what ran at the same time."""

    device: int
    name: str
    start_ns: int
    span_ns: int
    kernels_ns: int
    kernels_ratio: float
    activity_ns: int
    activity_ratio: float
    kernel_sum_ns: int
    operation_count: int


def devices(timeline: Timeline) -> list[int]:
    """Devices with operations, in order."""
    return [int(device) for device in np.unique(timeline.events.device[timeline.rows(*GPU_KINDS)])]


def device_name(timeline: Timeline, device: int) -> str:
    return next((each.name for each in timeline.devices if each.id == device), f"GPU {device}")


def device_rows(timeline: Timeline, device: int, *kinds: Kind) -> Rows:
    rows: Rows = timeline.rows(*kinds)
    mine: Rows = rows[timeline.events.device[rows] == device]
    return mine


def active(timeline: Timeline, rows: Rows, window: Window | None = None) -> Intervals:
    """When any of these events held."""
    whole = union(timeline.events.start_ns[rows], timeline.events.end_ns[rows])
    return whole if window is None else clip(whole, *window)


def busy(timeline: Timeline, window: Window | None = None) -> tuple[Busy, ...]:
    return tuple(_of_device(timeline, device, window) for device in devices(timeline))


def _of_device(timeline: Timeline, device: int, window: Window | None) -> Busy:
    events = timeline.events
    rows = device_rows(timeline, device, *GPU_KINDS)
    start, end = window or (int(events.start_ns[rows].min()), int(events.end_ns[rows].max()))
    kernels = device_rows(timeline, device, *COMPUTE_KINDS)
    length = np.minimum(events.end_ns[kernels], end) - np.maximum(events.start_ns[kernels], start)
    inside = (events.end_ns[rows] > start) & (events.start_ns[rows] < end)
    kernels_ns = active(timeline, kernels, (start, end)).total_ns
    activity_ns = active(timeline, rows, (start, end)).total_ns
    return Busy(
        device=device,
        name=device_name(timeline, device),
        start_ns=start,
        span_ns=end - start,
        kernels_ns=kernels_ns,
        kernels_ratio=kernels_ns / max(end - start, 1),
        activity_ns=activity_ns,
        activity_ratio=activity_ns / max(end - start, 1),
        kernel_sum_ns=int(length.clip(min=0).sum()),
        operation_count=int(inside.sum()),
    )

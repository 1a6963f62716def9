"""Everything that ``analyzer timeline analyze`` tells of a timeline, as one record: printed as text or as JSON."""

from collections.abc import Sequence

import numpy as np
from msgspec.structs import replace

from analyzer.domain.record import Record
from analyzer.timeline.analyses.busy import Busy, busy
from analyzer.timeline.analyses.copies import CopyCell, copy_matrix
from analyzer.timeline.analyses.counters import CounterSum, counter_sums
from analyzer.timeline.analyses.critical_path import CriticalPath, critical_path, slowest
from analyzer.timeline.analyses.depth import Depth
from analyzer.timeline.analyses.idle import Gap, Idle, gaps, idle
from analyzer.timeline.analyses.launches import LaunchDelays, device_queues, launch_delays
from analyzer.timeline.analyses.overlap import Overlap, instance_overlap, stream_overlap
from analyzer.timeline.analyses.projection import ProjectedSum, RangeKernelSum, projected_sums, range_kernel_sums
from analyzer.timeline.analyses.serving import (
    BatchForming,
    InstanceTime,
    StageTime,
    StepGap,
    batch_forming,
    instance_times,
    queue_depths,
    stage_times,
    step_gaps,
    step_times,
)
from analyzer.timeline.analyses.sums import (
    NameSum,
    RangeSum,
    api_sums,
    copy_size_sums,
    copy_time_sums,
    kernel_sums,
    operator_sums,
    range_sums,
)
from analyzer.timeline.kinds import Kind
from analyzer.timeline.requests import median_request
from analyzer.timeline.table import Meta, Timeline

NO_GPU_ACTIVITY = "no GPU activity in the capture"


class QueueDepth(Record, frozen=True):
    """How deep a queue was over time: of a device's stream (launched, not begun) or of a model (requests waiting)."""

    queue: str
    mean: float
    median: int
    p99: int
    largest: int


class GpuSummary(Record, frozen=True):
    """What there is to say of the devices. Absent as a whole where the capture has no GPU activity."""

    busy: tuple[Busy, ...]
    idle: tuple[Idle, ...]
    gaps: tuple[Gap, ...]
    copies: tuple[CopyCell, ...]
    streams: tuple[Overlap, ...]
    launches: LaunchDelays
    queues: tuple[QueueDepth, ...]
    kernels: tuple[NameSum, ...]
    copy_times: tuple[NameSum, ...]
    copy_sizes: tuple[NameSum, ...]
    projected_ranges: tuple[ProjectedSum, ...]
    range_kernels: tuple[RangeKernelSum, ...]


class ServerSummary(Record, frozen=True):
    """What there is to say of models, batches and requests; empty for a capture that has none of them."""

    instances: tuple[InstanceTime, ...]
    instance_overlap: tuple[Overlap, ...]
    stages: tuple[StageTime, ...]
    steps: tuple[StageTime, ...]
    step_gaps: tuple[StepGap, ...]
    batches: tuple[BatchForming, ...]
    queues: tuple[QueueDepth, ...]
    paths: tuple[CriticalPath, ...]


class Summary(Record, frozen=True):
    source: str
    meta: Meta
    event_count: int
    events_by_kind: dict[str, int]
    start_ns: int
    span_ns: int
    gpu: GpuSummary | None
    gpu_absent: str
    server: ServerSummary
    ranges: tuple[RangeSum, ...]
    operators: tuple[NameSum, ...]
    calls: tuple[NameSum, ...]
    counters: tuple[CounterSum, ...]


def summarize(
    timeline: Timeline, source: str, gap_floor_ns: int, gap_count: int = 50, requests: Sequence[int] = ()
) -> Summary:
    """All analyses of a timeline. Without ``requests`` critical paths are those of the median and the slowest one."""
    kinds, counts = np.unique(timeline.events.kind, return_counts=True)
    gpu = _gpu(timeline, gap_floor_ns, gap_count) if timeline.has_gpu_activity else None
    return Summary(
        source=source,
        meta=timeline.meta,
        event_count=len(timeline),
        events_by_kind={Kind(kind).name.lower(): int(count) for kind, count in zip(kinds, counts, strict=True)},
        start_ns=timeline.start_ns,
        span_ns=timeline.end_ns - timeline.start_ns,
        gpu=gpu,
        gpu_absent="" if gpu else NO_GPU_ACTIVITY,
        server=_server(timeline, requests),
        ranges=range_sums(timeline),
        operators=operator_sums(timeline),
        calls=api_sums(timeline),
        counters=counter_sums(timeline),
    )


def _gpu(timeline: Timeline, gap_floor_ns: int, gap_count: int) -> GpuSummary:
    queues = device_queues(timeline)
    return GpuSummary(
        busy=busy(timeline),
        idle=idle(timeline),
        gaps=gaps(timeline, gap_floor_ns, gap_count),
        copies=copy_matrix(timeline),
        streams=stream_overlap(timeline),
        launches=launch_delays(timeline),
        queues=tuple(_queue(f"GPU {gpu} stream {stream}", depth) for (gpu, stream), depth in queues.items()),
        kernels=kernel_sums(timeline),
        copy_times=copy_time_sums(timeline),
        copy_sizes=copy_size_sums(timeline),
        projected_ranges=projected_sums(timeline),
        range_kernels=range_kernel_sums(timeline),
    )


def _server(timeline: Timeline, requests: Sequence[int]) -> ServerSummary:
    return ServerSummary(
        instances=instance_times(timeline),
        instance_overlap=instance_overlap(timeline),
        stages=stage_times(timeline),
        steps=step_times(timeline),
        step_gaps=step_gaps(timeline),
        batches=batch_forming(timeline),
        queues=tuple(_queue(model, depth) for model, depth in queue_depths(timeline).items()),
        paths=_paths(timeline, requests),
    )


def _paths(timeline: Timeline, requests: Sequence[int]) -> tuple[CriticalPath, ...]:
    if requests:
        return tuple(critical_path(timeline, request) for request in requests)
    standing = dict.fromkeys(slowest(timeline), "slowest")
    if (usual := median_request(timeline)) is not None and usual not in standing:
        standing = {usual: "median", **standing}
    return tuple(replace(critical_path(timeline, request), standing=name) for request, name in standing.items())


def _queue(name: str, depth: Depth) -> QueueDepth:
    return QueueDepth(
        queue=name, mean=depth.mean, median=depth.quantile(0.5), p99=depth.quantile(0.99), largest=depth.largest
    )

"""Rules of the host's part: launches that come too late, and threads that wait for a device without work."""

import numpy as np

from analyzer.domain.finding import Finding, Ruling
from analyzer.domain.thresholds import Thresholds
from analyzer.timeline.analyses.busy import active, device_rows
from analyzer.timeline.analyses.idle import CAUSES, Cause, gap_columns, idle
from analyzer.timeline.analyses.launches import device_queues
from analyzer.timeline.analyses.sums import without_version
from analyzer.timeline.intervals import Intervals, intersect, subtract
from analyzer.timeline.kinds import GPU_KINDS, Kind
from analyzer.timeline.rules.advice import for_graphs
from analyzer.timeline.rules.case import Case, abstained, quiet
from analyzer.timeline.table import Rows, Timeline

KERNELS = "kernels of a GPU (CUPTI, Nsight Systems or a PyTorch trace)"
CALLS = "calls of the CUDA runtime (CUPTI or Nsight Systems)"

_WAITS = frozenset({
    "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy", "cudaMemcpy2D",
    "cuStreamSynchronize", "cuCtxSynchronize", "cuEventSynchronize", "cuMemcpyHtoD_v2", "cuMemcpyDtoH_v2",
    "cuMemcpyHtoD", "cuMemcpyDtoH",
})  # fmt: skip
"""Calls that return when the device is done."""


def launch_bound(case: Case, limits: Thresholds) -> Ruling:
    """R7."""
    timeline = case.timeline
    if timeline is None or not timeline.has_gpu_activity or not timeline.collected(Kind.KERNEL):
        return abstained("R7", KERNELS)
    if not timeline.collected(Kind.API):
        return abstained("R7", CALLS)
    kernels = timeline.rows(Kind.KERNEL)
    worst = max(idle(timeline), key=lambda each: each.idle_ns)
    mean_us = float(timeline.events.duration_ns[kernels].mean()) / 1e3 if len(kernels) else 0.0
    is_short = 0 < mean_us < limits.R7.kernel_us and len(kernels) >= limits.R7.launches
    execution = _execution(timeline)
    host_ns, queued = _host_wait(timeline, worst.device, execution), _queued(timeline, worst.device)
    share, of_span = worst.ratio(Cause.HOST_WAIT), host_ns / max(worst.span_ns, 1)
    waits = share > limits.R7.host_wait_ratio and queued <= limits.R7.queued
    told = f"{len(kernels):,} kernels of {mean_us:.1f} µs; {share:.0%} of the idle time waits for the host"
    if not (is_short or waits) or not host_ns:
        return quiet("R7", told)
    return case.finding(
        "R7",
        case.lost_by_work(host_ns, worst.span_ns, execution.total_ns / max(worst.span_ns, 1)),
        f"{told}; GPU {worst.device} does so {'while a model executes ' if len(execution) else ''}for {of_span:.0%} of "
        "its time.",
        {"mean_kernel_us": mean_us, "kernel_count": len(kernels), "host_wait_ms": host_ns / 1e6, "queued": queued},
        action="Launch less and earlier: CUDA graphs, fused operators (a compiled engine), larger batches, or a second "
        "instance whose launches fill the gaps.",
        change=for_graphs(case),
        check="`host wait` falls in `analyzer timeline analyze`, and the GPU's busy part rises.",
        rows=kernels,
    )


def _execution(timeline: Timeline) -> Intervals:
    """When models executed on any instance, without their inputs and outputs where that is known."""
    stages = timeline.rows(Kind.STAGE)
    is_infer = np.array([name == "compute_infer" for name in timeline.names] + [False])
    stages = stages[is_infer[timeline.events.name_id[stages]]]
    return active(timeline, stages if len(stages) else timeline.rows(Kind.BATCH))


def _host_wait(timeline: Timeline, device: int, execution: Intervals) -> int:
    """Time in which a device waits for the host to launch, during the execution of a model where that is known."""
    found = gap_columns(timeline, device_rows(timeline, device, *GPU_KINDS))
    late = found.cause == CAUSES.index(Cause.HOST_WAIT)
    waiting = Intervals(found.start_ns[late], found.end_ns[late])
    if len(execution):
        return intersect(waiting, execution).total_ns
    return waiting.total_ns - int(found.no_request_ns.sum())


def _queued(timeline: Timeline, device: int) -> int:
    return max((depth.quantile(0.5) for (gpu, _), depth in device_queues(timeline).items() if gpu == device), default=0)


def sync_stall(case: Case, limits: Thresholds) -> Ruling:
    """R8: for the thread that stalls most, never a sum over threads."""
    timeline = case.timeline
    if timeline is None or not timeline.collected(Kind.API):
        return abstained("R8", CALLS)
    if not timeline.has_gpu_activity:
        return abstained("R8", KERNELS)
    waits = _waits(timeline)
    threads = np.unique(timeline.events.thread[waits]).tolist()
    found = [_stall(case, timeline, thread, waits, limits) for thread in threads]
    findings = [each for each in found if isinstance(each, Finding)]
    if findings:
        return max(findings, key=lambda each: each.share_ratio)
    return found[0] if found else quiet("R8", "no call waits for the device")


def _waits(timeline: Timeline) -> Rows:
    calls = timeline.rows(Kind.API)
    is_wait = np.array([without_version(name) in _WAITS or name in _WAITS for name in timeline.names] + [False])
    chosen: Rows = calls[is_wait[timeline.events.name_id[calls]]]
    return chosen


def _stall(case: Case, timeline: Timeline, thread: int, waits: Rows, limits: Thresholds) -> Ruling:
    mine = waits[timeline.events.thread[waits] == thread]
    execute = active(timeline, _executing(timeline, thread))
    device = active(timeline, timeline.rows(*GPU_KINDS))
    stalled = intersect(subtract(active(timeline, mine), device), execute).total_ns
    share = stalled / max(execute.total_ns, 1)
    name = _thread_name(timeline, thread)
    if share <= limits.R8.wait_ratio:
        return quiet("R8", f"{name} waits for an idle device in {share:.1%} of its time")
    span = int(execute.end_ns[-1] - execute.start_ns[0])
    return case.finding(
        "R8",
        case.lost_by_work(stalled, span, execute.total_ns / max(span, 1)),
        f"{name[0].upper()}{name[1:]} waits in {len(mine):,} synchronizing calls for {share:.0%} of the time in which "
        "it executes, while the GPU has no work.",
        {"stall_share_ratio": share, "stall_ms": stalled / 1e6, "call_count": len(mine)},
        action="Wait once per batch instead of after each copy: asynchronous copies from pinned memory and events, "
        "and no waiting on the thread that forms batches.",
        check="The synchronizing calls get fewer and shorter in the table of CUDA calls.",
        rows=mine,
    )


def _thread_name(timeline: Timeline, thread: int) -> str:
    return next((f"thread {each.name}" for each in timeline.tracks if each.thread == thread), f"thread {thread}")


def _executing(timeline: Timeline, thread: int) -> Rows:
    """Batches of a thread, or those that its calls were made for; without any its ranges, else the calls themselves."""
    events = timeline.events
    calls = timeline.rows(Kind.API)
    calls = calls[events.thread[calls] == thread]
    batches, ranges = timeline.rows(Kind.BATCH), timeline.rows(Kind.RANGE)
    called_for = np.unique(events.batch[calls][events.batch[calls] >= 0])
    found = (
        batches[events.thread[batches] == thread],
        batches[np.isin(events.batch[batches], called_for)],
        ranges[events.thread[ranges] == thread],
    )
    return next((rows for rows in found if len(rows)), calls)

"""Rules of the device itself: little used, in full precision, throttled or shared with others."""

import re

import numpy as np

from analyzer.domain.finding import Ruling
from analyzer.domain.thresholds import Thresholds
from analyzer.timeline.analyses.busy import Busy, busy
from analyzer.timeline.kinds import Kind
from analyzer.timeline.rules.advice import for_precision
from analyzer.timeline.rules.case import Case, DeviceWatch, Lost, abstained, quiet
from analyzer.timeline.table import Rows, Timeline

FULL_PRECISION = re.compile(r"sgemm|ffma|f32f32_f32f32|fp32|conv.*float(?!16)|winograd", re.IGNORECASE)
TENSOR = re.compile(
    r"tensorop|hmma|imma|tf32|bf16|f16|half|h884|h1688|s1688|h16816|s16816|i8816|qgmma|hgmma", re.IGNORECASE
)
"""What the names of kernels tell of their arithmetic: CUTLASS's, cuBLAS's and cuDNN's words for it."""


def low_use(case: Case, limits: Thresholds, is_explained: bool) -> Ruling:
    """R10: only where no other rule has said why."""
    activity = busy(case.timeline) if case.timeline is not None and case.timeline.has_gpu_activity else ()
    sm = [watch.sm_ratio for watch in case.devices if watch.sm_ratio is not None]
    if not activity and not sm:
        return abstained("R10", "work of a GPU (CUPTI, Nsight Systems) or its multiprocessors' activity (GPM)")
    load = case.measurement.load if case.measurement is not None else None
    if load is not None and load.verdict not in ("steady", "kept up", "not judged"):
        return quiet("R10", f"the load is {load.verdict}, which says nothing of usual use")
    idlest = min(activity, key=lambda each: each.activity_ratio, default=None)
    is_idle = idlest is not None and idlest.activity_ratio < limits.R10.busy_ratio
    is_thin = bool(sm) and float(np.median(sm)) < limits.R10.sm_ratio
    told = _use(idlest, sm)
    if not is_idle and not is_thin:
        return quiet("R10", told)
    if is_explained:
        return quiet("R10", f"{told}, as the other findings explain")
    spare = 1 - (idlest.activity_ratio if idlest is not None and is_idle else float(np.median(sm)))
    return case.finding(
        "R10",
        case.lost_by_span(spare * case.span_ns) if case.span_ns else Lost(spare * (case.request_ns or 0) / 1e6, spare),
        f"{told}, and no other rule says why.",
        {"unused_ratio": spare, **({"sm_ratio": float(np.median(sm))} if sm else {})},
        action="Send more at once (concurrency, client batch) or batch more; if that does not help, look for the cause "
        "on the host.",
        change="--concurrency LOW:HIGH with a higher HIGH, or dynamic_batching { }",
        check="The GPU's busy part rises with the load, and throughput with it.",
    )


def _use(idlest: Busy | None, sm: list[float]) -> str:
    parts = []
    if idlest is not None:
        parts.append(
            f"GPU {idlest.device} is busy {idlest.activity_ratio:.0%} of the time (kernels {idlest.kernels_ratio:.0%})"
        )
    if sm:
        parts.append(f"its multiprocessors are active {np.median(sm):.0%}")
    return ", ".join(parts)


def precision(case: Case, limits: Thresholds) -> Ruling:
    """R11."""
    timeline = case.timeline
    if timeline is None or not len(timeline.rows(Kind.KERNEL)):
        return abstained("R11", "kernels by name (CUPTI, Nsight Systems or a PyTorch trace)")
    capable = [device.compute_capability for device in timeline.devices if device.compute_capability is not None]
    if not capable:
        return abstained("R11", "the GPU's compute capability (the capture does not say)")
    if max(capable) < (7, 0):
        return quiet("R11", "the GPU has no tensor cores")
    kernels = timeline.rows(Kind.KERNEL)
    took = timeline.events.duration_ns[kernels]
    full, tensor = _named(timeline, kernels, FULL_PRECISION), _named(timeline, kernels, TENSOR)
    full &= ~tensor
    total = max(int(took.sum()), 1)
    math, used = took[full].sum() / total, took[tensor].sum() / total
    pipe = [watch.tensor_ratio for watch in case.devices if watch.tensor_ratio is not None]
    used = float(np.median(pipe)) if pipe else float(used)
    told = f"{math:.0%} of kernel time is full precision, tensor cores have {used:.0%}"
    if used >= limits.R11.tensor_ratio or math <= limits.R11.math_ratio:
        return quiet("R11", told)
    saved = float(took[full].sum()) * (1 - 1 / limits.R11.speedup)
    return case.finding(
        "R11",
        case.lost_by_work(saved, case.span_ns, max(each.activity_ratio for each in busy(timeline))),
        f"{told} ({'GPM' if pipe else 'by kernel names'}); {limits.R11.speedup:g} times the speed is hoped for.",
        {"full_precision_ratio": math, "tensor_ratio": used},
        action="Build the model for FP16, BF16 or INT8, or allow TF32; then verify its accuracy.",
        change=for_precision(case),
        check="The tensor cores' part rises, kernel time falls, and the outputs still agree.",
        rows=kernels[full],
    )


def _named(timeline: Timeline, rows: Rows, pattern: re.Pattern[str]) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    names = timeline.events.name_id[rows]
    matching = [name_id for name_id in np.unique(names).tolist() if pattern.search(timeline.names[name_id])]
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = np.isin(names, matching)
    return found


def contended(case: Case, limits: Thresholds) -> Ruling:
    """R12: the figures of such a window can't be compared with others."""
    watched = [watch for watch in case.devices if not watch.is_too_short]
    if not watched:
        short = "a window of 2 s or more for its counters" if case.devices else "NVML's counters of the GPU"
        return abstained("R12", short)
    troubles = [(watch, trouble) for watch in watched for trouble in _troubles(watch, limits)]
    missing = [watch for watch in watched if watch.throttled_ratio is None]
    if not troubles:
        if len(missing) == len(watched) and all(watch.other_process_count is None for watch in watched):
            return abstained("R12", "throttle reasons and foreign processes from NVML")
        return quiet("R12", "neither throttled nor shared")
    throttled = max((watch.throttled_ratio or 0.0 for watch in watched), default=0.0)
    told = "; ".join(f"{watch.name}: {trouble}" for watch, trouble in troubles)
    lost = Lost(throttled * (case.request_ns or 0.0) / 1e6, throttled)
    return case.finding(
        "R12",
        lost,
        f"{told}. Do not compare these figures with others.",
        {"throttled_ratio": throttled},
        action="Give the GPU power and cooling, or cap its clocks so that runs are alike; keep others off it.",
        check="Measure again: no throttle reasons, no other process, memory below the limit.",
    )


def _troubles(watch: DeviceWatch, limits: Thresholds) -> list[str]:
    found = []
    if watch.throttled_ratio is not None and watch.throttled_ratio > limits.R12.throttled_ratio:
        found.append(f"throttled for {watch.throttled_ratio:.0%} of the time")
    if watch.other_process_count:
        found.append(f"{watch.other_process_count} other process(es) used it")
    elif watch.other_memory_bytes and watch.other_memory_bytes > 2**30:
        found.append(f"{watch.other_memory_bytes / 2**30:.1f} GiB of its memory are not the server's")
    if watch.memory_used_ratio is not None and watch.memory_used_ratio > limits.R12.memory_ratio:
        found.append(f"{watch.memory_used_ratio:.0%} of its memory is in use")
    return found

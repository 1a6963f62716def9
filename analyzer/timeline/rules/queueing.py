"""Rules of queues and batches: who makes requests wait, and whether batches are as full as they could be."""

import numpy as np

from analyzer.domain.finding import Finding, Quiet, Ruling
from analyzer.domain.thresholds import Thresholds
from analyzer.timeline.analyses.busy import busy
from analyzer.timeline.rules.case import Case, Lost, ModelFacts, abstained, quiet
from analyzer.timeline.rules.loads import ModelLoad
from analyzer.timeline.table import Column

STAGES = "queue and batches of each model (spans of the runtime, or the server's statistics)"
REQUESTS = "the time of whole requests"


def queue_bound(case: Case, limits: Thresholds) -> Ruling:
    """R2, of the model with the longest queue: everything is busy (capacity), or an instance is free (R2b)."""
    if not case.loads or case.request_ns is None:
        return abstained("R2", *([] if case.loads else [STAGES]), *([] if case.request_ns is not None else [REQUESTS]))
    load = max(case.loads, key=lambda each: each.wait_ns)
    share = case.lost_by_requests(sum(each.wait_ns for each in case.loads)).share_ratio
    told = f"queues have {share:.0%} of a request's time, that of {load.model} most"
    if share <= limits.R2.queue_ratio:
        return quiet("R2", told)
    gpu = _gpu_busy(case)
    used = load.busy_ratio if gpu is None else max(gpu, load.busy_ratio)
    free = _free_share(load)
    is_held = used < limits.R2.idle_ratio or (free is not None and free > 0.5)
    if not is_held and used <= limits.R2.busy_ratio:
        return quiet("R2", f"{told}, with instances busy {load.busy_ratio:.0%}: neither full nor idle")
    return _held(case, load, gpu) if is_held else _full(case, load, gpu, limits)


def _gpu_busy(case: Case) -> float | None:
    """Kernels and copies, of the busiest device."""
    if case.timeline is None or not case.timeline.has_gpu_activity:
        return None
    return max(each.activity_ratio for each in busy(case.timeline))


def _free_share(load: ModelLoad) -> float | None:
    return None if load.free_wait_ns is None or not load.wait_ns else load.free_wait_ns / load.wait_ns


def _full(case: Case, load: ModelLoad, gpu: float | None, limits: Thresholds) -> Finding:
    waited = load.wait_ns - (load.free_wait_ns or 0.0)
    lost = case.lost_by_requests(waited)
    is_device_full = gpu is not None and gpu > limits.R2.busy_ratio
    more = load.instance_count + 1
    action = (
        "The GPU itself is full: larger batches, a cheaper precision, or another replica."
        if is_device_full
        else f"Give {load.model} another instance if cores or the device have room, else another replica."
    )
    seen = "" if gpu is None else f", the GPU {gpu:.0%}"
    return case.finding(
        "R2",
        lost,
        f"{lost.share_ratio:.0%} of a request's time is spent in the queue of {load.model} while its "
        f"{_instances(load)} busy ({load.busy_ratio:.0%} of the time{seen}).",
        {
            "queue_share_ratio": lost.share_ratio,
            "instances_busy_ratio": load.busy_ratio,
            "mean_queue_depth": load.mean_depth,
            **({} if gpu is None else {"gpu_busy_ratio": gpu}),
        },
        action=action,
        change="" if is_device_full else f"instance_group [ {{ count: {more} }} ]",
        check="Profile again with the change: the queue's part of a request falls at the same load.",
        model=load.model,
        rows=load.rows,
    )


def _instances(load: ModelLoad) -> str:
    return "one instance is" if load.instance_count == 1 else f"{load.instance_count} instances are all"


def _held(case: Case, load: ModelLoad, gpu: float | None) -> Finding:
    facts = case.facts(load.model)
    waited = load.wait_ns if load.free_wait_ns is None else load.free_wait_ns
    lost = case.lost_by_requests(waited)
    delay = facts.queue_delay_us
    if delay:
        action = f"Requests wait for a batch that does not fill: cut the delay of {load.model} ({delay:,} µs)."
        change = f"dynamic_batching {{ max_queue_delay_microseconds: {_shorter(delay)} }}"
        check = "Profile again with the shorter delay: the queue's part falls, and the batches stay as large."
    elif delay == 0:
        action = (
            "No delay holds them back, so the hand-over to the instance takes the time: give the server more cores, or "
            f"each instance of {load.model} fewer threads."
        )
        change = ""
        check = "Profile again with more cores or fewer threads: the queue's part falls, and so does p99."
    else:
        action = (
            f"Look at what holds the requests of {load.model} back while an instance is free: a delay, or preferred "
            "sizes that are never reached."
        )
        change = ""
        check = "Profile again after the change: the queue's part falls."
    seen = "" if gpu is None else f", the GPU {gpu:.0%}"
    return case.finding(
        "R2",
        lost,
        f"{lost.share_ratio:.0%} of a request's time is spent in the queue of {load.model} although an instance is "
        f"free: instances are busy {load.busy_ratio:.0%} of the time{seen}.",
        {
            "free_wait_share_ratio": lost.share_ratio,
            "instances_busy_ratio": load.busy_ratio,
            **({} if delay is None else {"queue_delay_us": delay}),
        },
        action=action,
        change=change,
        check=check,
        model=load.model,
        rows=load.rows,
    )


def _shorter(delay_us: int) -> int:
    return 0 if delay_us <= 100 else delay_us // 4


def underfilled(case: Case, limits: Thresholds) -> Ruling:
    """R3: batches leave small although the queue holds more, or because their time is up."""
    sized = [load for load in case.loads if load.mean_size is not None]
    known = [load for load in sized if (case.facts(load.model).wanted_batch or 0) > 1]
    if not sized:
        return abstained("R3", "the size of each batch (spans of the runtime, or the server's statistics)")
    if not known:
        is_plain = all(case.facts(load.model).max_batch_size in (0, 1) for load in sized)
        return quiet("R3", "no model batches") if is_plain else abstained("R3", "max_batch_size of the models")
    rulings = [_fill(case, load, limits) for load in known]
    found = [ruling for ruling in rulings if isinstance(ruling, Finding)]
    return max(found, key=lambda finding: finding.recoverable_ms) if found else rulings[0]


def _fill(case: Case, load: ModelLoad, limits: Thresholds) -> Finding | Quiet:
    facts = case.facts(load.model)
    wanted, mean = facts.wanted_batch or 1, load.mean_size or 1.0
    fill = mean / wanted
    timed = _timed(load, facts)
    deep = _deep_share(load, wanted)
    by_timer = timed is not None and float(timed.mean()) > limits.R3.timer_ratio
    told = f"{load.model} runs batches of {mean:.1f} on average, {wanted} are wanted"
    if not (fill < limits.R3.fill_ratio and (deep > 0.5 or by_timer)):
        seldom = "; its queue is seldom that deep" if fill < limits.R3.fill_ratio else ""
        return Quiet(id="R3", title="Batches are not filled", evidence=told + seldom)
    return _by_timer(case, load, timed, told) if by_timer and deep <= 0.5 else _by_limit(case, load, wanted, told, deep)


def _timed(load: ModelLoad, facts: ModelFacts) -> Column | None:
    """Batches that left with a free instance when their oldest request had waited for the whole delay."""
    if not facts.queue_delay_us or not len(load.oldest_wait_ns) or not (load.oldest_wait_ns >= 0).any():
        return None
    wanted = facts.wanted_batch or 1
    was_long = load.oldest_wait_ns >= 900 * facts.queue_delay_us
    found: Column = was_long & load.free_at_form & (load.sizes < wanted)
    return found


def _deep_share(load: ModelLoad, wanted: int) -> float:
    """Part of the batches that could have been full: the queue held a whole one when they were formed."""
    known = load.depth_at_form[load.depth_at_form >= 0]
    if len(known):
        return float((known >= wanted).mean())
    return 1.0 if load.mean_depth >= wanted else 0.0


def _by_limit(case: Case, load: ModelLoad, wanted: int, told: str, deep: float) -> Finding:
    mean = load.mean_size or 1.0
    fixed = 0.5 if load.fixed_ratio is None else load.fixed_ratio
    saved = load.wait_ns * fixed * (1 - mean / wanted)
    guess = "taken as half, since all batches are alike" if load.fixed_ratio is None else "by the batches measured"
    batches = case.facts(load.model).dynamic_batching is False
    return case.finding(
        "R3",
        case.lost_by_requests(saved),
        f"{told}, and the queue held a full one at {deep:.0%} of them. {fixed:.0%} of an execution does not grow with "
        f"the batch ({guess}).",
        {"mean_batch": mean, "wanted_batch": wanted, "fill_ratio": mean / wanted, "fixed_ratio": fixed},
        action=f"Let {load.model} batch dynamically." if batches else f"Let {load.model} take larger batches.",
        change="dynamic_batching { }" if batches else f"dynamic_batching {{ preferred_batch_size: [ {wanted} ] }}",
        check="The mean batch grows, and throughput with it at the same load.",
        model=load.model,
        rows=load.rows,
    )


def _by_timer(case: Case, load: ModelLoad, timed: Column | None, told: str) -> Finding:
    facts = case.facts(load.model)
    assert timed is not None
    delay = facts.queue_delay_us or 0
    each = np.where(timed, load.oldest_wait_ns.clip(min=0) * load.sizes.clip(min=1), 0)
    lost: Lost = case.lost_by_requests(float(min(each.sum(), load.wait_ns)))
    return case.finding(
        "R3",
        lost,
        f"{told}; {timed.mean():.0%} of the batches left because the delay of {delay:,} µs was over, with an instance "
        "free.",
        {"mean_batch": load.mean_size or 0.0, "timer_ratio": timed.mean(), "queue_delay_us": delay},
        action=f"The load does not fill a batch of {load.model} within the delay: shorten it, or send more at once.",
        change=f"dynamic_batching {{ max_queue_delay_microseconds: {_shorter(delay)} }}",
        check="p50 falls by about the delay, and the mean batch hardly changes.",
        model=load.model,
        rows=load.rows[timed],
    )

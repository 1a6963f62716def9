"""Repeats of one point, put together into one measurement: more requests, and an interval that knows of the scatter."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from math import sqrt

from msgspec.structs import replace

from analyzer.domain.measurement import GpuUsage, HostUsage, Measurement
from analyzer.domain.metrics import Estimate
from analyzer.domain.record import content_key
from analyzer.stats import pool
from perf_client.profile import Latency, LoadResult, Percentile, Rate, ServerTimes


def pool_repeats(measurements: Iterable[Measurement]) -> list[Measurement]:
    """One measurement a point, in an order that does not depend on the input's."""
    placed = sorted(((point_key(m), m.config.key, m.measured_at, m) for m in measurements), key=lambda entry: entry[:3])
    return [_pool([entry[3] for entry in group]) for _, group in groupby(placed, key=lambda entry: entry[0])]


def point_key(measurement: Measurement) -> str:
    """Identity of the point: all of its configuration, but for how long and with which seed it was measured."""
    first, *others = (
        replace(load, seed=0, duration_s=0.0, request_count=None, warmup_s=None) for load in measurement.config.loads
    )
    return content_key(replace(measurement.config, load=first, beside=tuple(others)))


def _pool(repeats: list[Measurement]) -> Measurement:
    complete = [m for m in repeats if all(not load.incomplete and load.response for load in m.loads)] or repeats[-1:]
    if len(complete) == 1:
        return complete[0]
    longest = max(complete, key=lambda m: m.load.request_count)
    first, *others = (_pool_loads(loads) for loads in zip(*(m.loads for m in complete)))
    return replace(
        longest,
        load=first,
        beside=tuple(others),
        host=_host([m.host for m in complete if m.host is not None]),
        gpus=_gpus(complete, longest),
        warnings=tuple(dict.fromkeys(text for m in complete for text in m.warnings)),
    )


def _pool_loads(loads: Sequence[LoadResult]) -> LoadResult:
    """Of one model."""
    longest = max(loads, key=lambda load: load.request_count)
    overloaded = [load for load in loads if load.verdict == "overloaded"]
    verdict = overloaded[0] if overloaded else longest
    return replace(
        longest,
        request_count=sum(load.request_count for load in loads),
        throughput=_rate([load.throughput for load in loads]),
        response=_latency([load.response for load in loads]),
        service=_latency([load.service for load in loads]),
        first_byte=_latency([load.first_byte for load in loads]),
        verdict=verdict.verdict,
        verdict_reason=verdict.verdict_reason,
        client=max((load.client for load in loads), key=lambda client: (client.bound, client.cpu_ratio)),
        dropped_count=sum(load.dropped_count for load in loads),
        failures=_sum_failures([load.failures for load in loads]),
        server=_server_times([load.server for load in loads]),
    )


def _rate(rates: Sequence[Rate]) -> Rate:
    pooled = pool([Estimate(rate.per_second, rate.low, rate.high) for rate in rates])
    low, high = pooled.low, pooled.high
    return Rate(
        per_second=pooled.value,
        low=pooled.value if low is None else max(0.0, low),
        high=pooled.value if high is None else high,
    )


def _latency(latencies: Sequence[Latency | None]) -> Latency | None:
    known = [latency for latency in latencies if latency is not None and latency.count]
    if not known:
        return None
    count = sum(latency.count for latency in known)
    mean = sum(latency.count * latency.mean_ns for latency in known) / count
    spread = sum(latency.count * (latency.std_ns**2 + (latency.mean_ns - mean) ** 2) for latency in known) / count
    percents = sorted(set.intersection(*({p.percent for p in latency.percentiles} for latency in known)))
    return Latency(
        count=count,
        mean_ns=mean,
        std_ns=sqrt(spread),
        min_ns=min(latency.min_ns for latency in known),
        max_ns=max(latency.max_ns for latency in known),
        percentiles=tuple(_percentile(known, percent) for percent in percents),
    )


def _percentile(latencies: Sequence[Latency], percent: float) -> Percentile:
    """From the repeats' percentiles: close to the percentile of all requests where the repeats agree."""
    found = [p for latency in latencies for p in latency.percentiles if p.percent == percent]
    pooled = pool([Estimate(p.value_ns, p.low_ns, p.high_ns, p.supported) for p in found])
    return Percentile(
        percent=percent,
        value_ns=round(pooled.value),
        low_ns=None if pooled.low is None else max(0, round(pooled.low)),
        high_ns=None if pooled.high is None else round(pooled.high),
        supported=any(p.supported for p in found),
    )


def _sum_failures(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    names = sorted({name for failures in counts for name in failures})
    return {name: sum(failures.get(name, 0) for failures in counts) for name in names}


def _server_times(groups: Sequence[tuple[ServerTimes, ...]]) -> tuple[ServerTimes, ...]:
    """Sums over the repeats, the driven model first as in each of them."""
    sums: dict[tuple[str, str], ServerTimes] = {}
    counters = [name for name in ServerTimes.__struct_fields__ if name not in ("model", "version")]
    for times in (times for group in groups for times in group):
        before = sums.get((times.model, times.version))
        if before is not None:
            times = replace(times, **{name: getattr(before, name) + getattr(times, name) for name in counters})  # noqa: PLW2901  the sum takes the summand's place
        sums[times.model, times.version] = times
    return tuple(sums.values())


def _host(usages: Sequence[HostUsage]) -> HostUsage | None:
    if not usages:
        return None
    samples = sum(usage.sample_count for usage in usages)
    shares = [usage.sample_count / samples if samples else 1 / len(usages) for usage in usages]
    busy = [share * usage.cpu_ratio for share, usage in zip(shares, usages) if usage.cpu_ratio is not None]
    return HostUsage(
        cpu_ratio=sum(busy) if len(busy) == len(usages) else None,
        memory_peak_bytes=max(usage.memory_peak_bytes for usage in usages),
        sample_count=samples,
    )


def _gpus(repeats: Sequence[Measurement], longest: Measurement) -> tuple[GpuUsage, ...]:
    """The longest repeat's, with the peaks of all: energy and power belong to one window and can't be mixed."""
    return tuple(
        replace(
            gpu,
            memory_peak_bytes=_peak(repeats, gpu.uuid, "memory_peak_bytes"),
            server_memory_peak_bytes=_peak(repeats, gpu.uuid, "server_memory_peak_bytes"),
        )
        for gpu in longest.gpus
    )


def _peak(repeats: Sequence[Measurement], uuid: str, name: str) -> int | None:
    seen = [getattr(gpu, name) for m in repeats for gpu in m.gpus if gpu.uuid == uuid]
    return max((value for value in seen if value is not None), default=None)

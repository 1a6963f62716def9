"""Synthetic outcomes: an analytic queue model answers where a server would, so the figures are known exactly.

A batch of k takes ``(fixed_ms + per_item_ms * k) * (1 + contention * (n - 1))`` on n instances. At concurrency c the
batch is ``k = clamp(ceil(c / n), 1, B)``, B being the max batch size (1 without dynamic batching); throughput is
``1000 * min(c, n * k) / service`` and the mean latency ``max(service, 1000 * c / throughput)``.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np

from analyzer.domain.measurement import Failure, GpuUsage, HostUsage, Measurement, Outcome
from analyzer.domain.run import ModelVariant, RunConfig, ServerConfig
from perf_client.loads import VideoStreams
from perf_client.profile import (
    ClientCost,
    Concurrency,
    Latency,
    Load,
    LoadProfile,
    LoadResult,
    Percentile,
    Rate,
    RequestRate,
    ServerTimes,
    Verdict,
)

PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)
_SHAPE = {
    50.0: (0.97, 0.0),
    90.0: (1.08, 0.1),
    95.0: (1.15, 0.2),
    99.0: (1.25, 0.3),
    99.9: (1.5, 0.6),
    99.99: (1.8, 1.0),
}
"""Each percentile as (a, b): a times the mean latency plus b ms."""

NETWORK_MS = 0.25
"""Time of a request outside of the server."""


@dataclass(frozen=True, slots=True)
class QueueModel:
    """``noise_ratio`` is the standard deviation of what is seen; ``interval_ratio`` the half width that is reported."""

    fixed_ms: float = 3.0
    per_item_ms: float = 0.6
    contention: float = 0.25
    noise_ratio: float = 0.0
    interval_ratio: float = 0.02
    default_max_batch: int = 8
    gpu: bool = False

    def service_ms(self, instances: int, batch: int) -> float:
        return (self.fixed_ms + self.per_item_ms * batch) * (1 + self.contention * (instances - 1))


def server_config(
    instances: int | None = None,
    max_batch: int | None = None,
    batching: bool | None = None,
    delay_us: int | None = None,
    *,
    model: str = "synthetic",
) -> ServerConfig:
    """One model's variant as a server configuration; without arguments the default."""
    variant = ModelVariant(
        model=model,
        instance_count=instances,
        max_batch_size=max_batch,
        dynamic_batching=batching,
        queue_delay_us=delay_us,
    )
    return ServerConfig(variants=(variant,))


def run_config(
    server: ServerConfig,
    load: Load | int = 1,
    *,
    batch_size: int = 1,
    duration_s: float = 5.0,
    seed: int = 0,
) -> RunConfig:
    """``load`` as a number is a concurrency."""
    profile = LoadProfile(
        model=server.variants[0].model,
        load=Concurrency(in_flight=load) if isinstance(load, int) else load,
        batch_size=batch_size,
        duration_s=duration_s,
        seed=seed,
    )
    return RunConfig(server=server, load=profile, content="synthetic")


def measurement(
    config: RunConfig,
    queue: QueueModel = QueueModel(),
    *,
    verdict: Verdict = "steady",
    client_bound: bool = False,
    incomplete: bool = False,
    warnings: tuple[str, ...] = (),
) -> Measurement:
    """What a server of this kind would have shown at this point. The same point always shows the same noise."""
    rng = np.random.default_rng(int(config.key, 16))
    seen = _seen(config, queue, rng)
    load = LoadResult(
        profile=config.load,
        start_ns=1_000_000_000,
        started_unix_ns=1_767_225_600_000_000_000,
        counted_from_ns=500_000_000,
        counted_to_ns=500_000_000 + int(config.load.duration_s * 1e9),
        request_count=seen.count,
        throughput=_rate(seen.throughput, queue.interval_ratio),
        response=_latency(seen.mean_ms, seen.count, queue.interval_ratio),
        service=_latency(seen.mean_ms, seen.count, queue.interval_ratio),
        first_byte=None,
        verdict=verdict,
        verdict_reason=f"synthetic: {verdict}",
        client=ClientCost(
            cpu_s=0.4,
            cpu_ratio=0.08,
            loop_stall_max_ns=900_000,
            bound=client_bound,
            reason="the load generator's core was busy" if client_bound else "",
        ),
        offered_per_second=config.load.load.per_second if isinstance(config.load.load, RequestRate) else None,
        server=(_server_times(config, seen),),
        incomplete=incomplete,
    )
    return Measurement(
        config=config,
        load=load,
        host=HostUsage(
            cpu_ratio=min(2.0, 0.6 * seen.instances),
            memory_peak_bytes=(110 + 45 * seen.instances + seen.max_batch) * 2**20,
            sample_count=50,
        ),
        gpus=(_gpu(seen),) if queue.gpu else (),
        gpus_unmeasured="" if queue.gpu else "no NVIDIA driver on this machine",
        measured_at="2026-01-01T00:00:00Z",
        overhead_s=0.12,
        warnings=warnings,
    )


def failure(config: RunConfig, reason: str = "the model does not fit into memory", stage: str = "launch") -> Failure:
    return Failure(
        config=config,
        stage=stage,
        reason=reason,
        measured_at="2026-01-01T00:00:00Z",
        log_tail="E model_store: could not allocate",
    )


def sweep(
    queue: QueueModel = QueueModel(),
    *,
    instances: tuple[int, ...] = (1, 2, 3),
    max_batches: tuple[int, ...] = (4, 16),
    loads: tuple[int, ...] = (1, 2, 4, 8, 16, 32),
    model: str = "synthetic",
) -> list[Outcome]:
    """The default and a grid of configurations, each at each load: a whole run without a server."""
    servers = [server_config(model=model)]
    for count in instances:
        servers.append(server_config(count, None, False, model=model))
        servers += [server_config(count, batch, True, delay_us=500, model=model) for batch in max_batches]
    return [measurement(run_config(server, load), queue) for server in servers for load in loads]


@dataclass(frozen=True, slots=True)
class _Seen:
    instances: int
    max_batch: int
    batch: int
    service_ms: float
    throughput: float
    mean_ms: float
    count: int


def _seen(config: RunConfig, queue: QueueModel, rng: np.random.Generator) -> _Seen:
    variant = config.server.variants[0]
    instances = variant.instance_count or 1
    max_batch = variant.max_batch_size or queue.default_max_batch
    limit = max_batch if variant.dynamic_batching else 1
    load = config.load.load
    capacity = 1000 * instances * limit / queue.service_ms(instances, limit)
    if isinstance(load, Concurrency):
        in_flight = float(load.in_flight)
    else:
        asked = _asked_per_s(load)
        spare = max(0.02, 1 - asked / capacity)
        in_flight = max(1.0, asked / 1000 * queue.service_ms(instances, 1) / spare)
    batch = min(max(ceil(in_flight / instances), 1), limit)
    service = queue.service_ms(instances, batch * config.load.batch_size)
    exact = 1000 * min(in_flight, instances * batch) / service
    noise = 1 + queue.noise_ratio * float(rng.standard_normal())
    throughput = exact * noise
    mean_ms = max(service, 1000 * in_flight / exact) / noise + NETWORK_MS
    count = max(1, round(throughput * config.load.duration_s))
    return _Seen(instances, max_batch, batch, service, throughput * config.load.batch_size, mean_ms, count)


def _asked_per_s(load: Load) -> float:
    if isinstance(load, VideoStreams):
        return load.streams * load.frames_per_second
    return load.level


def _rate(per_second: float, interval_ratio: float) -> Rate:
    return Rate(per_second=per_second, low=per_second * (1 - interval_ratio), high=per_second * (1 + interval_ratio))


def _latency(mean_ms: float, count: int, interval_ratio: float) -> Latency:
    return Latency(
        count=count,
        mean_ns=mean_ms * 1e6,
        std_ns=mean_ms * 1e5,
        min_ns=int(mean_ms * 0.8e6),
        max_ns=int(mean_ms * 2.2e6),
        percentiles=tuple(_percentile(mean_ms, percent, count, interval_ratio) for percent in PERCENTS),
    )


def _percentile(mean_ms: float, percent: float, count: int, interval_ratio: float) -> Percentile:
    factor, offset_ms = _SHAPE[percent]
    value = (factor * mean_ms + offset_ms) * 1e6
    beyond = count * (1 - percent / 100)
    return Percentile(
        percent=percent,
        value_ns=int(value),
        low_ns=int(value * (1 - interval_ratio)) if beyond >= 1 else None,
        high_ns=int(value * (1 + 2 * interval_ratio)) if beyond >= 4 else None,
        supported=beyond >= 4,
    )


def _server_times(config: RunConfig, seen: _Seen) -> ServerTimes:
    compute_ms = seen.service_ms
    queue_ms = max(0.0, seen.mean_ms - NETWORK_MS - compute_ms)
    per_request = 1e6 * seen.count
    return ServerTimes(
        model=config.load.model,
        version="1",
        inference_count=seen.count * config.load.batch_size,
        execution_count=max(1, round(seen.count / seen.batch)),
        success_count=seen.count,
        fail_count=0,
        queue_ns=int(queue_ms * per_request),
        compute_input_ns=int(0.05 * compute_ms * per_request),
        compute_infer_ns=int(0.90 * compute_ms * per_request),
        compute_output_ns=int(0.05 * compute_ms * per_request),
    )


def _gpu(seen: _Seen) -> GpuUsage:
    return GpuUsage(
        uuid="GPU-00000000-0000-0000-0000-000000000000",
        name="Synthetic GPU",
        sample_count=50,
        utilization_mean_ratio=min(1.0, 0.3 * seen.instances),
        memory_peak_bytes=(900 + 240 * seen.instances + 6 * seen.max_batch) * 2**20,
        server_memory_peak_bytes=(500 + 240 * seen.instances + 6 * seen.max_batch) * 2**20,
        power_mean_w=180.0 + 30 * seen.instances,
        energy_j=900.0,
    )

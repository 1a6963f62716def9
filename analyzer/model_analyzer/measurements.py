"""Points of a checkpoint to Measurements. What Model Analyzer does not keep stays not measured.

It keeps one number a figure: no p50, no interval, no count of requests. Its MB are 10**6 bytes. Where several models
ran side by side the throughput is their sum, the mean latency that of all their requests, and a percentile is that of
the slowest model, so that a limit kept by it is kept by each.
"""

from collections.abc import Sequence

from analyzer.domain.measurement import GpuUsage, HostUsage, Measurement
from analyzer.domain.record import content_key
from analyzer.domain.run import RunConfig
from analyzer.model_analyzer.models import server_config
from analyzer.model_analyzer.records import Checkpoint, Configuration, Figures, Gpu, ModelPoint, Point
from perf_client.profile import (
    ClientCost,
    Concurrency,
    Latency,
    Load,
    LoadProfile,
    LoadResult,
    ModelResult,
    ModelShare,
    Percentile,
    Protocol,
    Rate,
    RequestRate,
    ServerTimes,
)

VERDICT_REASON = "Model Analyzer does not keep whether the load generator found it stable"
NO_INTERVALS = "Model Analyzer keeps no intervals: a small difference may be noise."
NO_COUNTS = "Nor a count of requests: whether some failed, and whether the percentiles rest on enough, is not known."
SENT_NOT_DUE = "Latency counts from the time a request was sent, not from the time it was due."

_SERVER_TAGS = (
    "perf_server_queue",
    "perf_server_compute_input",
    "perf_server_compute_infer",
    "perf_server_compute_output",
)


def measurements(checkpoint: Checkpoint, model: str) -> list[Measurement]:
    """All points of one entry of ``checkpoint.models``."""
    return [
        measurement(configuration, point, checkpoint.gpus)
        for configuration in checkpoint.of(model)
        for point in configuration.points
    ]


def measurement(configuration: Configuration, point: Point, gpus: dict[str, Gpu]) -> Measurement:
    profile = _profile(configuration, point)
    return Measurement(
        config=RunConfig(server=server_config(configuration), load=profile, content=content_key(point.key)),
        load=_load_result(profile, configuration, point),
        host=_host(point.models[0].figures),
        gpus=tuple(_gpu(uuid, figures, gpus.get(uuid)) for uuid, figures in point.gpus.items()),
        gpus_unmeasured="" if point.gpus else "the checkpoint holds no GPU figures",
        measured_at="",
        overhead_s=0.0,
        warnings=tuple(_warnings(point)),
    )


def _profile(configuration: Configuration, point: Point) -> LoadProfile:
    protocol: Protocol = "grpc" if configuration.protocol.lower() == "grpc" else "http"
    shares = tuple(
        ModelShare(model=variant.model, weight=part.figures.get("perf_throughput", 0.0))
        for variant, part in zip(configuration.variants, point.models)
    )
    return LoadProfile(
        model=configuration.variants[0].model,
        load=_load(point.models),
        protocol=protocol,
        batch_size=int(point.models[0].batch_size or 1),
        mix=shares if len(shares) > 1 else (),
    )


def _load(models: Sequence[ModelPoint]) -> Load:
    """All models' together. Where nothing is said, it is perf_analyzer's default: one request in flight."""
    rates = [float(part.request_rate) for part in models if part.request_rate is not None]
    if rates:
        return RequestRate(per_second=sum(rates))
    return Concurrency(in_flight=sum(int(part.concurrency or 1) for part in models))


def _load_result(profile: LoadProfile, configuration: Configuration, point: Point) -> LoadResult:
    latency = _latency([part.figures for part in point.models])
    alone = len(point.models) == 1
    server = _server_times(profile.model, point.models[0].figures) if alone else ()
    return LoadResult(
        profile=profile,
        start_ns=0,
        started_unix_ns=0,
        counted_from_ns=0,
        counted_to_ns=0,
        request_count=0,
        throughput=_rate(sum(part.figures.get("perf_throughput", 0) for part in point.models)),
        response=latency,
        service=latency,
        first_byte=None,
        verdict="not judged",
        verdict_reason=VERDICT_REASON,
        client=ClientCost(cpu_s=0.0, cpu_ratio=0.0, loop_stall_max_ns=0, bound=False),
        server=server,
        server_unmeasured="" if server else "it is kept for each model, not for all of them together",
        by_model=()
        if alone
        else tuple(_model_result(v.model, part) for v, part in zip(configuration.variants, point.models)),
    )


def _model_result(model: str, part: ModelPoint) -> ModelResult:
    latency = _latency([part.figures])
    rate = _rate(part.figures.get("perf_throughput", 0))
    return ModelResult(
        model=model, version="", request_count=0, throughput=rate, response=latency, service=latency, first_byte=None
    )


def _rate(per_second: float) -> Rate:
    """Bounds equal to the rate: there is no interval."""
    return Rate(per_second=float(per_second), low=float(per_second), high=float(per_second))


def _latency(models: Sequence[Figures]) -> Latency | None:
    """``count`` 0: it was not kept."""
    means = [(figures.get("perf_throughput", 0), figures.get("perf_latency_avg")) for figures in models]
    known = [(rate, mean) for rate, mean in means if mean is not None and rate]
    if len(known) < len(models):
        return None
    percentiles = []
    for percent in (90, 95, 99):
        values = [figures[tag] for figures in models if (tag := f"perf_latency_p{percent}") in figures]
        if len(values) == len(models):
            percentiles.append(_percentile(percent, max(values)))
    mean_ns = 1e6 * sum(rate * mean for rate, mean in known) / sum(rate for rate, _ in known)
    return Latency(count=0, mean_ns=mean_ns, std_ns=0.0, min_ns=0, max_ns=0, percentiles=tuple(percentiles))


def _percentile(percent: float, value_ms: float) -> Percentile:
    return Percentile(percent=float(percent), value_ns=round(value_ms * 1e6), low_ns=None, high_ns=None, supported=True)


def _server_times(model: str, figures: Figures) -> tuple[ServerTimes, ...]:
    """The means that the server gave, as the sums over one request."""
    if any(tag not in figures for tag in _SERVER_TAGS):
        return ()
    queue, given, compute, output = (round(figures[tag] * 1e6) for tag in _SERVER_TAGS)
    return (
        ServerTimes(
            model=model,
            version="",
            inference_count=0,
            execution_count=0,
            success_count=1,
            fail_count=0,
            queue_ns=queue,
            compute_input_ns=given,
            compute_infer_ns=compute,
            compute_output_ns=output,
        ),
    )


def _host(figures: Figures) -> HostUsage | None:
    """0 is what Model Analyzer writes of a server that it could not look at."""
    used_mb = figures.get("cpu_used_ram")
    if not used_mb:
        return None
    return HostUsage(cpu_ratio=None, memory_peak_bytes=round(used_mb * 1e6), sample_count=0)


def _gpu(uuid: str, figures: Figures, device: Gpu | None) -> GpuUsage:
    used_mb, busy_percent = figures.get("gpu_used_memory"), figures.get("gpu_utilization")
    power_w = figures.get("gpu_power_usage")
    return GpuUsage(
        uuid=uuid,
        name=device.name if device else "",
        sample_count=0,
        utilization_mean_ratio=None if busy_percent is None else busy_percent / 100,
        memory_peak_bytes=None if used_mb is None else round(used_mb * 1e6),
        server_memory_peak_bytes=None,
        power_mean_w=None if power_w is None else float(power_w),
        energy_j=None,
    )


def _warnings(point: Point) -> list[str]:
    found = [NO_INTERVALS, NO_COUNTS]
    rated = any(part.request_rate is not None for part in point.models)
    if rated:
        found.append(SENT_NOT_DUE)
    if len(point.models) > 1:
        loads = [part.request_rate if rated else part.concurrency for part in point.models]
        unit = "requests/s" if rated else "in flight"
        each = " and ".join(f"{load:g}" for load in loads if load is not None)
        found.append(f"Each model had a load of its own, {each} {unit}; a percentile is that of the slowest model.")
    return found

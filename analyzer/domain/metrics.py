"""Every figure of a measurement that can be an objective, a budget or a column: a metric is a row in this table."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from analyzer.domain.measurement import GpuUsage, Measurement
from perf_client.profile import Latency


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; ``low`` and ``high`` are None where there is none.

    ``supported`` is false where the sample is too small to know the figure.
    """

    value: float
    low: float | None = None
    high: float | None = None
    supported: bool = True


@dataclass(frozen=True, slots=True)
class Metric:
    """``read`` gives None where the figure was not measured. ``higher_is_better`` None: it has no good direction."""

    name: str
    title: str
    unit: str
    higher_is_better: bool | None
    read: Callable[[Measurement], Estimate | None]


def _percentile(
    pick: Callable[[Measurement], Latency | None], percent: float
) -> Callable[[Measurement], Estimate | None]:
    def read(measurement: Measurement) -> Estimate | None:
        latency = pick(measurement)
        for p in latency.percentiles if latency else ():
            if p.percent == percent:
                low = None if p.low_ns is None else p.low_ns / 1e6
                high = None if p.high_ns is None else p.high_ns / 1e6
                return Estimate(p.value_ns / 1e6, low, high, p.supported)
        return None

    return read


def _mean_latency(measurement: Measurement) -> Estimate | None:
    latency = measurement.load.response
    return None if latency is None else Estimate(latency.mean_ns / 1e6)


def _throughput(measurement: Measurement) -> Estimate | None:
    rate = measurement.load.throughput
    if rate.low == rate.high:
        # A rate as certain as that was read from another tool, which kept no interval.
        return Estimate(rate.per_second)
    return Estimate(rate.per_second, rate.low, rate.high)


def _failure_ratio(measurement: Measurement) -> Estimate | None:
    failed = sum(measurement.load.failures.values()) + measurement.load.dropped_count
    total = measurement.load.request_count + measurement.load.dropped_count
    return Estimate(failed / total) if total else None


def _server_memory(measurement: Measurement) -> Estimate | None:
    host = measurement.host
    return None if host is None else Estimate(host.memory_peak_bytes / 2**20)


def _server_cpu(measurement: Measurement) -> Estimate | None:
    host = measurement.host
    return None if host is None or host.cpu_ratio is None else Estimate(host.cpu_ratio)


def _over_gpus(
    pick: Callable[[GpuUsage], float | None], combine: Callable[[Iterable[float]], float], scale: float = 1.0
) -> Callable[[Measurement], Estimate | None]:
    def read(measurement: Measurement) -> Estimate | None:
        values = [value for gpu in measurement.gpus if (value := pick(gpu)) is not None]
        return Estimate(combine(values) * scale) if values else None

    return read


def _mean(values: Iterable[float]) -> float:
    items = list(values)
    return sum(items) / len(items)


def _energy_per_inference(measurement: Measurement) -> Estimate | None:
    joules = [gpu.energy_j for gpu in measurement.gpus if gpu.energy_j is not None]
    window_s = (measurement.load.counted_to_ns - measurement.load.counted_from_ns) / 1e9
    inferences = measurement.load.throughput.per_second * window_s
    return Estimate(sum(joules) / inferences) if joules and inferences else None


def _response(measurement: Measurement) -> Latency | None:
    return measurement.load.response


def _service(measurement: Measurement) -> Latency | None:
    return measurement.load.service


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("throughput", "Throughput", "infer/s", True, _throughput),
        Metric("mean_latency_ms", "Mean latency", "ms", False, _mean_latency),
        *(
            Metric(f"p{percent:g}_latency_ms", f"p{percent:g} latency", "ms", False, _percentile(_response, percent))
            for percent in (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)
        ),
        *(
            Metric(
                f"p{percent:g}_service_ms", f"p{percent:g} service time", "ms", False, _percentile(_service, percent)
            )
            for percent in (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)
        ),
        Metric("failure_ratio", "Failed requests", "ratio", False, _failure_ratio),
        Metric("server_memory_mb", "Server memory", "MB", False, _server_memory),
        Metric("server_cpu", "Server CPU", "cores", False, _server_cpu),
        Metric("gpu_memory_mb", "GPU memory", "MB", False, _over_gpus(lambda g: g.memory_peak_bytes, sum, 1 / 2**20)),
        Metric(
            "gpu_utilization", "GPU utilization", "ratio", None, _over_gpus(lambda g: g.utilization_mean_ratio, _mean)
        ),
        Metric("gpu_power_w", "GPU power", "W", False, _over_gpus(lambda g: g.power_mean_w, sum)),
        Metric("energy_per_inference_j", "Energy per inference", "J", False, _energy_per_inference),
    )
}
"""MB here are 2**20 bytes; those of Triton Model Analyzer's columns are 10**6."""

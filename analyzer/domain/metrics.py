"""Every figure of a measurement that can be an objective, a budget or a column: a metric is a row in this table."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from analyzer.domain.measurement import GpuUsage, Measurement
from perf_client.profile import Latency, LoadResult, ModelResult


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval; ``low`` and ``high`` are None where there is none.

    ``supported`` is false where the sample is too small to know the figure.
    """

    value: float
    low: float | None = None
    high: float | None = None
    supported: bool = True


LoadPart = LoadResult | ModelResult
"""What one model got: a load of its own, or its part of one that several share."""


@dataclass(frozen=True, slots=True)
class Metric:
    """``read`` gives None where the figure was not measured. ``higher_is_better`` None: it has no good direction.

    ``of_load`` reads it for one model; None where the figure is of the whole server.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool | None
    read: Callable[[Measurement], Estimate | None]
    of_load: Callable[[LoadPart], Estimate | None] | None = None


def _of_loads(
    name: str,
    title: str,
    unit: str,
    of_load: Callable[[LoadPart], Estimate | None],
    combine: Callable[[list[Estimate]], Estimate],
) -> Metric:
    """A figure of each model, and of all by ``combine``; unknown where it is unknown for one of them."""

    def read(measurement: Measurement) -> Estimate | None:
        found = [estimate for load in measurement.loads if (estimate := of_load(load)) is not None]
        return combine(found) if len(found) == len(measurement.loads) else None

    return Metric(name, title, unit, combine is _sum, read, of_load)


def _sum(estimates: list[Estimate]) -> Estimate:
    """Of independent figures: half widths add up as squares."""
    total = sum(estimate.value for estimate in estimates)
    below = [None if e.low is None else (e.value - e.low) ** 2 for e in estimates]
    above = [None if e.high is None else (e.high - e.value) ** 2 for e in estimates]
    low = None if None in below else total - sum(x for x in below if x is not None) ** 0.5
    high = None if None in above else total + sum(x for x in above if x is not None) ** 0.5
    return estimates[0] if len(estimates) == 1 else Estimate(total, low, high, all(e.supported for e in estimates))


def _worst(estimates: list[Estimate]) -> Estimate:
    """The largest, which is the worst of figures that should be small; each bound is the largest of its kind."""
    lows, highs = [e.low for e in estimates], [e.high for e in estimates]
    return Estimate(
        max(e.value for e in estimates),
        None if None in lows else max(low for low in lows if low is not None),
        None if None in highs else max(high for high in highs if high is not None),
        all(e.supported for e in estimates),
    )


def _percentile(pick: Callable[[LoadPart], Latency | None], percent: float) -> Callable[[LoadPart], Estimate | None]:
    def read(load: LoadPart) -> Estimate | None:
        latency = pick(load)
        for p in latency.percentiles if latency else ():
            if p.percent == percent:
                low = None if p.low_ns is None else p.low_ns / 1e6
                high = None if p.high_ns is None else p.high_ns / 1e6
                return Estimate(p.value_ns / 1e6, low, high, p.supported)
        return None

    return read


def _mean_latency(load: LoadPart) -> Estimate | None:
    return None if load.response is None else Estimate(load.response.mean_ns / 1e6)


def _throughput(load: LoadPart) -> Estimate | None:
    rate = load.throughput
    if rate.low == rate.high:
        # A rate as certain as that was read from another tool, which kept no interval.
        return Estimate(rate.per_second)
    return Estimate(rate.per_second, rate.low, rate.high)


def _failure_ratio(load: LoadPart) -> Estimate | None:
    failed = sum(load.failures.values()) + load.dropped_count
    total = load.request_count + load.dropped_count
    return Estimate(failed / total) if total else None


def _late_frames_ratio(load: LoadPart) -> Estimate | None:
    """Frames of video streams that did not come in time: late, failed or never sent."""
    streams = load.by_stream if isinstance(load, LoadResult) else ()
    frames = sum(each.frame_count for each in streams)
    return Estimate(1 - sum(each.on_time_count for each in streams) / frames) if frames else None


def _inferences_per_s(measurement: Measurement) -> Estimate:
    return _sum([Estimate(rate.per_second, rate.low, rate.high) for rate in (m.throughput for m in measurement.loads)])


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


def _memory_used(gpu: GpuUsage) -> float | None:
    if gpu.memory_peak_bytes is None or not gpu.memory_total_bytes:
        return None
    return gpu.memory_peak_bytes / gpu.memory_total_bytes


def _energy_per_inference(measurement: Measurement) -> Estimate | None:
    window_s = (measurement.load.counted_to_ns - measurement.load.counted_from_ns) / 1e9
    known = [(gpu.energy_j, gpu.energy_s or window_s) for gpu in measurement.gpus if gpu.energy_j is not None]
    per_s = _inferences_per_s(measurement).value
    if not known or not per_s or not window_s:
        return None
    return Estimate(sum(energy_j / span_s for energy_j, span_s in known) / per_s)


def _cost_per_million(measurement: Measurement) -> Estimate | None:
    """On the GPUs that the server holds memory on, or on one machine where there are none."""
    price, rate = measurement.price_per_hour, _inferences_per_s(measurement)
    if price is None or rate.value <= 0:
        return None
    devices = sum(1 for gpu in measurement.gpus if gpu.server_memory_peak_bytes)
    paid = price * max(1, devices) / 3600 * 1e6
    return Estimate(
        paid / rate.value,
        paid / rate.high if rate.high else None,
        paid / rate.low if rate.low and rate.low > 0 else None,
    )


def _response(load: LoadPart) -> Latency | None:
    return load.response


def _service(load: LoadPart) -> Latency | None:
    return load.service


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _of_loads("throughput", "Throughput", "infer/s", _throughput, _sum),
        _of_loads("mean_latency_ms", "Mean latency", "ms", _mean_latency, _worst),
        *(
            _of_loads(
                f"p{percent:g}_latency_ms", f"p{percent:g} latency", "ms", _percentile(_response, percent), _worst
            )
            for percent in (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)
        ),
        *(
            _of_loads(
                f"p{percent:g}_service_ms", f"p{percent:g} service time", "ms", _percentile(_service, percent), _worst
            )
            for percent in (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)
        ),
        _of_loads("failure_ratio", "Failed requests", "ratio", _failure_ratio, _worst),
        _of_loads("late_frames_ratio", "Late frames", "ratio", _late_frames_ratio, _worst),
        Metric("server_memory_mb", "Server memory", "MB", False, _server_memory),
        Metric("server_cpu", "Server CPU", "cores", False, _server_cpu),
        Metric("gpu_memory_mb", "GPU memory", "MB", False, _over_gpus(lambda g: g.memory_peak_bytes, sum, 1 / 2**20)),
        Metric(
            "gpu_server_memory_mb",
            "GPU memory of the server",
            "MB",
            False,
            _over_gpus(lambda g: g.server_memory_peak_bytes, sum, 1 / 2**20),
        ),
        Metric("gpu_memory_used", "GPU memory in use", "ratio", False, _over_gpus(_memory_used, max)),
        Metric(
            "gpu_utilization", "GPU utilization", "ratio", None, _over_gpus(lambda g: g.utilization_mean_ratio, _mean)
        ),
        Metric(
            "gpu_sm_activity", "GPU multiprocessors at work", "ratio", None, _over_gpus(lambda g: g.sm_ratio, _mean)
        ),
        Metric("gpu_occupancy", "GPU warps held", "ratio", None, _over_gpus(lambda g: g.sm_occupancy_ratio, _mean)),
        Metric(
            "gpu_tensor_activity",
            "GPU tensor cores at work",
            "ratio",
            None,
            _over_gpus(lambda g: g.tensor_ratio, _mean),
        ),
        Metric(
            "gpu_dram_activity", "GPU memory bandwidth in use", "ratio", None, _over_gpus(lambda g: g.dram_ratio, _mean)
        ),
        Metric("gpu_sm_clock_mhz", "GPU clock", "MHz", None, _over_gpus(lambda g: g.sm_clock_mean_mhz, min)),
        Metric(
            "gpu_memory_clock_mhz", "GPU memory clock", "MHz", None, _over_gpus(lambda g: g.memory_clock_mean_mhz, min)
        ),
        Metric("gpu_temperature_c", "GPU temperature", "°C", False, _over_gpus(lambda g: g.temperature_max_c, max)),
        Metric("gpu_throttled", "GPU throttled", "ratio", False, _over_gpus(lambda g: g.throttled_ratio, max)),
        Metric(
            "gpu_pcie_tx_mb_per_s",
            "Sent by the GPU over PCIe",
            "MB/s",
            None,
            _over_gpus(lambda g: g.pcie_tx_mean_bytes_per_s, sum, 1 / 2**20),
        ),
        Metric(
            "gpu_pcie_rx_mb_per_s",
            "Received by the GPU over PCIe",
            "MB/s",
            None,
            _over_gpus(lambda g: g.pcie_rx_mean_bytes_per_s, sum, 1 / 2**20),
        ),
        Metric("gpu_power_w", "GPU power", "W", False, _over_gpus(lambda g: g.power_mean_w, sum)),
        Metric("energy_per_inference_j", "Energy per inference", "J", False, _energy_per_inference),
        Metric("cost_per_million", "Cost", "per million inferences", False, _cost_per_million),
    )
}
"""MB here are 2**20 bytes; those of Triton Model Analyzer's columns are 10**6."""


def unknown_metric(name: str) -> str:
    """What to say of a name that is no metric's: the nearest, or all of them."""
    near = get_close_matches(name, METRICS, n=1)
    return f"no known metric: {name}; " + (f"did you mean {near[0]}?" if near else f"known are {', '.join(METRICS)}")


def read_figure(metric: str, measurement: Measurement, model: str = "") -> Estimate | None:
    """A metric over all models, or of one. None where it was not measured, or there is no such model."""
    chosen = METRICS[metric]
    if not model or chosen.of_load is None:
        return chosen.read(measurement)
    part = load_of(measurement, model)
    return None if part is None else chosen.of_load(part)


def load_of(measurement: Measurement, model: str) -> LoadPart | None:
    """What one model got."""
    for load in measurement.loads:
        for part in load.by_model or (load,):
            if (part.profile.model if isinstance(part, LoadResult) else part.model) == model:
                return part
    return None

"""Model Analyzer's figures by tag: what heads their column, how several models' are put together, what is better."""

from collections.abc import Sequence
from statistics import mean

from analyzer.model_analyzer.records import Figures, Number, Point

_PERCENTILES = ("p99", "p95", "p90", "p75", "p50", "p25", "max", "min", "avg")
HEADERS = {
    "perf_throughput": "Throughput (infer/sec)",
    "perf_latency_avg": "Avg Latency (ms)",
    "perf_latency_p90": "p90 Latency (ms)",
    "perf_latency_p95": "p95 Latency (ms)",
    "perf_latency_p99": "p99 Latency (ms)",
    "perf_client_response_wait": "Response Wait Time (ms)",
    "perf_client_send_recv": "Client Send/Recv (ms)",
    "perf_server_queue": "Server Queue time (ms)",
    "perf_server_compute_input": "Server Compute Input time (ms)",
    "perf_server_compute_infer": "Server Compute Infer time (ms)",
    "perf_server_compute_output": "Server Compute Output time (ms)",
    "gpu_used_memory": "GPU Memory Usage (MB)",
    "gpu_free_memory": "GPU Memory Available (MB)",
    "gpu_utilization": "GPU Utilization (%)",
    "gpu_power_usage": "GPU Power Usage (W)",
    "cpu_used_ram": "RAM Usage (MB)",
    "cpu_available_ram": "RAM Available (MB)",
    # The unit is Model Analyzer's own.
    "output_token_throughput": "Output Token Throughput (infer/sec)",
    **{f"time_to_first_token_{p}": f"{p} Time To First Token (ms)" for p in _PERCENTILES},
    **{f"inter_token_latency_{p}": f"{p} Inter Token Latency (ms)" for p in _PERCENTILES},
}

TAGS = {
    "throughput": "perf_throughput",
    "mean_latency_ms": "perf_latency_avg",
    **{
        f"p{percent}_{kind}_ms": f"perf_latency_p{percent}"
        for percent in (90, 95, 99)
        for kind in ("latency", "service")
    },
    "server_memory_mb": "cpu_used_ram",
    "gpu_memory_mb": "gpu_used_memory",
    "gpu_utilization": "gpu_utilization",
    "gpu_power_w": "gpu_power_usage",
}
"""Our metrics that Model Analyzer measures, too."""

DEFAULT_WEIGHTS = {"perf_throughput": 1.0}

_HIGHER_IS_BETTER = (
    "perf_throughput",
    "output_token_throughput",
    "gpu_free_memory",
    "gpu_utilization",
    "cpu_available_ram",
)
_SUMMED = ("perf_throughput", "output_token_throughput")


def combined(tag: str, values: Sequence[Number]) -> Number:
    """One figure of several models: rates add up, the rest is their mean."""
    return sum(values) if tag in _SUMMED else mean(values)


def advantage(one: Point, other: Point, weights: dict[str, float]) -> float:
    """How much better ``one`` is, by Model Analyzer's rule: above 0 it stands before ``other``.

    For each model the weighted differences relative to the pair's mean, then the mean over the models. The rule is not
    transitive; it gives the rows of the tables their order and nothing else.
    """
    shares = [
        sum(weight * _difference(tag, a, b) for tag, weight in weights.items())
        for a, b in zip(_figures(one), _figures(other))
    ]
    return sum(shares) / len(shares) if shares else 0.0


def _difference(tag: str, one: Figures, other: Figures) -> float:
    if tag not in one or tag not in other:
        return float(tag in one) - float(tag in other)
    middle = (one[tag] + other[tag]) / 2
    relative = (one[tag] - other[tag]) / middle if middle else 0.0
    return relative if tag in _HIGHER_IS_BETTER else -relative


def _figures(point: Point) -> list[Figures]:
    """Each model's own, and those of the devices, which they share: memory in all, the rest as a mean."""
    tags = dict.fromkeys(tag for figures in point.gpus.values() for tag in figures)
    shared: Figures = {}
    for tag in tags:
        values = [figures[tag] for figures in point.gpus.values() if tag in figures]
        shared[tag] = sum(values) if tag.endswith("_memory") else mean(values)
    return [shared | model.figures for model in point.models]

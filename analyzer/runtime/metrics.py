"""Statistics to a page in Prometheus' text format, under the names that Triton's dashboards know."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tritonclient.grpc import service_pb2

CONTENT_TYPE = "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"


@dataclass(frozen=True, slots=True)
class _Family:
    name: str
    help: str
    read: Callable[[service_pb2.ModelStatistics], int]
    labels: str = ""


_FAMILIES = (
    _Family(
        "nv_inference_request_success",
        "Number of successful inference requests, all batch sizes",
        lambda s: s.inference_stats.success.count,
    ),
    _Family(
        "nv_inference_request_failure",
        "Number of failed inference requests, all batch sizes",
        lambda s: s.inference_stats.fail.count,
        ',reason="OTHER"',
    ),
    _Family("nv_inference_count", "Number of inferences performed", lambda s: s.inference_count),
    _Family("nv_inference_exec_count", "Number of model executions performed", lambda s: s.execution_count),
    _Family(
        "nv_inference_request_duration_us",
        "Cumulative inference request duration in microseconds",
        lambda s: s.inference_stats.success.ns // 1000,
    ),
    _Family(
        "nv_inference_queue_duration_us",
        "Cumulative inference queuing duration in microseconds",
        lambda s: s.inference_stats.queue.ns // 1000,
    ),
    _Family(
        "nv_inference_compute_input_duration_us",
        "Cumulative compute input duration in microseconds",
        lambda s: s.inference_stats.compute_input.ns // 1000,
    ),
    _Family(
        "nv_inference_compute_infer_duration_us",
        "Cumulative compute inference duration in microseconds",
        lambda s: s.inference_stats.compute_infer.ns // 1000,
    ),
    _Family(
        "nv_inference_compute_output_duration_us",
        "Cumulative inference compute output duration in microseconds",
        lambda s: s.inference_stats.compute_output.ns // 1000,
    ),
    _Family(
        "nv_cache_num_hits_per_model",
        "Number of response cache hits per model",
        lambda s: s.inference_stats.cache_hit.count,
    ),
    _Family(
        "nv_cache_num_misses_per_model",
        "Number of response cache misses per model",
        lambda s: s.inference_stats.cache_miss.count,
    ),
    _Family(
        "nv_cache_hit_duration_per_model",
        "Cumulative response cache hit duration per model, in microseconds",
        lambda s: s.inference_stats.cache_hit.ns // 1000,
    ),
    _Family(
        "nv_cache_miss_duration_per_model",
        "Cumulative response cache miss duration per model, in microseconds",
        lambda s: s.inference_stats.cache_miss.ns // 1000,
    ),
)


def render(statistics: Iterable[service_pb2.ModelStatistics], pending: Mapping[tuple[str, str], int]) -> str:
    """One page. ``pending`` are the requests that wait for execution, by model and version."""
    entries = list(statistics)
    lines: list[str] = []
    for family in _FAMILIES:
        lines += _heading(family.name, family.help, "counter")
        lines += [
            f"{family.name}{{{_model(entry.name, entry.version)}{family.labels}}} {family.read(entry)}"
            for entry in entries
        ]
    name = "nv_inference_pending_request_count"
    lines += _heading(name, "Instantaneous number of pending requests awaiting execution", "gauge")
    lines += [f"{name}{{{_model(model, version)}}} {count}" for (model, version), count in sorted(pending.items())]
    return "\n".join(lines) + "\n"


def _heading(name: str, text: str, kind: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _model(name: str, version: str) -> str:
    return f'model="{_escaped(name)}",version="{_escaped(version)}"'


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

"""Objectives and constraints in Model Analyzer's words to ours: tags to metrics, its units to ours."""

from collections.abc import Iterator, Mapping

from analyzer.domain.metrics import METRICS
from analyzer.model_analyzer.tags import HEADERS, TAGS
from analyzer.settings.values import number

LISTED_WEIGHT = 10
"""Of each objective in a list without weights."""

_METRIC_OF = {tag: metric for metric, tag in reversed(TAGS.items()) if not metric.endswith("_service_ms")} | {
    "perf_latency": "p99_latency_ms"
}
_SCALE = {"server_memory_mb": 1e6 / 2**20, "gpu_memory_mb": 1e6 / 2**20, "gpu_utilization": 0.01}
"""Its MB are 10**6 bytes and its utilization is in percent."""


def objectives(raw: object, model: str = "", weighting: float = 1.0) -> dict[str, float]:
    """A list of tags or a mapping of tags to weights, to our option's mapping. Raises ValueError."""
    if isinstance(raw, str):
        raw = [item.strip() for item in raw.split(",")]
    pairs = raw.items() if isinstance(raw, Mapping) else ((tag, LISTED_WEIGHT) for tag in _listed(raw))
    found: dict[str, float] = {}
    for tag, weight in pairs:
        name = _named(str(tag), model)
        found[name] = found.get(name, 0.0) + number(LISTED_WEIGHT if weight is None else weight) * weighting
    return found


def constraints(raw: object, model: str = "") -> Iterator[str]:
    """``{tag: {min: N, max: N}}`` to limits in the form of our option. Raises ValueError."""
    if raw is None:
        return
    if not isinstance(raw, Mapping):
        raise ValueError("takes a mapping such as `perf_latency_p99: {max: 20}`")
    for tag, bounds in raw.items():
        name = _named(str(tag), model)
        if not isinstance(bounds, Mapping) or not bounds or not bounds.keys() <= {"min", "max"}:
            raise ValueError(f"takes min or max for {tag}")
        for bound, limit in bounds.items():
            scaled = number(limit) * _SCALE.get(metric_of(str(tag)), 1.0)
            yield f"{name}{'<=' if bound == 'max' else '>='}{scaled!r}"


def metric_of(tag: str) -> str:
    """Our own names are taken, too. Raises ValueError."""
    metric = _METRIC_OF.get(tag, tag)
    if metric in METRICS:
        return metric
    if tag in HEADERS:
        raise ValueError(f"names {tag}, which is not measured here; known are {', '.join(_METRIC_OF)}")
    raise ValueError(f"names no known metric: {tag}; known are {', '.join(_METRIC_OF)}")


def _named(tag: str, model: str) -> str:
    """Of one model, where the metric is of one."""
    metric = metric_of(tag)
    return f"{model}:{metric}" if model and METRICS[metric].of_load is not None else metric


def _listed(raw: object) -> list[object]:
    if isinstance(raw, (list, tuple)):
        return list(raw)
    raise ValueError("takes a list of metrics, or a mapping of metrics to weights")

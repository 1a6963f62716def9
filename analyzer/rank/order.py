"""The order of kept points: a score from the objectives, and the best load of each server configuration."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import log, sqrt

from analyzer.domain.budget import Objective
from analyzer.domain.measurement import Measurement
from analyzer.domain.metrics import METRICS, Estimate, Metric
from analyzer.domain.record import content_key

DEFAULT_OBJECTIVES = (Objective(metric="throughput"),)

NEGLIGIBLE = 0.02
"""Loads of one configuration that score within this much of its best count as level: past the knee of a server, more
load gives noise in throughput and real growth in latency."""

_SMALLEST = 1e-12


@dataclass(frozen=True, slots=True)
class Score:
    """Higher is better. ``half_width`` is that of its 95 % interval, 0 where the objectives have none.

    One unit of ``value`` is a factor of e in an objective of weight 1, so a difference of 0.02 is about 2 %.
    """

    value: float
    half_width: float

    def separated(self, other: "Score") -> bool:
        """True where the interval of the difference leaves 0 out."""
        return abs(self.value - other.value) > sqrt(self.half_width**2 + other.half_width**2)


def score(measurement: Measurement, objectives: Sequence[Objective]) -> Score:
    """Weighted product of the objectives, as a sum of logarithms.

    Unlike sums of differences relative to a pair's mean it is one number a point: so order is transitive, and no
    point's place depends on which others were measured. Ratios, which may be 0, enter as they are.
    """
    total, variance = 0.0, 0.0
    for objective in objectives:
        metric = METRICS[objective.metric]
        estimate = objective.read(measurement)
        if estimate is None:
            raise ValueError(f"{objective.figure} was not measured at {measurement.config.key}; sift the points first")
        value, half_width = _scaled(metric, estimate)
        sign = -1.0 if metric.higher_is_better is False else 1.0
        total += objective.weight * sign * value
        variance += (objective.weight * half_width) ** 2
    return Score(total, sqrt(variance))


def best_of_each(
    kept: Iterable[Measurement], objectives: Sequence[Objective], is_sure: Callable[[Measurement], bool]
) -> tuple[Measurement, ...]:
    """The best point of each server configuration and client batch, best first.

    Sure points go before the others, within a configuration and among them.
    """
    groups: dict[str, list[Measurement]] = {}
    for measurement in kept:
        groups.setdefault(group_key(measurement), []).append(measurement)
    best = [_best_load([m for m in group if is_sure(m)] or group, objectives) for group in groups.values()]
    return tuple(sorted(best, key=lambda m: (not is_sure(m), -score(m, objectives).value, _p99(m), m.config.key)))


def group_key(measurement: Measurement) -> str:
    """Which points differ in their load only."""
    sent = [
        (load.model, load.batch_size, load.protocol, load.shared_memory, load.shapes, load.input_data)
        for load in measurement.config.loads
    ]
    return content_key(measurement.config.server, sent)


def _best_load(group: Sequence[Measurement], objectives: Sequence[Objective]) -> Measurement:
    scores = {m.config.key: score(m, objectives) for m in group}
    leader = max(scores.values(), key=lambda s: s.value)
    level = [
        m
        for m in group
        if leader.value - scores[m.config.key].value <= NEGLIGIBLE and not leader.separated(scores[m.config.key])
    ]
    return min(level, key=lambda m: (_p99(m), -scores[m.config.key].value, m.config.key))


def _p99(measurement: Measurement) -> float:
    estimate = METRICS["p99_latency_ms"].read(measurement)
    return float("inf") if estimate is None else estimate.value


def _scaled(metric: Metric, estimate: Estimate) -> tuple[float, float]:
    """Value and half width of the interval, both as logarithms but for ratios."""
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    if metric.unit == "ratio":
        return estimate.value, (high - low) / 2
    logs = [log(max(_SMALLEST, x)) for x in (low, estimate.value, high)]
    return logs[1], (logs[2] - logs[0]) / 2

"""Which leaders can't be told apart, and which of those costs least."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from analyzer.domain.budget import Objective
from analyzer.domain.measurement import Measurement
from analyzer.domain.metrics import METRICS
from analyzer.rank.order import score

WORTH_LOSING = 0.03
"""A tied point is taken for its price only if its score is within this much of the leader's: a point that was measured
too poorly to be told apart from anything must not win by being cheap."""

SAME_MEMORY_RATIO = 0.02
"""Memory peaks of one server differ by about this much from start to start, so smaller gaps decide nothing."""


@dataclass(frozen=True, slots=True)
class Cost:
    """One way to be cheaper. ``read`` is None where it was not measured; ``slack_ratio`` is what counts as equal."""

    reason: str
    read: Callable[[Measurement], float | None]
    slack_ratio: float = 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    """The cheapest of the tied, and which cost decided (empty where there was nothing to decide)."""

    chosen: Measurement
    reason: str


def tied_with_leader(ordered: Sequence[Measurement], objectives: Sequence[Objective]) -> tuple[Measurement, ...]:
    """Those of ``ordered`` (best first) whose score can't be told apart from the first one's, that one included."""
    if not ordered:
        return ()
    leader = score(ordered[0], objectives)
    return tuple(m for m in ordered if m is ordered[0] or not leader.separated(score(m, objectives)))


def cheapest(tied: Sequence[Measurement], objectives: Sequence[Objective]) -> Choice:
    """Narrow the tied down by each cost in turn: memory, instances, delay, latency."""
    leader = score(tied[0], objectives)
    left = [m for m in tied if leader.value - score(m, objectives).value <= WORTH_LOSING]
    decided = ""
    for cost in COSTS:
        values = [cost.read(m) for m in left]
        known = [value for value in values if value is not None]
        if len(left) == 1 or len(known) < len(left):
            continue
        limit = min(known) * (1 + cost.slack_ratio)
        cheaper = [m for m, value in zip(left, known) if value <= limit]
        if len(cheaper) < len(left):
            decided = cost.reason
        left = cheaper
    return Choice(min(left, key=lambda m: (-score(m, objectives).value, m.config.key)), decided)


def _metric(name: str) -> Callable[[Measurement], float | None]:
    def read(measurement: Measurement) -> float | None:
        estimate = METRICS[name].read(measurement)
        return None if estimate is None else estimate.value

    return read


def _instances(measurement: Measurement) -> float | None:
    """Sum over the models; a count left to the repository is taken as one, the serving default."""
    return float(sum(variant.instance_count or 1 for variant in measurement.config.server.variants))


def _delay_us(measurement: Measurement) -> float | None:
    return float(sum(variant.queue_delay_us or 0 for variant in measurement.config.server.variants))


COSTS = (
    Cost("needs the least GPU memory", _metric("gpu_memory_mb"), SAME_MEMORY_RATIO),
    Cost("needs the least server memory", _metric("server_memory_mb"), SAME_MEMORY_RATIO),
    Cost("needs the fewest instances", _instances),
    Cost("waits the shortest to fill a batch", _delay_us),
    Cost("has the lowest p99 latency", _metric("p99_latency_ms")),
)

"""The Pareto front: the points that no other point beats in every chosen metric."""

from collections.abc import Sequence

from analyzer.domain.measurement import Measurement
from analyzer.domain.metrics import METRICS

FRONT_METRICS = ("throughput", "p99_latency_ms")


def front(measurements: Sequence[Measurement], metrics: Sequence[str] = FRONT_METRICS) -> tuple[Measurement, ...]:
    """The points not dominated, best in the first metric first. A point without one of the metrics is left out."""
    placed = [(point, m) for m in measurements if (point := _costs(m, metrics)) is not None]
    placed.sort(key=lambda pair: (pair[0], pair[1].config.key))
    kept: list[tuple[tuple[float, ...], Measurement]] = []
    for costs, measurement in placed:
        # Sorted by cost, so whatever could dominate this point stands before it.
        if not any(dominates(other, costs) for other, _ in kept):
            kept.append((costs, measurement))
    return tuple(measurement for _, measurement in kept)


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """True where ``one`` costs no more anywhere and less somewhere."""
    return all(a <= b for a, b in zip(one, other)) and any(a < b for a, b in zip(one, other))


def _costs(measurement: Measurement, metrics: Sequence[str]) -> tuple[float, ...] | None:
    costs = []
    for name in metrics:
        estimate = METRICS[name].read(measurement)
        if estimate is None:
            return None
        costs.append(estimate.value if METRICS[name].higher_is_better is False else -estimate.value)
    return tuple(costs)

"""The order in which Model Analyzer puts configurations and points into its tables."""

from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from functools import cmp_to_key
from typing import NamedTuple, TypeVar

from analyzer.model_analyzer.records import Checkpoint, Configuration, Point
from analyzer.model_analyzer.tags import advantage

Satisfies = Callable[[Configuration, Point], bool]
T = TypeVar("T")


class _Group(NamedTuple):
    configuration: Configuration
    passing: list[Point]
    failing: list[Point]

    @property
    def leader(self) -> Point:
        return (self.passing or self.failing)[0]


def ordered_points(
    checkpoint: Checkpoint, satisfies: Satisfies, weights: dict[str, float]
) -> Iterator[tuple[Configuration, Point, bool]]:
    """Best configuration first; inside one, points within the constraints (true) before the others, best first."""

    def better(one: Point, other: Point) -> float:
        return advantage(one, other, weights)

    for model in checkpoint.models:
        groups = []
        for configuration in (found for found in checkpoint.of(model) if found.points):
            passing = [point for point in configuration.points if satisfies(configuration, point)]
            failing = [point for point in configuration.points if not satisfies(configuration, point)]
            groups.append(_Group(configuration, _best_first(passing, better), _best_first(failing, better)))
        for group in _best_first(groups, lambda one, other: better(one.leader, other.leader)):
            yield from ((group.configuration, point, True) for point in group.passing)
            yield from ((group.configuration, point, False) for point in group.failing)


def _best_first(items: Iterable[T], better: Callable[[T, T], float]) -> list[T]:
    """Inserted one by one, as Model Analyzer does: its rule is not transitive, so another way of sorting would show."""

    def compare(one: T, other: T) -> int:
        ahead = better(one, other)
        return (ahead < 0) - (ahead > 0)

    placed: list[T] = []
    for item in items:
        insort(placed, item, key=cmp_to_key(compare))
    return placed

"""How long a search has found nothing better."""

import msgspec
import pytest

from analyzer.search.evidence import gather
from analyzer.search.patience import barren, growth
from analyzer.search.problem import Goal
from tests.fakes.landscapes import OBJECTIVES
from tests.fakes.outcomes import QueueModel, measurement, run_config, server_config

GOAL = Goal(OBJECTIVES)


def judged(rates: list[float], kept: list[bool]):
    """Measured in this order, at rising loads."""
    seen = []
    for place, rate in enumerate(rates):
        point = measurement(run_config(server_config(1, 8, True), place + 1), QueueModel())
        throughput = msgspec.structs.replace(point.load.throughput, per_second=rate, low=rate, high=rate)
        load = msgspec.structs.replace(point.load, throughput=throughput)
        seen.append(msgspec.structs.replace(point, load=load, measured_at=f"2026-01-01T00:00:{place:02d}Z"))
    levels = sorted(gather(reversed(seen), ("throughput",)).levels, key=lambda level: level.load)
    return [(level, GOAL.score(level) if ok else None) for level, ok in zip(levels, kept, strict=True)]


@pytest.mark.parametrize(
    ("rates", "kept", "expected"),
    [
        ([], [], 0),
        ([100], [True], 0),
        ([100], [False], 1),
        ([100, 90, 95], [True, True, True], 2),
        ([100, 90, 150], [True, True, True], 0),
        ([100, 150, 200], [True, True, False], 1),
        ([100, 100.5, 100.9], [True, True, True], 2),
        ([100, 100.5, 101.2], [True, True, True], 0),
    ],
)
def test_points_since_the_best_rose_are_counted(rates: list[float], kept: list[bool], expected: int):
    levels = judged(rates, kept)
    assert barren(levels) == expected
    assert barren(levels[::-1]) == expected


def test_the_longer_nothing_better_was_found_the_more_a_point_must_promise():
    asked = [growth(points) for points in range(40)]
    assert asked == sorted(asked)
    assert (asked[0], asked[6], asked[10], asked[14]) == (1, 1, 2, 4)

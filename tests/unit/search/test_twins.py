"""Candidates that a load can't tell apart."""

from dataclasses import replace

import pytest

from analyzer.search.candidates import Slots
from analyzer.search.evidence import gather
from analyzer.search.make import make_planner
from analyzer.search.options import SearchOptions
from analyzer.search.twins import Twins
from tests.fakes.landscapes import BASE, OBJECTIVES, explore, landscape, load_template, space

SEEN = Slots(instances=2, max_batch=8, batch_limit=8, client_batch=1, delay_us=0, batching=True)


def level(in_flight: float):
    """Any level that was measured, put at that load."""
    options = SearchOptions(bases=(BASE,))
    planner = make_planner("capacity", space(), OBJECTIVES, (), load_template(), "content", options)
    outcomes = explore(planner, landscape("mixed").measure, 1)
    return replace(gather(outcomes, ("throughput",)).levels[0], load=in_flight)


@pytest.mark.parametrize(
    ("changed", "in_flight", "expected"),
    [
        ({"batch_limit": 32}, 6.0, "same"),
        ({"batch_limit": 32}, 8.0, "same"),
        ({"batch_limit": 32}, 14.0, "about"),
        ({"batch_limit": 32}, 17.0, "apart"),
        ({"batch_limit": 4}, 6.0, "about"),
        ({"batch_limit": 2}, 6.0, "apart"),
        ({"batch_limit": 32, "instances": 3}, 6.0, "apart"),
        ({"batch_limit": 32, "delay_us": 500}, 6.0, "apart"),
        ({"batch_limit": 32, "extra": (0.7,)}, 6.0, "apart"),
    ],
)
def test_only_a_limit_that_no_batch_reaches_is_no_difference(changed: dict[str, int], in_flight: float, expected: str):
    twins = Twins((replace(SEEN, **changed),), (SEEN,), (level(in_flight),), never=False)
    assert twins.alike(0, in_flight) == expected
    assert twins.alike(0, in_flight * 1.1) in {"apart"}


@pytest.mark.parametrize(("in_flight", "expected"), [(7.0, "same"), (8.0, "apart"), (12.0, "apart")])
def test_with_a_queue_delay_a_batch_that_is_just_full_leaves_at_once(in_flight: float, expected: str):
    seen = replace(SEEN, delay_us=500)
    twins = Twins((replace(seen, batch_limit=32),), (seen,), (level(in_flight),), never=False)
    assert twins.alike(0, in_flight) == expected


def test_where_other_figures_count_nothing_is_alike():
    twins = Twins((replace(SEEN, batch_limit=32),), (SEEN,), (level(4.0),), never=True)
    assert twins.alike(0, 4.0) == "apart"

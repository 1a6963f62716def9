"""How good the default search must be, and in how many points: the table of `tests/benchmarks/search_quality.py`."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.benchmarks.search_quality import search
from tests.fakes.landscapes import NAMES, landscape, p99_ms, random_landscape


@pytest.mark.parametrize("name", NAMES)
def test_without_a_limit_98_percent_of_the_best_in_30_points(name: str):
    result = search(landscape(name), None)
    assert result.ratio >= 0.98
    assert result.points <= 30


@pytest.mark.parametrize("name", [*NAMES, "cores"])
def test_under_a_limit_97_percent_of_the_best_in_40_points(name: str):
    result = search(landscape(name), 20.0)
    assert result.kept
    assert result.ratio >= 0.97
    assert result.points <= 40


@pytest.mark.parametrize("name", NAMES)
def test_under_noise_the_pick_truly_meets_the_limit(name: str):
    results = [search(landscape(name, noise=0.03, seed=seed), 20.0) for seed in range(4)]
    assert all(result.kept for result in results)
    assert max(result.points for result in results) <= 50
    assert min(result.ratio for result in results) >= 0.85


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 100_000), st.booleans())
def test_the_table_holds_on_landscapes_drawn_at_random(seed: int, limited: bool):
    land = random_landscape(seed)
    assume(p99_ms(land.service_ms(1, 1)) <= 20)
    result = search(land, 20.0 if limited else None)
    assert result.kept
    assert result.ratio >= (0.97 if limited else 0.98)
    assert result.points <= (40 if limited else 30)


@pytest.mark.parametrize("name", NAMES)
def test_ten_points_already_give_a_decent_answer(name: str):
    assert search(landscape(name), 20.0, at_most=10).ratio >= 0.8

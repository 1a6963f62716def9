"""How good the default search must be, and in how many points: the table of `tests/benchmarks/search_quality.py`."""

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from analyzer.search.options import SearchOptions
from tests.benchmarks.search_quality import RATES, Result, search
from tests.fakes.landscapes import BASE, NAMES, landscape, p99_ms, random_landscape


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


def test_a_tight_limit_and_a_corner_that_fails_do_not_hide_what_batches_cost():
    result = search(random_landscape(51), 20.0)
    assert result.ratio >= 0.97


@pytest.mark.parametrize("name", NAMES)
def test_rates_under_noise_keep_the_limit_in_50_points(name: str):
    results = [search(landscape(name, noise=0.03, seed=seed), 20.0, load=RATES) for seed in range(3)]
    assert all(result.kept for result in results)
    assert max(result.points for result in results) <= 50


@pytest.mark.parametrize("name", ["batchy", "insty", "mixed"])
def test_the_dearer_a_start_the_longer_a_search_stays_with_a_server(name: str):
    lands = [replace(landscape(name, noise=0.015, seed=seed), noise_at_s=5.0) for seed in range(5)]

    def searched(restart_s: float) -> list[Result]:
        durations = {"screen_duration_s": 2.0, "confirm_duration_s": 5.0}
        options = SearchOptions(bases=(BASE,), restart_s=restart_s, **durations)
        return [search(land, 20.0, options=options) for land in lands]

    swift, slow = searched(0.5), searched(20.0)
    assert _starts_a_point(slow) < _starts_a_point(swift)
    assert _took_s(slow, 20) < _took_s(swift, 20)
    assert all(each.kept and each.ratio >= 0.9 for each in slow)


def _starts_a_point(found: list[Result]) -> float:
    return sum(each.starts for each in found) / sum(each.points for each in found)


def _took_s(found: list[Result], start_s: float) -> float:
    return sum(each.load_s + start_s * each.starts for each in found)

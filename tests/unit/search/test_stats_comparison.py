import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.domain.metrics import Estimate
from analyzer.stats import better, half_width, odds_of_separation, pool, separated


def around(value: float, half: float) -> Estimate:
    return Estimate(value, value - half, value + half)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (around(100, 3), around(110, 3), True),
        (around(100, 10), around(110, 10), False),
        (around(100, 8), around(110, 3), True),  # hypot(8, 3) = 8.5: told apart although the intervals overlap
        (around(100, 0), around(100, 0), False),
        (Estimate(100), around(900, 1), False),
    ],
)
def test_estimates_separate_when_their_difference_excludes_zero(a: Estimate, b: Estimate, expected: bool):
    assert separated(a, b) is expected
    assert separated(b, a) is expected


def test_only_the_facing_halves_count():
    long_upper_tail = Estimate(20, 19.5, 40)
    assert separated(long_upper_tail, around(18, 0.5))
    assert not separated(long_upper_tail, around(25, 0.5))


def test_better_follows_the_direction_of_the_metric():
    assert better(around(10, 1), around(20, 1), higher_is_better=False)
    assert not better(around(10, 1), around(20, 1), higher_is_better=True)
    assert not better(around(19, 1), around(20, 1), higher_is_better=True)


def test_pooling_equal_repeats_narrows_the_interval_by_root_n():
    pooled = pool([around(100, 4)] * 4)
    assert pooled.value == pytest.approx(100)
    assert half_width(pooled) == pytest.approx(2)


def test_pooling_scattered_repeats_widens_the_interval():
    pooled = pool([around(90, 1), around(110, 1)])
    assert pooled.value == pytest.approx(100, rel=0.02)
    assert half_width(pooled) > 10


def test_a_precise_repeat_outweighs_a_rough_one():
    assert pool([around(100, 1), around(110, 20)]).value == pytest.approx(100, rel=0.01)


def test_repeats_without_intervals_are_averaged_and_stay_without():
    assert pool([Estimate(1.0), Estimate(3.0)]) == Estimate(2.0)


def test_pooling_nothing_is_an_error():
    with pytest.raises(ValueError, match="nothing to pool"):
        pool([])


@given(st.lists(st.tuples(st.floats(1, 1e6), st.floats(0, 0.5)), min_size=1, max_size=8))
def test_the_pooled_value_lies_between_its_repeats(pairs: list[tuple[float, float]]):
    estimates = [around(value, value * half) for value, half in pairs]
    pooled = pool(estimates)
    assert min(e.value for e in estimates) * (1 - 1e-9) <= pooled.value <= max(e.value for e in estimates) * (1 + 1e-9)
    assert pooled.low is not None
    assert pooled.high is not None
    assert math.isfinite(pooled.low)
    assert pooled.low <= pooled.value <= pooled.high


@pytest.mark.parametrize(
    ("apart", "growth", "least", "low", "high"),
    [
        (0.0, (4, 4), 0.0, 0.2, 0.3),  # one measurement each of four: chance alone tells equals apart now and then
        (0.0, (4 / 3, 4 / 3), 0.0, 0.0, 0.01),  # three of four are done, and nothing is to be seen yet
        (20.0, (2, 2), 0.0, 0.99, 1.0),
        (20.0, (2, 2), 30.0, 0.0, 0.01),  # it would not matter
        (5.0, (1, 1), 0.0, 1.0, 1.0),  # told apart already, and nothing more to come
        (2.0, (1, 1), 0.0, 0.0, 0.0),
    ],
)
def test_the_odds_that_more_measurements_tell_two_figures_apart(
    apart: float, growth: tuple[float, float], least: float, low: float, high: float
):
    odds = odds_of_separation(around(100, 1.96), around(100 + apart, 1.96), growth, least)
    assert low <= odds <= high
    assert odds == pytest.approx(odds_of_separation(around(100 + apart, 1.96), around(100, 1.96), growth, least))


def test_without_intervals_no_number_of_measurements_tells_apart():
    assert odds_of_separation(Estimate(1.0), around(9, 0.1), (9, 9)) == 0

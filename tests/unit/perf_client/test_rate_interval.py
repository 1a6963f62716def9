"""The interval of a throughput covers the true rate, and is no wider than it must be, whatever law the answers keep."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.domain.metrics import Estimate
from analyzer.stats import separated
from perf_client.estimate import rate
from perf_client.profile import Rate
from tests.fakes.queues import to_ns

SECOND_NS = 1_000_000_000
REPEATS = 200


def cycles(rng, window, period, jitter, size=1):
    """Answers of one lockstep caller, at a random phase: so many at once, after a period that varies by this ratio."""
    count = int(window / period * 1.5) + 80
    lasts = period * np.maximum(0.05, 1 + jitter * rng.standard_normal(count))
    return np.repeat(np.cumsum(lasts) - period * (30 + rng.random()), size)


def lockstep(periods, jitter, size=1, instances=1):
    """A window of so many periods of a second, and a random part of one; its true rate is per second."""

    def draw(rng):
        window = periods + rng.random()
        parts = [cycles(rng, window, 1.0, jitter, size) for _ in range(instances)]
        return np.concatenate(parts), window, size * instances

    return draw


def by_chance(count, size=1):
    return lambda rng: (np.repeat(rng.uniform(0, 10, rng.poisson(count)), size), 10, count * size / 10)


def wandering(pace_s, count, size=1):
    """The rate is a first-order autoregression around its mean, with a spread of 30 %."""

    def draw(rng):
        steps, keeps = 500, np.exp(-10 / (500 * pace_s))
        level = [rng.standard_normal()]
        for shock in rng.standard_normal(steps - 1) * np.sqrt(1 - keeps**2):
            level.append(keeps * level[-1] + shock)
        done = np.concatenate(([0], np.cumsum(np.maximum(0.05, 1 + 0.3 * np.array(level))) * count / steps))
        times = np.interp(np.arange(1 - rng.random(), done[-1]), done, np.linspace(0, 10, steps + 1))
        return np.repeat(times, size), 10, count * size / 10

    return draw


def slowed(count, size=1):
    """Somewhere in the window the rate falls to 60 %; the true rate is the mean over all such windows."""

    def draw(rng):
        at = rng.uniform(0.2, 0.8)
        done = np.array([0, at, at + 0.6 * (1 - at)]) * count
        times = np.interp(np.arange(rng.random(), done[-1]), done, [0, 10 * at, 10])
        return np.repeat(times, size), 10, 0.8 * count * size / 10

    return draw


def sizes_that_vary(rng):
    size = rng.integers(1, 9, 100)
    return np.repeat(np.cumsum(0.5 + 0.11 * size) - 40 - rng.random(), size), 20, 4.5 / 0.995


# The law, the least coverage and the widest mean half width (as a part of the true rate). Measured over 600 repeats;
# what lies below 0.92 is no better by batch means over equal times either, which got 0.86, 0.84, 0.88 and 0.84 there.
LAWS = {
    "chance 12": (by_chance(12), 0.92, 1.1),
    "chance 60": (by_chance(60), 0.92, 0.36),
    "chance 1000": (by_chance(1000), 0.92, 0.085),
    "batches of 4 by chance, 5": (by_chance(5, 4), 0.92, 2.0),
    "batches of 32 by chance, 60": (by_chance(60, 32), 0.92, 0.36),
    "bursts of 4, 3": (lockstep(3, 0.05, 4), 0.92, 1.3),
    "bursts of 4, 5": (lockstep(5, 0.05, 4), 0.92, 0.22),
    "bursts of 4, 7": (lockstep(7, 0.0, 4), 0.92, 0.13),
    "bursts of 32, 7": (lockstep(7, 0.2, 32), 0.92, 0.3),
    "bursts of 8, 15": (lockstep(15, 0.05, 8), 0.92, 0.075),
    "bursts of 4, 60": (lockstep(60, 0.2, 4), 0.92, 0.075),
    "one by one, 60": (lockstep(60, 0.05), 0.92, 0.025),
    "one by one, 200": (lockstep(200, 0.0), 0.92, 0.005),
    "two instances, 15": (lockstep(15, 0.1, 1, 2), 0.92, 0.1),
    "two instances, bursts of 4, 30": (lockstep(30, 0.1, 4, 2), 0.92, 0.055),
    "four instances, 15": (lockstep(15, 0.02, 4, 4), 0.92, 0.075),
    "batch sizes of 1 to 8": (sizes_that_vary, 0.92, 0.26),
    "wandering quickly, 1000": (wandering(0.2, 1000), 0.9, 0.17),
    "wandering, bursts of 4": (wandering(0.2, 30, 4), 0.9, 0.17),
    "wandering, 1000": (wandering(0.5, 1000), 0.84, 0.22),
    "wandering slowly, 1000": (wandering(1.0, 1000), 0.79, 0.26),
    "wandering slowly, 60": (wandering(1.0, 60), 0.78, 0.26),
    "slowed, 20 bursts of 4": (slowed(20, 4), 0.92, 0.36),
    "slowed, 5000": (slowed(5000), 0.92, 0.33),
}


def found_in(draw, rng):
    times, window_s, true_rate = draw(rng)
    return rate(to_ns(times), 0, round(window_s * SECOND_NS)), true_rate


@pytest.mark.parametrize("law", LAWS)
def test_the_interval_covers_the_true_rate_and_is_narrow(law):
    draw, least, widest = LAWS[law]
    covered, half = 0, 0.0
    for seed in range(REPEATS):
        found, true_rate = found_in(draw, np.random.default_rng(seed))
        covered += found.low <= true_rate <= found.high
        half += (found.high - found.per_second) / true_rate / REPEATS
    assert covered >= least * REPEATS
    assert half < widest


def estimate(found: Rate) -> Estimate:
    return Estimate(found.per_second, found.low, found.high)


def two_in_flight(rng, per_second):
    times = np.concatenate([cycles(rng, 3.0, 2 / per_second, 0.05) for _ in range(2)])
    return estimate(rate(to_ns(times), 0, 3 * SECOND_NS))


def test_three_seconds_tell_a_tenth_apart_of_two_instances_with_two_in_flight():
    pairs = [
        (two_in_flight(np.random.default_rng([1, seed]), 18.0), two_in_flight(np.random.default_rng([2, seed]), 20.1))
        for seed in range(REPEATS)
    ]
    assert sum(separated(slow, fast) and fast.value > slow.value for slow, fast in pairs) >= 0.95 * REPEATS


@pytest.mark.parametrize("law", ["bursts of 4, 5", "bursts of 4, 7", "bursts of 8, 15", "two instances, 15"])
def test_two_windows_of_one_server_are_seldom_told_apart(law):
    seen = [estimate(found_in(LAWS[law][0], np.random.default_rng(seed))[0]) for seed in range(REPEATS + 1)]
    assert sum(separated(a, b) for a, b in pairwise(seen)) <= 0.08 * REPEATS


def test_batches_of_four_in_a_short_window_are_not_taken_for_noise():
    times_ns = np.repeat(np.arange(50, 1500, 220), 4) * 1_000_000
    found = rate(times_ns, 0, 1500 * 1_000_000)
    assert found.per_second == pytest.approx(len(times_ns) / 1.5)
    assert (found.high - found.low) / 2 < 0.15 * found.per_second


@pytest.mark.parametrize("bursts", [1, 2, 3])
def test_fewer_bursts_than_tell_how_regular_they_are_leave_a_wide_interval(bursts):
    times_ns = np.repeat(np.arange(bursts) * SECOND_NS, 16)
    found = rate(times_ns, 0, bursts * SECOND_NS)
    assert found.low < 0.4 * found.per_second
    assert found.high > 2.5 * found.per_second


def test_a_window_without_answers_bounds_the_rate_from_above_only():
    found = rate(np.empty(0, dtype=np.int64), 0, 10 * SECOND_NS, weight=2)
    assert (found.per_second, found.low) == (0.0, 0.0)
    # Exactly, 3.69 is the mean of the Poisson law that gives no event with 2.5 %.
    assert found.high == pytest.approx(2 * 3.69 / 10, rel=0.01)


@pytest.mark.parametrize("answered", [slice(0, 300), slice(700, 1000)])
def test_a_pause_at_an_end_of_the_window_is_not_cut_off(answered):
    even = np.arange(1000) * (SECOND_NS // 100)
    found = rate(even[answered], 0, 10 * SECOND_NS)
    assert found.per_second == pytest.approx(30)
    assert found.high > 100


def test_many_answers_are_known_as_well_as_all_of_them_tell():
    rng = np.random.default_rng(5)
    halves = [
        rate((rng.uniform(0, 10, 300_000) * 1e9).astype(np.int64), 0, 10 * SECOND_NS).high - 30_000 for _ in range(20)
    ]
    assert np.mean(halves) == pytest.approx(1.96 * 30_000 / np.sqrt(300_000), rel=0.4)


MOMENTS = st.lists(st.one_of(st.integers(0, 10**9), st.sampled_from([0, 1, 10**6, 5 * 10**8, 10**9])), max_size=60)


@given(
    moments=MOMENTS, shift=st.integers(0, 10**15), weight=st.integers(1, 64), order=st.randoms(use_true_random=False)
)
def test_the_rate_is_what_was_counted_and_lies_within_its_interval(moments, shift, weight, order):
    order.shuffle(moments)
    times_ns = np.array(moments, dtype=np.int64)
    plain, moved = rate(times_ns, 0, SECOND_NS), rate(np.sort(times_ns) + shift, shift, shift + SECOND_NS, weight)
    assert plain.per_second == len(moments)
    assert 0 <= plain.low <= plain.per_second < plain.high
    scaled = (moved.per_second / weight, moved.low / weight, moved.high / weight)
    assert scaled == pytest.approx((plain.per_second, plain.low, plain.high), rel=1e-9, abs=1e-6)

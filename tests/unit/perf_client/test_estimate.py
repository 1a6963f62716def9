import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from perf_client.estimate import (
    PERCENTS,
    interval_ranks,
    latency,
    nearest_rank,
    needed_samples,
    rate,
    student_t,
    taken,
    variance_inflation,
)
from tests.fakes.queues import mm1

SECOND_NS = 1_000_000_000


def percentile(summary, percent):
    return next(p for p in summary.percentiles if p.percent == percent)


@pytest.mark.parametrize(("percent", "needed"), [(50, 7), (90, 44), (95, 90), (99, 459), (99.9, 4603), (99.99, 46050)])
def test_support_starts_at_the_early_stopping_sample_size(percent, needed):
    assert needed_samples(percent) == needed
    below = latency(np.arange(needed - 1), (percent,))
    enough = latency(np.arange(needed), (percent,))
    assert (below.percentiles[0].supported, enough.percentiles[0].supported) == (False, True)


@pytest.mark.parametrize(
    ("count", "percent", "rank"),
    [(1, 50, 1), (10, 50, 5), (10, 90, 9), (10, 91, 10), (100, 99, 99), (1000, 99.9, 999), (50, 99, 50), (7, 0.1, 1)],
)
def test_nearest_rank_is_the_smallest_value_that_covers_the_percentage(count, percent, rank):
    assert nearest_rank(count, percent) == rank


@given(count=st.integers(1, 3000), quantile=st.sampled_from([0.5, 0.9, 0.95, 0.99, 0.999]))
def test_ranks_leave_out_at_most_the_tail_on_each_side_and_are_the_closest_that_do(count, quantile):
    low, high = interval_ranks(count, quantile)
    below = stats.binom(count, quantile)
    tail = 0.025 + 1e-9
    if low is None:
        assert below.cdf(0) > 0.025 - 1e-9
    else:
        assert below.cdf(low - 1) <= tail < below.cdf(low) + 2e-9
    if high is None:
        assert below.sf(count - 1) > 0.025 - 1e-9
    else:
        assert below.sf(high - 1) <= tail < below.sf(high - 2) + 2e-9


def test_ranks_stay_exact_for_ten_million_requests():
    low, high = interval_ranks(10**7, 0.99)
    below = stats.binom(10**7, 0.99)
    assert below.cdf(low - 1) <= 0.025 < below.cdf(low)
    assert below.sf(high - 1) <= 0.025 + 1e-9 < below.sf(high - 2) + 1e-7


@given(values=st.lists(st.integers(0, 10**10), min_size=1, max_size=300))
def test_percentiles_are_values_of_the_sample_inside_their_interval(values):
    summary = latency(np.array(values))
    assert (summary.count, summary.min_ns, summary.max_ns) == (len(values), min(values), max(values))
    rising = [p.value_ns for p in summary.percentiles]
    assert rising == sorted(rising)
    for p in summary.percentiles:
        assert p.value_ns in values
        assert (p.low_ns or 0) <= p.value_ns <= (math.inf if p.high_ns is None else p.high_ns)


def test_an_empty_sample_has_no_latency():
    assert latency(np.empty(0, dtype=np.int64)) is None


@pytest.mark.parametrize("percent", [50.0, 95.0, 99.0])
@pytest.mark.parametrize("law", ["expon", "lognorm", "bimodal"])
def test_intervals_cover_the_true_percentile(percent, law):
    rng = np.random.default_rng(11)
    made = {
        "expon": lambda: rng.standard_exponential(600) * 1e6,
        "lognorm": lambda: rng.lognormal(14, 1, 600),
        "bimodal": lambda: np.where(rng.random(600) < 0.9, 1e6, 5e7) * rng.uniform(0.5, 1.5, 600),
    }
    truth = {
        "expon": lambda q: stats.expon.ppf(q) * 1e6,
        "lognorm": lambda q: stats.lognorm.ppf(q, 1, scale=math.exp(14)),
        "bimodal": lambda q: 1e6 * (0.5 + q / 0.9) if q < 0.9 else 5e7 * (0.5 + (q - 0.9) / 0.1),
    }
    true_ns, covered = truth[law](percent / 100), 0
    for _ in range(300):
        found = latency(made[law]().astype(np.int64), (percent,)).percentiles[0]
        covered += (found.low_ns or 0) <= true_ns <= (math.inf if found.high_ns is None else found.high_ns)
    assert covered >= 0.93 * 300


def test_intervals_cover_in_a_queue_where_neighbours_are_alike():
    covered_p50 = covered_p95 = 0
    for seed in range(200):
        due, done = mm1(np.random.default_rng(seed), load=0.7, count=6000, service_s=0.001)
        summary = latency((done - due)[1000:], (50.0, 95.0))
        for percent, cover in ((50.0, "p50"), (95.0, "p95")):
            true_ns = -math.log(1 - percent / 100) * 0.001 / 0.3 * 1e9
            p = percentile(summary, percent)
            inside = p.low_ns <= true_ns <= (p.high_ns or math.inf)
            covered_p50 += inside and cover == "p50"
            covered_p95 += inside and cover == "p95"
    assert covered_p50 >= 0.9 * 200
    assert covered_p95 >= 0.85 * 200


def test_alike_neighbours_count_for_fewer_requests():
    rng = np.random.default_rng(3)
    assert variance_inflation(rng.random(5000) < 0.9) < 2
    runs = np.repeat(rng.random(100) < 0.9, 50)
    assert variance_inflation(runs) > 20


@pytest.mark.parametrize("freedom", [1, 2, 8, 10, 40, 200])
def test_student_t_agrees_with_the_tables(freedom):
    assert student_t(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=1e-3)


def test_an_even_rate_is_known_but_for_the_answer_that_each_end_may_cut_off():
    found = rate(np.arange(0, 10 * SECOND_NS, SECOND_NS // 100), 0, 10 * SECOND_NS, weight=4)
    assert found.per_second == pytest.approx(400)
    assert 400 - 0.4 < found.low < found.high < 400 + 0.4


def test_only_what_ended_within_the_window_counts():
    ended = np.array([-5, 0, 1, SECOND_NS // 2, SECOND_NS + 1])
    assert rate(ended, 0, SECOND_NS).per_second == pytest.approx(3)
    assert rate(ended, 0, 0).per_second == 0


def test_rate_interval_covers_with_independent_and_with_alike_arrivals():
    plain = alike = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        even = np.sort(rng.uniform(0, 20, rng.poisson(2000))) * 1e9
        found = rate(even.astype(np.int64), 0, 20 * SECOND_NS)
        plain += found.low <= 100 <= found.high
        # Two states of a second's mean each, at 50/s and 150/s: neighbours in time go alike.
        edges = np.cumsum(rng.exponential(1.0, 400))
        level = np.where(np.arange(400) % 2 == rng.integers(2), 50, 150)
        times = np.cumsum(rng.exponential(1 / 150, 400 * 200))
        kept = rng.random(len(times)) < level[np.minimum(np.searchsorted(edges, times), 399)] / 150
        found = rate((times[kept] * 1e9).astype(np.int64), 0, 60 * SECOND_NS)
        alike += found.low <= 100 <= found.high
    assert plain >= 0.92 * 300
    assert alike >= 0.9 * 300


def test_default_percentiles_rise_to_four_nines():
    assert PERCENTS == (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)


@given(st.lists(st.booleans(), max_size=40))
def test_what_is_taken_is_what_the_flags_say(flags):
    values, marked = np.arange(len(flags)), np.array(flags, dtype=bool)
    assert taken(values, marked).tolist() == values[marked].tolist()


def test_neighbours_are_taken_without_a_copy():
    values = np.arange(10)
    assert np.shares_memory(taken(values, (values > 2) & (values < 7)), values)

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from perf_client.pacer import (
    BLOCK,
    arrivals,
    bursts,
    frames,
    ramp,
    repeated_gaps,
    replayed,
    scheduled,
    stepped_concurrency,
    unit_counts,
)
from perf_client.profile import RequestRate

MINUTE_NS = 60_000_000_000


def first(blocks, count):
    return np.concatenate(list(islice(blocks, -(-count // BLOCK))))[:count]


@given(rate=st.floats(0.5, 1e5))
def test_constant_rate_is_each_multiple_of_the_gap_rounded_once(rate):
    times = first(arrivals(RequestRate(per_second=rate), 0), 2 * BLOCK)
    exact = [k * 1_000_000_000 / rate for k in range(0, 2 * BLOCK, 997)]
    assert np.abs(times[::997] - exact).max() <= 0.51


def test_constant_rate_does_not_drift_over_a_minute():
    times = first(arrivals(RequestRate(per_second=3000.0), 0), 60 * 3000 + 1)
    assert times[0] == 0
    assert times[-1] == MINUTE_NS


@pytest.mark.parametrize("arrival", ["constant", "poisson", "gamma"])
@given(rate=st.floats(0.5, 1e5), seed=st.integers(0, 2**32))
def test_times_rise_and_the_same_seed_repeats_them(arrival, rate, seed):
    load = RequestRate(per_second=rate, arrival=arrival, gamma_shape=0.5)
    times = first(arrivals(load, seed), BLOCK + 1)
    assert times.dtype == np.int64
    assert times[0] >= 0
    assert (np.diff(times) >= 0).all()
    assert (times == first(arrivals(load, seed), BLOCK + 1)).all()


def test_another_seed_gives_other_arrivals():
    load = RequestRate(per_second=100.0, arrival="poisson")
    assert (first(arrivals(load, 1), 100) != first(arrivals(load, 2), 100)).all()


@pytest.mark.parametrize(
    ("load", "law"),
    [
        (RequestRate(per_second=200.0, arrival="poisson"), ("expon", (0, 1 / 200))),
        (RequestRate(per_second=200.0, arrival="gamma", gamma_shape=1.0), ("expon", (0, 1 / 200))),
        (RequestRate(per_second=200.0, arrival="gamma", gamma_shape=4.0), ("gamma", (4, 0, 1 / 800))),
        (RequestRate(per_second=200.0, arrival="gamma", gamma_shape=0.5), ("gamma", (0.5, 0, 1 / 100))),
    ],
)
def test_gaps_follow_their_law_across_blocks(load, law):
    gaps_s = np.diff(first(arrivals(load, 7), 5 * BLOCK)) / 1e9
    assert kstest(gaps_s, law[0], args=law[1]).pvalue > 0.01


def test_ramp_keeps_the_rate_asked_for_at_each_moment():
    times_s = first(scheduled(unit_counts("constant", 0), ramp(100.0, 500.0, 10.0)), 8000) / 1e9
    counts, _ = np.histogram(times_s, bins=np.arange(13))
    assert counts[:10] == pytest.approx([120 + 40 * second for second in range(10)], abs=1)
    assert counts[10:] == pytest.approx([500, 500], abs=1)


def test_ramp_may_fall_and_a_flat_ramp_is_a_flat_rate():
    falling = first(scheduled(unit_counts("constant", 0), ramp(500.0, 100.0, 10.0)), 4000) / 1e9
    counts, _ = np.histogram(falling, bins=np.arange(12))
    assert counts == pytest.approx([480 - 40 * second for second in range(10)] + [100], abs=1)
    flat = first(scheduled(unit_counts("constant", 0), ramp(100.0, 100.0, 10.0)), 2000)
    assert (flat == first(arrivals(RequestRate(per_second=100.0), 0), 2000)).all()


def test_bursts_alternate_between_the_two_rates():
    times_s = first(scheduled(unit_counts("constant", 0), bursts(10.0, 100.0, 5.0, 1.0)), 420) / 1e9
    counts, _ = np.histogram(times_s, bins=np.arange(16))
    assert counts == pytest.approx([100, 10, 10, 10, 10] * 3, abs=1)


@given(gaps=st.lists(st.integers(0, 10**9), min_size=1, max_size=50).filter(any))
def test_gaps_are_looped_without_a_seam(gaps):
    times = np.concatenate(list(islice(repeated_gaps(gaps), 2)))
    assert times[0] == gaps[0]
    assert np.diff(times).tolist() == [gaps[(i + 1) % len(gaps)] for i in range(len(times) - 1)]


def test_replayed_trace_starts_at_zero_ends_and_can_be_sped_up():
    trace = [5_000 + 10 * i for i in range(BLOCK + 3)]
    times = np.concatenate(list(replayed(trace, 2.0)))
    assert times[:3].tolist() == [0, 5, 10]
    assert len(times) == len(trace)


def test_each_stream_sends_its_frames_evenly_and_no_two_send_together():
    times, streams = next(frames(3, 25.0))
    for stream in range(3):
        assert set(np.diff(times[streams == stream])) == {40_000_000}
    assert (np.diff(times) > 0).all()


def test_stepped_concurrency_rises_to_the_end_and_not_beyond():
    steps = list(stepped_concurrency(10, 40, 20, period=32))
    assert steps == [(0, 10), (32, 30), (64, 40)]
    assert all(later > earlier for (earlier, _), (later, _) in pairwise(steps))

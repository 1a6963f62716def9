from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_client.steady import Window, backlog_at, mser, trend, verdict, warmup_cut_ns
from tests.fakes import queues

NOTHING = np.empty(0, dtype=np.int64)


def window(seen, *, from_ns=0, open_loop=True, answered=None, timed_out=None, dropped_ns=NOTHING):
    due, done = seen
    to_ns = int(due[-1]) + 1
    keep = due >= from_ns
    none = np.zeros(len(due), dtype=bool)
    return Window(
        due_ns=due[keep],
        done_ns=done[keep],
        answered=(~none if answered is None else answered)[keep],
        timed_out=(none if timed_out is None else timed_out)[keep],
        dropped_ns=dropped_ns,
        from_ns=from_ns,
        to_ns=to_ns,
        open_loop=open_loop,
    )


def verdicts(make, runs=40, **options):
    said = Counter()
    for seed in range(runs):
        due, done = seen = make(np.random.default_rng(seed))
        cut = warmup_cut_ns(due, done, int(due[-1]) + 1)
        said[verdict(window(seen, from_ns=cut, **options))[0]] += 1
    return said


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: queues.mm1(rng, 0.3, 1000),
        lambda rng: queues.mm1(rng, 0.8, 1500),
        lambda rng: queues.mm1(rng, 0.8, 6000),
        lambda rng: queues.mm1(rng, 0.9, 3000),
        lambda rng: queues.md1(rng, 0.8, 3000),
        lambda rng: queues.drifting(rng, 0.0, 2000),
        lambda rng: queues.drifting(rng, 0.1, 2000),
    ],
)
def test_a_stable_queue_is_steady_nearly_always(make):
    assert verdicts(make)["steady"] >= 38


@pytest.mark.parametrize(
    "make",
    [
        lambda rng: queues.dd1(1.2, 300),
        lambda rng: queues.dd1(1.02, 3000),
        lambda rng: queues.md1(rng, 1.2, 1500),
        lambda rng: queues.mm1(rng, 1.2, 3000),
        lambda rng: queues.md1(rng, 2.0, 1000),
    ],
)
def test_more_than_the_capacity_is_an_overload(make):
    said, reason = verdict(window(make(np.random.default_rng(1))))
    assert said == "overloaded"
    assert "backlog grew by" in reason
    assert verdicts(make, runs=20)["overloaded"] >= 18


def test_the_slope_of_an_overload_is_what_the_server_can_not_do():
    # 60 a second offered to 50 a second of capacity: 10 a second stay behind.
    _, reason = verdict(window(queues.dd1(1.2, 600, service_s=0.02)))
    assert float(reason.split("grew by ")[1].split()[0]) == pytest.approx(10, rel=0.05)


@pytest.mark.parametrize("at_ratio", [0.05, 0.3, 0.6, 0.9, 0.95])
def test_one_freeze_is_neither_an_overload_nor_a_drift_and_is_not_cut_away(at_ratio):
    due, done = seen = queues.frozen(np.random.default_rng(2), at_ratio, 3.0, 1000)
    cut = warmup_cut_ns(due, done, int(due[-1]) + 1)
    assert cut < due[int(at_ratio * len(due))]
    assert verdict(window(seen, from_ns=cut))[0] == "steady"


def test_repeated_freezes_are_steady_and_stay_in():
    due, done = queues.freezing(np.random.default_rng(2), 8.0, 0.6, 8000)
    assert warmup_cut_ns(due, done, int(due[-1])) < 1_500_000_000


def test_drift_is_named_with_its_direction():
    for growth, way in ((0.6, "rose"), (-0.4, "fell")):
        said, reason = verdict(window(queues.drifting(np.random.default_rng(4), growth, 2000)))
        assert (said, way in reason) == ("drifting", True)


@pytest.mark.parametrize("factor", [0.5, 1.5, 3.0, 20.0])
def test_start_up_is_cut_where_it_ends(factor):
    due, done = queues.starting_up(np.random.default_rng(5), 0.1, factor, 2000, 200.0)
    cut = warmup_cut_ns(due, done, int(due[-1]) + 1)
    assert 0.095 <= cut / due[-1] <= 0.18


@pytest.mark.parametrize("in_flight", [1, 8, 64])
def test_closed_loop_is_never_overloaded(in_flight):
    said = verdicts(lambda rng: queues.closed_loop(rng, in_flight, 2000), runs=20, open_loop=False)
    assert said["overloaded"] == 0
    assert said["steady"] >= 19


def test_an_overload_seen_as_closed_loop_is_not_called_one():
    assert verdict(window(queues.dd1(1.5, 1000), open_loop=False))[0] != "overloaded"


def test_few_requests_are_too_short():
    said, reason = verdict(window(queues.dd1(0.5, 49)))
    assert said == "too short"
    assert "49" in reason


def test_a_window_of_a_few_response_times_is_too_short():
    due = np.arange(200) * 10_000_000
    said, reason = verdict(window((due, due + 500_000_000), open_loop=False))
    assert said == "too short"
    assert "0.5 s" in reason


def test_nothing_answered_is_too_short_not_steady():
    seen = queues.dd1(0.5, 200)
    assert verdict(window(seen, answered=np.zeros(200, dtype=bool)))[0] == "too short"


def test_losses_all_through_are_an_overload_but_those_of_one_freeze_are_not():
    seen = queues.dd1(0.5, 1000)
    due = seen[0]
    assert verdict(window(seen, dropped_ns=due[::10]))[0] == "overloaded"
    assert verdict(window(seen, dropped_ns=due[400:500]))[0] == "steady"
    late = np.arange(1000) % 20 == 0
    assert verdict(window(seen, answered=~late, timed_out=late))[0] == "overloaded"


@given(
    slope=st.floats(-1e3, 1e3),
    level=st.floats(-1e3, 1e3),
    count=st.integers(10, 30),
)
def test_trend_of_a_straight_line_is_the_line(slope, level, count):
    found = trend(level + slope * np.arange(count))
    assert found.change == pytest.approx(slope * count, abs=1e-6)
    assert found.low <= found.change + 1e-6
    assert found.high >= found.change - 1e-6


def test_mser_finds_a_step_and_no_end_of_a_ramp():
    rng = np.random.default_rng(6)
    noise = rng.normal(0, 0.1, 200)
    assert mser(noise + np.where(np.arange(200) < 40, 5.0, 1.0)) == 40
    assert mser(np.linspace(0, 10, 200) + noise) == 100


def test_backlog_counts_what_is_due_and_not_done():
    due, done = np.array([0, 10, 20, 30]), np.array([15, 25, 1000, 35])
    assert backlog_at(due, done, np.array([1, 12, 22, 40, 2000])).tolist() == [1, 2, 2, 1, 0]

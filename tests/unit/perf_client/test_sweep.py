import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_client.profile import Concurrency, RequestRate
from perf_client.summarize import summarize
from perf_client.sweep import Levels, Limit, at_level, by_level, judged_ns, make_search, sweep
from tests.fakes import queues, recorded


def asked(levels, *, bisect=False, capacity=float("inf")):
    search, found = make_search(levels, bisect=bisect), []
    while (level := search.ask()) is not None:
        found.append(level)
        search.tell(level, level <= capacity)
        assert len(found) < 1000
    return found


@pytest.mark.parametrize(
    ("levels", "capacity", "expected"),
    [
        (Levels("concurrency", 1, 1, 1), 99, [1]),
        (Levels("concurrency", 1, 4, 1), 99, [1, 2, 3, 4]),
        (Levels("concurrency", 1, 10, 4), 99, [1, 5, 9]),
        (Levels("concurrency", 1, 10, 4), 4, [1, 5]),
        (Levels("concurrency", 1, None, 4), 12, [1, 5, 9, 13]),
        (Levels("request_rate", 0.1, 0.5, 0.1), 99, pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])),
    ],
)
def test_line_goes_up_until_a_level_misses_the_limit(levels, capacity, expected):
    assert asked(levels, capacity=capacity) == expected


@pytest.mark.parametrize(
    ("levels", "capacity", "expected"),
    [
        (Levels("concurrency", 1, 16, 2), 8, [1, 16, 8, 12, 10]),
        (Levels("concurrency", 1, 16, 2), 0, [1]),
        (Levels("concurrency", 1, 16, 2), 16, [1, 16]),
        (Levels("concurrency", 4, 4, 1), 9, [4]),
        (Levels("request_rate", 100, 200, 30), 160, [100, 200, 150, 175]),
    ],
)
def test_bisection_tries_both_ends_and_then_halves(levels, capacity, expected):
    assert asked(levels, bisect=True, capacity=capacity) == expected


@given(end=st.integers(1, 5000), step=st.integers(1, 50), capacity=st.integers(0, 6000))
def test_bisection_ends_within_a_step_of_the_capacity_and_repeats_no_level(end, step, capacity):
    found = asked(Levels("concurrency", 1, end, step), bisect=True, capacity=capacity)
    assert len(set(found)) == len(found)
    kept = [level for level in found if level <= capacity]
    if 1 <= capacity < end:
        assert capacity - max(kept) < max(step, 1)


def result(profile=recorded.CLOSED, takes_ns=2_000_000, **facts):
    due, _ = queues.dd1(0.5, 500)
    return summarize(profile, recorded.columns((due, due + takes_ns)), recorded.facts(int(due[-1]) + 1, **facts))


def test_limit_is_on_the_mean_or_on_a_percentile_and_below_a_millisecond_too():
    assert Limit(2_000_001.0).kept(result())
    assert not Limit(2_000_000.0).kept(result())
    assert Limit(400_000.0, percent=99.0).kept(result(takes_ns=399_999))
    assert judged_ns(result(), 99.0) == judged_ns(result(), None) == 2_000_000


def test_an_overload_keeps_no_limit():
    due, done = queues.dd1(1.2, 500)
    overloaded = summarize(recorded.OPEN, recorded.columns((due, done)), recorded.facts(int(due[-1]) + 1))
    assert overloaded.verdict == "overloaded"
    assert not Limit(1e12).kept(overloaded)


def test_sweep_measures_what_is_asked_for_and_yields_at_once():
    measured = []

    def measure(profile):
        measured.append(profile.load.in_flight)
        return result(profile, takes_ns=profile.load.in_flight * 1_000_000)

    levels = Levels("concurrency", 1, 16, 2)
    found = sweep(recorded.CLOSED, levels, make_search(levels, bisect=True), Limit(8.5e6), measure)
    assert next(found).profile.load.in_flight == 1
    assert measured == [1]
    assert [r.profile.load.in_flight for r in found] == [16, 8, 12, 10]


def test_an_interrupted_level_is_the_last():
    levels = Levels("concurrency", 1, 9, 1)

    def measure(profile):
        return result(profile, incomplete=profile.load.in_flight == 3)

    found = list(sweep(recorded.CLOSED, levels, make_search(levels, bisect=False), None, measure))
    assert [r.profile.load.in_flight for r in found] == [1, 2, 3]


def test_rows_come_in_order_of_level():
    found = [result(msgspec.structs.replace(recorded.CLOSED, load=Concurrency(in_flight=n))) for n in (1, 16, 8)]
    assert [r.profile.load.in_flight for r in by_level(found)] == [1, 8, 16]


def test_a_level_keeps_the_rest_of_the_load():
    load = RequestRate(per_second=1.0, arrival="gamma", gamma_shape=0.5, max_in_flight=7)
    template = msgspec.structs.replace(recorded.OPEN, load=load)
    assert at_level(template, 50.0).load == msgspec.structs.replace(load, per_second=50.0)
    assert at_level(recorded.CLOSED, 9.0).load == Concurrency(in_flight=9)

"""What collecting costs: the order of windows, the comparison, and the words for it."""

import math
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.collect import overhead
from analyzer.collect.overhead import OFF, ROUNDS, Seen, costs, expected_s, order, seen, window_s
from analyzer.domain.collecting import CollectingCost
from analyzer.domain.measurement import Collected
from analyzer.domain.metrics import Estimate
from analyzer.render import collecting
from analyzer.stats import paired_change
from tests.fakes import load_results
from tests.fakes.outcomes import measurement, run_config, server_config


def cost(names, window):
    return costs(names, "point", 0.5, window)


def test_every_round_has_each_once_and_a_steady_drift_cancels_out():
    asked: list[str] = []

    def drifting(name: str) -> Seen:
        asked.append(name)
        slower = math.exp(0.01 * len(asked))
        return Seen(100 * slower, 200 * slower, 1000 / slower)

    (found,) = cost(["cupti"], drifting)
    assert [sorted(asked[start : start + 2]) for start in range(0, len(asked), 2)] == [["cupti", OFF]] * ROUNDS
    assert found.p50 is not None
    assert found.p50.value == pytest.approx(0, abs=1e-9)
    assert order(["a", "b"], 0) == [OFF, "a", "b"]
    assert order(["a", "b"], 1) == ["b", "a", OFF]


def test_a_cost_that_is_there_is_found_between_its_bounds():
    noise = random.Random(1)

    def window(name: str) -> Seen:
        factor = {OFF: 1.0, "spans": 1.0, "cupti": 1.1}[name] * noise.gauss(1, 0.005)
        return Seen(1e6 * factor, 3e6 * factor, 1000 / factor)

    spans, cupti = cost(["spans", "cupti"], window)
    assert cupti.p50 is not None
    assert cupti.throughput is not None
    assert (cupti.round_count, cupti.window_s, cupti.point) == (ROUNDS, 0.5, "point")
    assert cupti.p50.low is not None
    assert 0.05 < cupti.p50.low < 0.1 < (cupti.p50.high or 0)
    assert cupti.throughput.value == pytest.approx(-0.09, abs=0.01)
    assert spans.p50 is not None
    assert (spans.p50.low or 0) < 0 < (spans.p50.high or 0)


def test_a_collector_that_can_not_be_had_is_asked_for_once_and_says_why():
    asked: list[str] = []

    def window(name: str) -> Seen | str:
        asked.append(name)
        return "busy: another profiler" if name == "cupti" else Seen(1, 1, 1)

    cupti, spans = cost(["cupti", "spans"], window)
    assert asked.count("cupti") == 1
    assert (cupti.round_count, cupti.p50, cupti.reason) == (0, None, "busy: another profiler")
    assert spans.round_count == ROUNDS


def test_a_window_without_answers_costs_its_round_only():
    count = 0

    def window(name: str) -> Seen | None:
        nonlocal count
        count += 1
        return None if count == 1 else Seen(1, 1, 1)

    (found,) = cost(["spans"], window)
    assert (found.round_count, found.reason) == (ROUNDS - 1, "")
    (nothing,) = cost(["spans"], lambda name: None)
    assert (nothing.round_count, nothing.reason) == (0, "hardly a window had answers")


def test_without_a_window_to_compare_with_nothing_is_said_to_be_measured():
    (found,) = cost(["spans"], lambda name: "the server is gone" if name == OFF else Seen(1, 1, 1))
    assert (found.round_count, found.reason) == (0, "the server is gone")


def test_the_slowest_model_and_the_sum_of_the_rates_count():
    fast, slow = load_results.result(), load_results.result(takes_ns=900_000)
    told = seen([fast, slow])
    assert isinstance(told, Seen)
    assert told.p50_ns == pytest.approx(900_000, rel=0.01)
    assert told.per_second == fast.throughput.per_second + slow.throughput.per_second
    assert seen([fast, msgspec.structs.replace(slow, response=None)]) is None


@given(st.floats(0, 1e6))
def test_a_window_is_never_long_and_a_slower_server_gets_no_shorter_one(rate: float):
    assert 0.5 <= window_s(rate) <= 2.0
    assert window_s(rate / 2) >= window_s(rate)


def test_more_collectors_are_expected_to_take_longer():
    assert expected_s(1) < expected_s(2) < 60
    assert overhead.WARMUP_S < 0.5


@given(st.lists(st.tuples(st.floats(1, 1e9), st.floats(1, 1e9)), min_size=2, max_size=9))
def test_the_interval_of_a_change_holds_it_and_turns_round_with_the_pairs(pairs: list[tuple[float, float]]):
    there, back = paired_change(pairs), paired_change([(after, before) for before, after in pairs])
    assert there is not None
    assert back is not None
    assert there.low is not None
    assert there.high is not None
    assert there.low <= there.value + 1e-9 * (1 + abs(there.value))
    assert there.value <= there.high + 1e-9 * (1 + abs(there.high))
    assert (1 + there.value) * (1 + back.value) == pytest.approx(1)


def test_one_pair_has_no_interval_and_none_no_change():
    assert paired_change([]) is None
    assert paired_change([(0.0, 3.0)]) is None
    change = paired_change([(100.0, 104.0)])
    assert change is not None
    assert (round(change.value, 6), change.low) == (0.04, None)


POINT = measurement(run_config(server_config(1), 4))


def told(**fields) -> str:
    made = {"collector": "cupti", "point": POINT.config.key, "round_count": 6, "window_s": 0.5, **fields}
    (text,) = collecting.sentences(POINT, [CollectingCost(**made)])
    return text


def test_a_change_is_told_with_its_bounds_and_none_as_none():
    text = told(
        p50=Estimate(0.041, 0.028, 0.055), p99=Estimate(0.02, -0.03, 0.08), throughput=Estimate(-0.039, -0.05, -0.02)
    )
    assert text == (
        "Collecting by cupti: p50 4.1 % longer (2.8 to 5.5 %); p99 can't be told from unchanged (-3.0 to +8.0 %); "
        "throughput 3.9 % lower (2.0 to 5.0 %) (6 windows of 0.5 s with it and as many without, in turns)."
    )


def test_a_cost_of_another_point_or_under_nsight_systems_says_so():
    text = told(collector="nsys", point="another", p50=Estimate(0.041))
    assert "in a server that Nsight Systems had started" in text
    assert "at another point than this" in text


def test_what_was_not_measured_says_why():
    assert told(round_count=0, reason="absent: no CUPTI.") == (
        "What collecting by cupti costs was not measured: absent: no CUPTI."
    )


def test_figures_say_whether_a_collector_slowed_them():
    on = [Collected(collector=name, state="on") for name in ("spans", "cupti")]
    apart = msgspec.structs.replace(POINT, collected=tuple(on), captured_ns=(0, 2_000_000_000))
    assert "All figures were taken with no collector on; spans and cupti watched" in collecting.sentences(apart, ())[0]
    shared = msgspec.structs.replace(POINT, collected=tuple(on))
    assert "those of a slowed server" in collecting.sentences(shared, ())[0]
    busy = Collected(collector="cupti", state="busy", reason="another profiler is attached.")
    assert collecting.sentences(msgspec.structs.replace(POINT, collected=(on[0], busy)), ()) == (
        "cupti collected nothing: another profiler is attached.",
    )
    assert collecting.sentences(None, ()) == ()

import msgspec
import pytest

from analyzer.domain.budget import Budget, Objective
from analyzer.rank.feasible import sift, worst_miss
from tests.fakes.outcomes import measurement, run_config, server_config

THROUGHPUT = (Objective(metric="throughput"),)


def at(load: int, **changes):
    return measurement(run_config(server_config(), load), **changes)


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        (Budget(metric="p99_latency_ms", limit=5.1125), True),
        (Budget(metric="p99_latency_ms", limit=5.112), False),
        (Budget(metric="throughput", limit=270, at_most=False), True),
        (Budget(metric="throughput", limit=280, at_most=False), False),
        (Budget(metric="failure_ratio", limit=0.0), True),
    ],
)
def test_a_point_on_its_limit_is_kept_and_beyond_it_is_missed(budget, kept):
    sifted = sift([at(1)], THROUGHPUT, (budget,))
    assert (len(sifted.kept), len(sifted.missed)) == ((1, 0) if kept else (0, 1))


def test_what_was_not_measured_is_neither_kept_nor_missed_and_is_named():
    sifted = sift([at(1)], THROUGHPUT, (Budget(metric="gpu_memory_mb", limit=4000),))
    assert not sifted.kept
    assert not sifted.missed
    assert sifted.excluded[0].reason == "GPU memory at most 4,000 MB could not be checked: it was not measured"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"verdict": "overloaded"}, "the server was overloaded: synthetic: overloaded"),
        ({"client_bound": True}, "the load generator was the limit: the load generator's core was busy"),
        ({"incomplete": True}, "the measurement was cut short"),
    ],
)
def test_figures_that_cannot_be_trusted_are_excluded_with_the_reason(changes, reason):
    sifted = sift([at(1, **changes)], THROUGHPUT, ())
    assert [e.reason for e in sifted.excluded] == [reason]


@pytest.mark.parametrize("verdict", ["drifting", "too short"])
def test_doubtful_verdicts_are_kept(verdict):
    assert sift([at(1, verdict=verdict)], THROUGHPUT, ()).kept


def test_a_point_without_a_successful_request_is_excluded():
    point = at(1)
    point = msgspec.structs.replace(point, load=msgspec.structs.replace(point.load, response=None))
    assert sift([point], THROUGHPUT, ()).excluded[0].reason == "no request succeeded"


def test_misses_come_nearest_first_and_name_the_budget_missed_by_most():
    budgets = (
        Budget(metric="p99_latency_ms", limit=5.0),
        Budget(metric="throughput", limit=1000, at_most=False),
    )
    sifted = sift([at(32), at(1), at(8)], THROUGHPUT, budgets)
    assert [m.measurement.config.load.load.in_flight for m in sifted.missed] == [1, 8, 32]
    assert [m.budget.metric for m in sifted.missed] == ["throughput", "p99_latency_ms", "p99_latency_ms"]
    assert worst_miss(at(1), ()) is None

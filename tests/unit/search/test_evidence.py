import msgspec
import pytest

from analyzer.domain.budget import Budget
from analyzer.errors import UsageError
from analyzer.search.evidence import clearly_breaks, gather, keeps, secures
from analyzer.search.make import make_planner
from tests.fakes.landscapes import OBJECTIVES, P99_20, load_template, space
from tests.fakes.outcomes import QueueModel, failure, measurement, run_config, server_config

METRICS = ("throughput", "p99_latency_ms")
SERVER = server_config(1, 8, True)


def level(*outcomes, metrics=METRICS):
    (only,) = gather(outcomes, metrics).levels
    return only


def near(limit: float) -> tuple[Budget, ...]:
    return (Budget(metric="p99_latency_ms", limit=limit),)


def test_repeats_of_one_point_become_one_level():
    repeats = [measurement(run_config(SERVER, 8, seed=seed), QueueModel(noise_ratio=0.02)) for seed in range(3)]
    pooled = level(*repeats)
    rates = [m.load.throughput.per_second for m in repeats]
    assert len(pooled.measurements) == 3
    assert min(rates) < pooled.figures["throughput"].value < max(rates)


def test_longer_windows_of_one_point_join_its_level():
    seen = level(measurement(run_config(SERVER, 8)), measurement(run_config(SERVER, 8, duration_s=30.0)))
    assert seen.longest_s == 30.0


def test_the_order_of_telling_changes_nothing():
    outcomes = [measurement(run_config(SERVER, load), QueueModel(noise_ratio=0.1)) for load in (1, 4, 16)]
    outcomes.append(failure(run_config(server_config(4, 64, True), 1)))
    assert gather(outcomes, METRICS) == gather(reversed(outcomes), METRICS)


def test_a_configuration_that_never_answered_has_failed():
    found = gather([failure(run_config(SERVER, 1), "no memory")], METRICS)
    assert list(found.failed.values()) == ["no memory"]


def test_one_that_answered_below_has_a_load_at_which_it_broke_instead():
    found = gather([measurement(run_config(SERVER, 4)), failure(run_config(SERVER, 64))], METRICS)
    assert not found.failed
    assert list(found.broken_loads.values()) == [64]


def test_a_figure_keeps_breaks_or_secures_a_limit_by_value_and_by_bounds():
    seen = level(measurement(run_config(SERVER, 8)))
    p99 = seen.figures["p99_latency_ms"]
    assert p99.low is not None
    assert p99.high is not None
    inside = near((p99.value + p99.high) / 2)
    assert keeps(seen, inside)
    assert not secures(seen, inside)
    assert secures(seen, near(p99.high * 1.01))
    doubtful = near((p99.value + p99.low) / 2)
    assert not keeps(seen, doubtful)
    assert not clearly_breaks(seen, doubtful)
    assert clearly_breaks(seen, near(p99.low * 0.99))


def test_a_limit_that_more_load_mends_never_closes_a_direction():
    seen = level(measurement(run_config(SERVER, 1)))
    wanted = (Budget(metric="throughput", limit=1e9, at_most=False),)
    assert not keeps(seen, wanted)
    assert not clearly_breaks(seen, wanted)


def test_a_limit_on_what_was_not_measured_does_not_steer():
    seen = level(measurement(run_config(SERVER, 1)), metrics=(*METRICS, "gpu_memory_mb"))
    assert keeps(seen, (Budget(metric="gpu_memory_mb", limit=1.0),))


@pytest.mark.parametrize(
    "flaw", [{"verdict": "overloaded"}, {"client_bound": True}, {"incomplete": True}], ids=lambda f: next(iter(f))
)
def test_spoiled_measurements_are_no_answer(flaw: dict[str, object]):
    seen = level(measurement(run_config(SERVER, 8), **flaw))
    assert not seen.eligible
    assert not keeps(seen, ())
    assert clearly_breaks(seen, ())


def test_nothing_answered_is_unusable():
    good = measurement(run_config(SERVER, 8))
    rate = msgspec.structs.replace(good.load.throughput, per_second=0.0, low=0.0, high=0.0)
    load = msgspec.structs.replace(good.load, throughput=rate, response=None, service=None)
    assert not level(msgspec.structs.replace(good, load=load)).usable


def test_an_unknown_mode_names_the_known_ones():
    with pytest.raises(UsageError, match="capacity, brute"):
        make_planner("magic", space(), OBJECTIVES, P99_20, load_template(), "content")

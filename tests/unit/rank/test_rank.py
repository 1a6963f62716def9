import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.measurement import HostUsage, Measurement
from analyzer.domain.metrics import METRICS
from analyzer.rank.order import score
from analyzer.rank.pareto import dominates, front
from analyzer.rank.rank import rank
from perf_client.profile import Rate, RequestRate
from tests.fakes.outcomes import QueueModel, failure, measurement, run_config, server_config, sweep

THROUGHPUT = (Objective(metric="throughput"),)
P99_20 = (Budget(metric="p99_latency_ms", limit=20.0),)


def value(name: str, m: Measurement) -> float:
    return METRICS[name].read(m).value


def point(
    throughput: float, p99_ms: float, *, instances: int = 1, memory_mb: float = 200, width: float = 0.01, load: int = 4
):
    """A measurement with figures of our choosing; ``instances`` and ``load`` give it its identity."""
    base = measurement(run_config(server_config(instances, 8, True), load))
    response = base.load.response
    percentiles = tuple(
        replace(p, value_ns=int(p99_ms * 1e6), low_ns=int(p99_ms * 0.98e6), high_ns=int(p99_ms * 1.04e6))
        if p.percent == 99.0
        else p
        for p in response.percentiles
    )
    rate = Rate(per_second=throughput, low=throughput * (1 - width), high=throughput * (1 + width))
    return replace(
        base,
        load=replace(base.load, throughput=rate, response=replace(response, percentiles=percentiles)),
        host=HostUsage(cpu_ratio=1.0, memory_peak_bytes=int(memory_mb * 2**20), sample_count=10),
    )


def test_the_highest_throughput_within_the_budget_wins():
    outcomes = sweep()
    ranking = rank(outcomes, THROUGHPUT, P99_20)
    within = [m for m in outcomes if value("p99_latency_ms", m) <= 20]
    assert value("throughput", ranking.recommended) == max(value("throughput", m) for m in within)
    assert len(ranking.misses) == len(outcomes) - len(within)
    assert len(ranking.ordered) == 10


def test_the_default_is_the_unchanged_configurations_best_kept_point():
    ranking = rank(sweep(), THROUGHPUT, P99_20)
    assert ranking.default.config.server.is_default
    assert value("p99_latency_ms", ranking.default) <= 20


def test_past_the_knee_the_lower_latency_is_taken_for_the_same_throughput():
    ranking = rank([measurement(run_config(server_config(), load)) for load in (1, 2, 4, 8)], THROUGHPUT, ())
    assert ranking.recommended.config.load.load.in_flight == 1


def test_ties_are_named_and_the_cheapest_is_recommended():
    big = point(1010, 10, instances=4, memory_mb=900)
    small = point(1000, 12, instances=2, memory_mb=400)
    slow = point(700, 8, instances=1, memory_mb=200)
    ranking = rank([big, small, slow], THROUGHPUT, ())
    assert ranking.tied == (big, small)
    assert ranking.recommended == small
    assert ranking.reasons[1] == (
        "Tied with 1 other: the difference in throughput is within the noise (this one has 1,000 infer/s (990 to"
        " 1,010), the nominally best has 1,010 infer/s (1,000 to 1,020)). Of these it needs the least server memory."
    )


def test_memory_that_differs_by_the_noise_of_a_start_leaves_the_choice_to_the_instances():
    ranking = rank([point(1010, 10, instances=4, memory_mb=400), point(1000, 12, memory_mb=403)], THROUGHPUT, ())
    assert ranking.recommended.config.server.variants[0].instance_count == 1


def test_a_poorly_measured_point_is_tied_and_yet_does_not_win_by_being_cheap():
    leader = point(1000, 10, instances=4, memory_mb=900)
    vague = point(600, 10, instances=1, memory_mb=100, width=0.9)
    ranking = rank([leader, vague], THROUGHPUT, ())
    assert vague in ranking.tied
    assert ranking.recommended == leader


def test_several_objectives_are_weighed():
    fast = point(1000, 40, instances=2)
    quick = point(800, 10, instances=1)
    weights = [(1.0, 0.0, fast), (1.0, 1.0, quick), (1.0, 0.1, fast)]
    for throughput, latency, winner in weights:
        wanted = (Objective(metric="throughput", weight=throughput), Objective(metric="p99_latency_ms", weight=latency))
        assert rank([fast, quick], wanted, ()).recommended == winner


def test_an_upper_bound_beyond_the_limit_is_said():
    ranking = rank([point(1000, 19.5)], THROUGHPUT, P99_20)
    assert ranking.warnings[0] == "p99 latency 19.5 ms (19.1 to 20.3): the limit of 20 ms lies inside the interval."


def test_a_point_whose_interval_keeps_the_limit_goes_before_a_better_one_whose_does_not():
    bold, sure = point(1200, 19.5, instances=4), point(1000, 15, instances=2)
    bold_lower_load = point(900, 14, instances=4, load=2)
    ranking = rank([bold, sure], THROUGHPUT, P99_20)
    assert ranking.ordered == (sure, bold)
    assert ranking.recommended == sure
    assert ranking.warnings[0] == (
        "Another configuration has 1,200 infer/s (1,188 to 1,212) and was passed over."
        " p99 latency 19.5 ms (19.1 to 20.3): the limit of 20 ms lies inside the interval."
    )
    assert rank([bold, bold_lower_load], THROUGHPUT, P99_20).recommended == bold_lower_load


def test_a_percentile_without_enough_requests_says_how_many_more():
    ranking = rank([measurement(run_config(server_config(), 1, duration_s=0.5))], THROUGHPUT, P99_20)
    assert "p99 latency rests on too few requests: 139 of at least 459, so 320 more are needed." in ranking.warnings


def test_doubtful_verdicts_and_failed_requests_are_warned_of():
    base = measurement(run_config(server_config(), 1), verdict="drifting", warnings=("The host was busy.",))
    ranking = rank([replace(base, load=replace(base.load, failures={"timeout": 3}))], THROUGHPUT, ())
    assert ranking.warnings[0] == "The measurement was drifting: synthetic: drifting."
    assert ranking.warnings[1] == "3 of 1,389 requests failed (3 timeout)."
    assert ranking.warnings[2] == "The host was busy."


@pytest.mark.parametrize(
    ("outcomes", "budgets", "sentence"),
    [
        ([], (), "Nothing was measured. A longer --time-limit gives it time for a point."),
        (
            [failure(run_config(server_config(), 1))],
            (),
            "Nothing was measured: the one point failed, such as for this: the model does not fit into memory.",
        ),
        (
            sweep(loads=(8,)),
            (Budget(metric="p99_latency_ms", limit=1.0),),
            "None of 10 measured points has p99 latency at most 1 ms.",
        ),
    ],
)
def test_nothing_to_recommend_is_an_answer_too(outcomes, budgets, sentence):
    ranking = rank(outcomes, (), budgets)
    assert ranking.recommended is None
    assert ranking.reasons == (sentence,)


def test_failures_are_listed_unless_a_later_attempt_worked():
    mended = run_config(server_config(2), 4)
    broken = run_config(server_config(5), 4)
    ranking = rank([failure(mended), measurement(mended), failure(broken), failure(broken)], THROUGHPUT, ())
    assert [f.config for f in ranking.failures] == [broken]


def test_open_loop_points_are_ranked_alike():
    points = [measurement(run_config(server_config(2, 16, True), RequestRate(per_second=r))) for r in (100.0, 500.0)]
    assert rank(points, THROUGHPUT, ()).recommended == points[1]


landscapes = st.builds(
    QueueModel,
    fixed_ms=st.floats(0.5, 5),
    per_item_ms=st.floats(0.05, 4),
    contention=st.floats(0, 0.8),
    noise_ratio=st.floats(0, 0.05),
    gpu=st.booleans(),
)


@settings(deadline=None, max_examples=25)
@given(landscapes, st.integers(0, 2**16), st.floats(5, 60))
def test_ranking_does_not_depend_on_input_order(queue, seed, limit):
    outcomes = [*sweep(queue, loads=(1, 4, 16)), failure(run_config(server_config(7), 1))]
    outcomes += [measurement(run_config(server_config(2), 4, seed=repeat), queue) for repeat in (1, 2)]
    budgets = (Budget(metric="p99_latency_ms", limit=limit),)
    shuffled = list(outcomes)
    random.Random(seed).shuffle(shuffled)
    assert rank(shuffled, THROUGHPUT, budgets) == rank(outcomes, THROUGHPUT, budgets)


@settings(deadline=None, max_examples=25)
@given(landscapes, st.floats(5, 60))
def test_no_kept_point_beats_one_on_the_front_and_all_others_are_beaten(queue, limit):
    outcomes = sweep(queue, loads=(1, 4, 16))
    ranking = rank(outcomes, THROUGHPUT, (Budget(metric="p99_latency_ms", limit=limit),))

    def costs(m):
        return (-value("throughput", m), value("p99_latency_ms", m))

    kept = [m for m in outcomes if value("p99_latency_ms", m) <= limit]
    for m in kept:
        beaten = any(dominates(costs(other), costs(m)) for other in kept)
        assert beaten == (m not in ranking.pareto)


@settings(deadline=None, max_examples=25)
@given(landscapes, st.floats(0.3, 0.99), st.floats(1.01, 3))
def test_adding_a_dominated_point_does_not_change_the_winner(queue, less, more):
    outcomes = sweep(queue, loads=(1, 4, 16))
    winner = rank(outcomes, THROUGHPUT, ()).recommended
    worse = point(
        value("throughput", winner) * less,
        value("p99_latency_ms", winner) * more,
        instances=9,
        memory_mb=value("server_memory_mb", winner) * 2,
    )
    if queue.gpu:
        gpu = winner.gpus[0]
        worse = replace(worse, gpus=(replace(gpu, memory_peak_bytes=2 * gpu.memory_peak_bytes),))
    assert rank([*outcomes, worse], THROUGHPUT, ()).recommended == winner


def test_a_score_needs_its_figure():
    with pytest.raises(ValueError, match="gpu_power_w was not measured"):
        score(measurement(run_config(server_config())), (Objective(metric="gpu_power_w"),))


def test_points_without_a_metric_of_the_front_are_left_out():
    assert front([measurement(run_config(server_config()))], ("throughput", "gpu_power_w")) == ()


def test_points_that_were_left_out_are_told_apart_from_those_outside_the_budget():
    bound = measurement(run_config(server_config(), 1), client_bound=True)
    over = measurement(run_config(server_config(), 64))
    (said,) = rank([bound, over], (), (Budget(metric="p99_latency_ms", limit=10.0),)).reasons
    assert said.startswith(
        "None of 2 measured points can be recommended: 1 outside the limits (p99 latency at most 10 ms), 1 left out ("
    )

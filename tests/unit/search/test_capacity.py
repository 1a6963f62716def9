import msgspec
import pytest

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.measurement import Measurement, Outcome
from analyzer.domain.run import RunConfig
from analyzer.domain.space import LoadRange
from analyzer.search.make import make_planner
from analyzer.search.options import SearchOptions
from perf_client.profile import Concurrency
from tests.fakes.landscapes import (
    BASE,
    OBJECTIVES,
    P99_20,
    Landscape,
    best_throughput,
    explore,
    landscape,
    load_template,
    p99_ms,
    pick,
    space,
    true_figures,
)


def planner(where=None, budgets=P99_20, objectives=OBJECTIVES, **options):
    return make_planner(
        "capacity",
        where or space(),
        objectives,
        budgets,
        load_template(),
        "content",
        SearchOptions(bases=(BASE,), **options),
    )


def measured(outcomes: list[Outcome]) -> list[Measurement]:
    return [o for o in outcomes if isinstance(o, Measurement)]


def in_flight(config: RunConfig) -> int:
    assert isinstance(config.load.load, Concurrency)
    return config.load.load.in_flight


def test_the_default_is_measured_first_alone_and_then_at_its_own_best():
    land = landscape("mixed")
    outcomes = measured(explore(planner(), land.measure))
    assert outcomes[0].config.server.is_default
    assert in_flight(outcomes[0].config) == 1
    defaults = [o.config for o in outcomes if o.config.server.is_default]
    reachable = max(land.exact(1, 1, c)[0] for c in range(1, 100) if p99_ms(land.exact(1, 1, c)[1]) <= 20)
    kept = [true_figures(land, c) for c in defaults]
    assert max(x for x, p99 in kept if p99 <= 20) >= 0.97 * reachable


def test_without_a_limit_the_load_is_not_raised_beyond_the_knee():
    outcomes = measured(explore(planner(budgets=()), landscape("mixed").measure))
    alone = [in_flight(o.config) for o in outcomes if o.config.server.is_default]
    assert max(alone) <= 8  # one instance without batching is busy with a single request


def test_leaders_are_confirmed_with_long_windows_and_the_rest_is_screened():
    options = {"screen_duration_s": 1.0, "confirm_duration_s": 8.0}
    outcomes = measured(explore(planner(**options), landscape("mixed", 0.02).measure))
    long = [o for o in outcomes if o.config.load.duration_s == 8.0]
    assert {o.config.load.duration_s for o in outcomes} == {1.0, 8.0}
    assert len(long) < len(outcomes) / 2
    assert any(o.config.server.is_default for o in long)
    chosen = pick(outcomes, 20.0)
    assert chosen is not None
    assert any(o.config.server == chosen.config.server for o in long)


def test_repeats_are_points_of_their_own_and_bounded():
    outcomes = measured(explore(planner(max_repeats=2), landscape("mixed", 0.03, seed=1).measure))
    seeds: dict[str, list[int]] = {}
    for o in outcomes:
        same = msgspec.structs.replace(o.config.load, seed=0)
        seeds.setdefault(msgspec.structs.replace(o.config, load=same).key, []).append(o.config.load.seed)
    assert max(len(s) for s in seeds.values()) in (2, 3)
    assert all(sorted(s) == list(range(len(s))) for s in seeds.values())


def test_a_memory_limit_is_kept_too():
    limit = Budget(metric="server_memory_mb", limit=300.0)
    outcomes = measured(explore(planner(budgets=(*P99_20, limit)), landscape("mixed").measure))
    kept = [o for o in outcomes if limit.violation(o) <= 0 and P99_20[0].violation(o) <= 0]
    best = max(o.load.throughput.per_second for o in kept)
    land = landscape("mixed")
    reachable = max(
        land.exact(n, b, c)[0]
        for n in range(1, 6)
        for b in (1, 2, 4, 8, 16, 32, 64, 128)
        for c in range(1, 200)
        if 100 + n * (50 + b) <= 300 and p99_ms(land.exact(n, b, c)[1]) <= 20
    )
    assert best >= 0.95 * reachable
    assert len(outcomes) <= 40


def test_the_least_latency_is_found_at_the_lowest_load():
    wanted = (Objective(metric="p99_latency_ms"),)
    outcomes = measured(explore(planner(budgets=(), objectives=wanted), landscape("mixed").measure))
    assert len(outcomes) <= 20
    assert min(p.value_ns for o in outcomes for p in o.load.response.percentiles) == pytest.approx(4.8e6)


def test_a_wall_of_cores_that_the_model_does_not_know_is_found():
    land = landscape("cores")
    chosen = pick(explore(planner(), land.measure), 20.0)
    assert chosen is not None
    assert true_figures(land, chosen.config)[0] >= 0.97 * best_throughput(land, 20.0)


@pytest.mark.parametrize("name", ["batchy", "mixed", "oom"])
def test_rates_are_searched_like_loads_in_flight(name: str):
    land = landscape(name)
    rates = LoadRange(kind="request_rate", minimum=10, maximum=12_000)
    outcomes = explore(planner(space(load=rates)), land.measure)
    chosen = pick(outcomes, 20.0)
    assert chosen is not None
    throughput, p99 = true_figures(land, chosen.config)
    assert p99 <= 20
    assert throughput >= 0.95 * best_throughput(land, 20.0)
    assert len(outcomes) <= 30


def test_a_limit_that_only_the_nearest_miss_comes_close_to_still_ends_soon():
    outcomes = explore(planner(budgets=(Budget(metric="p99_latency_ms", limit=1.0),)), landscape("mixed").measure)
    assert 1 < len(outcomes) <= 30


def test_points_where_the_client_was_the_limit_do_not_lead():
    land = landscape("batchy")

    def with_a_slow_client(config: RunConfig) -> Outcome:
        outcome = land.measure(config)
        assert isinstance(outcome, Measurement)
        bound = outcome.load.throughput.per_second > 3000
        client = msgspec.structs.replace(outcome.load.client, bound=bound)
        return msgspec.structs.replace(outcome, load=msgspec.structs.replace(outcome.load, client=client))

    search = planner()
    outcomes = explore(search, with_a_slow_client)
    assert len(outcomes) <= 60
    best = [e for e in search.ledger() if e.rule.startswith("the best found")]
    assert len(best) == 1


def test_big_spaces_with_every_axis_still_end_in_few_points():
    where = space((1, 2, 4), (4, 16, 64), delays_us=(0, 100, 1000), client_batches=(1, 8))
    land = Landscape("delays", 3.0, 0.6, 0.25, noise=0.01, delay_cost=1.0)
    outcomes = explore(planner(where), land.measure)
    assert len(outcomes) <= 60
    chosen = pick(outcomes, 20.0)
    assert chosen is not None
    assert true_figures(land, chosen.config)[0] >= 0.9 * 2_400

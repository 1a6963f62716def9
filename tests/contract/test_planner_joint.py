"""Two models that share a device, both limited: the default search against the exhaustive best."""

import random
from dataclasses import replace

import pytest

from analyzer.domain.measurement import Failure, Outcome
from analyzer.domain.run import RunConfig
from analyzer.search.make import make_planner
from analyzer.search.options import SearchOptions
from analyzer.search.planner import Planner
from tests.fakes.landscapes import explore
from tests.fakes.shared_landscapes import (
    BASES,
    OBJECTIVES,
    TEMPLATES,
    SharedLandscape,
    random_shared,
    shared,
    shared_pick,
    shared_space,
)

SMALL = shared_space((1, 8, 64))


def planner(land: SharedLandscape, where=None, **options) -> Planner:
    return make_planner(
        "capacity",
        where or shared_space(),
        OBJECTIVES,
        land.budgets,
        TEMPLATES[0],
        "content",
        SearchOptions(bases=BASES, **options),
        beside=TEMPLATES[1:],
    )


@pytest.mark.parametrize("name", ["mixed+insty", "batchy+mixed", "mixed+mixed", "batchy+insty/work"])
def test_two_models_reach_95_percent_of_the_best_in_80_points(name: str):
    land = shared(name)
    outcomes = explore(planner(land), land.measure, 200)
    throughput, kept = shared_pick(land, outcomes)
    assert kept
    assert throughput >= 0.95 * land.best()
    assert len(outcomes) <= 80


@pytest.mark.parametrize("seed", [1, 6, 16, 20, 23])
def test_pairs_whose_best_lies_where_one_model_is_nearly_idle(seed: int):
    land = random_shared(seed)
    outcomes = explore(planner(land), land.measure, 200)
    throughput, kept = shared_pick(land, outcomes)
    assert kept
    assert throughput >= 0.95 * land.best()
    assert len(outcomes) <= 80


def test_under_noise_the_pick_truly_keeps_both_limits():
    for seed in range(2):
        land = shared("mixed+insty", noise=0.03, seed=seed)
        outcomes = explore(planner(land, SMALL), land.measure, 200)
        throughput, kept = shared_pick(land, outcomes)
        assert kept
        assert throughput >= 0.8 * land.best()
        assert len(outcomes) <= 80


def test_every_point_loads_both_models_within_bounds_and_none_comes_twice():
    land = shared("mixed+insty")
    asked = [o.config for o in explore(planner(land, SMALL), land.measure, 200)]
    assert len({config.key for config in asked}) == len(asked) < 200
    for config in asked:
        assert [load.model for load in config.loads] == ["A", "B"]
        assert all(1 <= load.load.level <= 1024 for load in config.loads)


def test_a_resumed_search_asks_for_nothing_again_and_goes_on():
    land = shared("mixed+insty")
    whole = explore(planner(land, SMALL), land.measure, 200)
    half = len(whole) // 2
    resumed = planner(land, SMALL)
    for outcome in whole[:half]:
        resumed.tell(outcome)
    assert [o.config for o in explore(resumed, land.measure, 200)] == [o.config for o in whole[half:]]
    shuffled = planner(land, SMALL)
    for outcome in random.Random(1).sample(whole, len(whole)):
        shuffled.tell(outcome)
    assert {o.config.key for o in explore(shuffled, land.measure, 3)}.isdisjoint(o.config.key for o in whole)


def test_it_ends_when_everything_fails_and_says_so():
    def refuse(config: RunConfig) -> Outcome:
        return Failure(config=config, stage="launch", reason="refused", measured_at="2026-01-01T00:00:00Z")

    where = shared_space((1, 8))
    search = planner(shared("mixed+insty"), where)
    outcomes = explore(search, refuse, 200)
    assert 1 <= len(outcomes) <= where.server_config_count
    assert {entry.state for entry in search.ledger()} == {"failed", "skipped"}


def test_the_ledger_accounts_for_every_candidate_once():
    land = shared("batchy+mixed")
    search = planner(land, SMALL)
    explore(search, land.measure, 200)
    entries = search.ledger()
    assert {entry.candidate.server for entry in entries} == set(SMALL.server_configs())
    assert sum(entry.rule.startswith("the best found") for entry in entries) == 1
    assert all(entry.rule for entry in entries)
    assert search.expected_remaining() == 0


def starts(outcomes: list[Outcome]) -> int:
    servers = [outcome.config.server for outcome in outcomes]
    return sum(before != after for before, after in zip([None, *servers], servers))


def test_where_servers_are_slow_to_start_it_starts_fewer_and_finds_as_much():
    land = replace(shared("mixed+mixed", noise=0.015), noise_at_s=5.0)
    found = {}
    for restart_s in (0.5, 20.0):
        search = planner(land, screen_duration_s=2.0, confirm_duration_s=5.0, restart_s=restart_s)
        outcomes = explore(search, land.measure, 200)
        throughput, kept = shared_pick(land, outcomes)
        assert kept
        assert throughput >= 0.9 * land.best()
        assert len(outcomes) <= 80
        found[restart_s] = starts(outcomes)
    assert found[20.0] < found[0.5]


def test_the_leader_is_measured_for_long_before_a_slow_server_is_left_for_good():
    land = replace(shared("mixed+mixed", noise=0.015), noise_at_s=5.0)
    search = planner(land, screen_duration_s=2.0, confirm_duration_s=5.0, restart_s=20.0)
    durations = [outcome.config.load.duration_s for outcome in explore(search, land.measure, 200)]
    first_long = durations.index(5.0)
    assert 2.0 in durations[first_long:]


def test_a_slow_point_that_keeps_the_limits_for_sure_does_not_stand_for_the_leader():
    land = replace(shared("batchy+mixed", noise=0.015, seed=2), noise_at_s=5.0)
    search = planner(land, screen_duration_s=2.0, confirm_duration_s=5.0, restart_s=20.5)
    throughput, kept = shared_pick(land, explore(search, land.measure, 200))
    assert kept
    assert throughput >= 0.93 * land.best()

"""What every planner owes its caller, whatever it looks for."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.domain.budget import Budget
from analyzer.domain.measurement import Failure, Measurement, Outcome
from analyzer.domain.run import RunConfig
from analyzer.domain.space import LoadRange, SearchSpace
from analyzer.search.make import MODES, make_planner
from analyzer.search.options import SearchOptions
from analyzer.search.planner import Planner
from perf_client.profile import Concurrency, RequestRate
from tests.fakes.landscapes import (
    BASE,
    OBJECTIVES,
    P99_20,
    Landscape,
    explore,
    landscape,
    load_template,
    random_landscape,
    space,
)

RATES = LoadRange(kind="request_rate", minimum=50, maximum=1500)
SMALL = space((1, 2, 3), (1, 4, 16), load=LoadRange(kind="concurrency", minimum=2, maximum=37))
SPACES = {
    "concurrency": SMALL,
    "rates": space((1, 2), (4, 16), load=RATES),
    "delays and client batches": space((1, 2), (4, 16), delays_us=(0, 500), client_batches=(1, 4, 32)),
    "one load": space((1, 2), (4,), load=LoadRange(kind="concurrency", minimum=5, maximum=5)),
    "nothing to choose": space((), (), batching=(), load=LoadRange(kind="concurrency", minimum=1, maximum=8)),
}

pytestmark = pytest.mark.parametrize("mode", MODES)


def planner(mode: str, where: SearchSpace = SMALL, budgets: tuple[Budget, ...] = P99_20, **options) -> Planner:
    return make_planner(
        mode, where, OBJECTIVES, budgets, load_template(), "content", SearchOptions(bases=(BASE,), **options)
    )


def assert_inside(config: RunConfig, where: SearchSpace) -> None:
    variant, load = config.server.variants[0], config.load.load
    level = load.in_flight if isinstance(load, Concurrency) else load.per_second
    assert isinstance(load, RequestRate) == (where.load.kind == "request_rate")
    assert where.load.minimum <= level <= where.load.maximum
    assert level > 0
    assert config.load.batch_size in where.batch_sizes
    assert variant.instance_count in (None, *where.models[0].instance_counts)
    assert variant.max_batch_size in (None, *where.models[0].max_batch_sizes)
    assert variant.queue_delay_us in (None, *where.models[0].queue_delays_us)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("budgets", [(), P99_20], ids=["free", "limited"])
def test_it_ends_stays_in_bounds_and_never_repeats_a_point(mode: str, name: str, budgets: tuple[Budget, ...]):
    asked = [o.config for o in explore(planner(mode, SPACES[name], budgets), landscape("mixed", 0.03).measure, 500)]
    assert 1 <= len(asked) < 500
    assert len({config.key for config in asked}) == len(asked)
    for config in asked:
        assert_inside(config, SPACES[name])
        assert config.content == "content"


def test_loads_that_are_listed_are_kept_to(mode: str):
    where = space((1, 2, 3), (1, 4, 16), load=LoadRange(kind="concurrency", minimum=2, maximum=37, values=(2, 9, 37)))
    asked = [o.config for o in explore(planner(mode, where), landscape("mixed", 0.03).measure, 500)]
    assert {config.load.load.level for config in asked} <= {2, 9, 37}
    assert 1 <= len(asked) < 500


def test_the_default_configuration_is_measured_at_the_lowest_load(mode: str):
    asked = [o.config for o in explore(planner(mode), landscape("mixed").measure)]
    assert any(c.server.is_default and c.load.load == Concurrency(in_flight=2) for c in asked)


def test_a_planner_that_ended_stays_ended(mode: str):
    search = planner(mode)
    explore(search, landscape("insty").measure)
    assert search.ask() is None
    assert search.ask() is None
    assert search.expected_remaining() == 0


def test_it_says_how_much_is_left_while_it_searches(mode: str):
    search = planner(mode)
    first = search.ask()
    assert first is not None
    assert search.expected_remaining() > 0


def test_asking_ahead_of_the_answers_gives_different_points(mode: str):
    search = planner(mode)
    ahead = [config for config in (search.ask() for _ in range(3)) if config is not None]
    assert len({config.key for config in ahead}) == len(ahead) == 3


@pytest.mark.parametrize("room", [2, 5])
def test_with_several_points_out_at_a_time_it_ends_in_bounds_and_repeats_none(mode: str, room: int):
    search, land, rng = planner(mode), landscape("oom", 0.02), random.Random(room)
    out: list[RunConfig] = []
    asked: list[RunConfig] = []
    while len(asked) < 500:
        while len(out) < room and (config := search.ask()) is not None:
            out.append(config)
            asked.append(config)
        if not out:
            break
        search.tell(land.measure(out.pop(rng.randrange(len(out)))))
    assert 1 <= len(asked) < 500
    assert len({config.key for config in asked}) == len(asked)
    for config in asked:
        assert_inside(config, SMALL)
    assert search.ask() is None
    assert search.expected_remaining() == 0


def test_a_point_that_was_told_is_not_asked_for(mode: str):
    first = explore(planner(mode), landscape("mixed").measure, 6)
    resumed = planner(mode)
    for outcome in first:
        resumed.tell(outcome)
    again = explore(resumed, landscape("mixed").measure)
    assert {o.config.key for o in first}.isdisjoint(o.config.key for o in again)


def test_a_resumed_search_goes_on_where_it_stood_whatever_the_order_of_telling(mode: str):
    land = landscape("oom", 0.02)
    whole = explore(planner(mode), land.measure)
    told = whole[: len(whole) // 2]
    random.Random(3).shuffle(told)
    resumed = planner(mode)
    for outcome in told:
        resumed.tell(outcome)
    rest = explore(resumed, land.measure)
    assert [o.config for o in rest] == [o.config for o in whole[len(whole) // 2 :]]


def test_outcomes_of_other_content_are_no_obstacle(mode: str):
    search = planner(mode)
    foreign = make_planner(mode, SMALL, OBJECTIVES, P99_20, load_template(), "other", SearchOptions(bases=(BASE,)))
    for outcome in explore(foreign, landscape("batchy").measure, 5):
        search.tell(outcome)
    asked = explore(search, landscape("mixed").measure)
    assert all(outcome.config.content == "content" for outcome in asked)
    assert any(outcome.config.server.is_default for outcome in asked)


def test_a_configuration_that_fails_is_left_at_once(mode: str):
    land = landscape("oom")
    outcomes = explore(planner(mode, space((1, 2, 3, 4), (4, 16, 64))), land.measure)
    failed = [o.config.server.key for o in outcomes if isinstance(o, Failure)]
    assert len(failed) == len(set(failed))


def test_it_ends_when_everything_fails(mode: str):
    def refuse(config: RunConfig) -> Outcome:
        return Failure(config=config, stage="launch", reason="refused", measured_at="2026-01-01T00:00:00Z")

    search = planner(mode)
    outcomes = explore(search, refuse)
    assert 1 <= len(outcomes) <= SMALL.server_config_count
    assert {e.state for e in search.ledger()} == {"failed", "skipped"}


def test_it_ends_when_nothing_keeps_the_limit(mode: str):
    impossible = (Budget(metric="p99_latency_ms", limit=0.5),)
    outcomes = explore(planner(mode, SMALL, impossible), landscape("mixed").measure, 500)
    assert 1 <= len(outcomes) < 500


def test_the_ledger_accounts_for_every_candidate_once(mode: str):
    search = planner(mode)
    outcomes = explore(search, landscape("oom").measure)
    entries = search.ledger()
    assert {e.candidate.server for e in entries} == set(SMALL.server_configs())
    assert len({e.candidate for e in entries}) == len(entries)
    assert all(e.rule for e in entries)
    measured = {o.config.server for o in outcomes if isinstance(o, Measurement)}
    assert {e.candidate.server for e in entries if e.state == "measured"} == measured


def test_the_ledger_tells_what_came_from_an_earlier_run(mode: str):
    first = explore(planner(mode), landscape("mixed").measure, 1)
    resumed = planner(mode)
    resumed.tell(first[0])
    state = {e.candidate.server: e.state for e in resumed.ledger()}
    assert state[first[0].config.server] == "reused"


def test_the_ledger_is_there_before_anything_is_measured(mode: str):
    assert {e.state for e in planner(mode).ledger()} == {"skipped"}


def test_the_number_of_points_can_be_bounded(mode: str):
    search = planner(mode, max_points=4)
    assert len(explore(search, landscape("mixed").measure)) == 4
    assert search.expected_remaining() == 0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.05]), st.sampled_from(["concurrency", "rates"]))
def test_on_any_landscape_it_ends_in_bounds_without_repeats(mode: str, seed: int, noise: float, name: str):
    base = random_landscape(seed)
    land = Landscape(base.name, base.t0, base.t1, base.a, base.slot_limit, noise=noise, seed=seed)
    asked = [o.config for o in explore(planner(mode, SPACES[name]), land.measure, 400)]
    assert len(asked) < 400
    assert len({config.key for config in asked}) == len(asked)
    for config in asked:
        assert_inside(config, SPACES[name])

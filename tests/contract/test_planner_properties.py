"""What holds for every planner on spaces, limits and outcomes drawn at random."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.domain.budget import Budget
from analyzer.domain.measurement import Failure, Measurement, Outcome
from analyzer.domain.run import RunConfig
from analyzer.domain.space import LoadRange, ModelSpace, SearchSpace
from analyzer.search.make import MODES, make_planner
from analyzer.search.options import SearchOptions
from analyzer.search.planner import Planner
from tests.fakes import shared_landscapes as pairs
from tests.fakes.landscapes import BASE, MODEL, OBJECTIVES, Landscape, explore, load_template, now, random_landscape

KINDS = (*MODES, "joint")
AT_MOST = 600

pytestmark = pytest.mark.parametrize("kind", KINDS)


@st.composite
def loads(draw: st.DrawFn, whole: bool = False) -> LoadRange:
    low = draw(st.integers(1, 40))
    high = low + draw(st.integers(0, 200))
    if whole or draw(st.booleans()):
        return LoadRange(kind="concurrency", minimum=low, maximum=high)
    return LoadRange(kind="request_rate", minimum=10.0 * low, maximum=10.0 * high + 5)


def subset(*values: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True).map(lambda x: tuple(sorted(x)))


@st.composite
def cases(
    draw: st.DrawFn, kind: str, limits_ms: tuple[float | None, ...] = (None, 5.0, 20.0, 200.0)
) -> tuple[Callable[[], Planner], Callable[[RunConfig], Outcome], SearchSpace]:
    limit_ms = draw(st.sampled_from(limits_ms))
    noise, seed = draw(st.sampled_from([0.0, 0.03, 0.2])), draw(st.integers(0, 10_000))
    short = draw(st.sampled_from([None, 1.0]))
    options = {
        "screen_duration_s": short,
        "confirm_duration_s": short and 3.0,
        "restart_s": draw(st.sampled_from([0.1, 1.0, 20.0])),
    }
    if kind == "joint":
        land = _pair(seed, noise, limit_ms)
        return _joint(land, draw(loads(whole=True)), draw(subset(1, 2, 3)), draw(subset(1, 4, 16)), options)
    model = ModelSpace(
        model=MODEL,
        load=draw(loads()),
        instance_counts=draw(subset(1, 2, 3, 5)),
        max_batch_sizes=draw(subset(1, 4, 16, 64)),
        dynamic_batching=(True, False),
        queue_delays_us=draw(st.sampled_from([(), (0, 500)])),
    )
    space = SearchSpace(models=(model,), batch_sizes=draw(st.sampled_from([(1,), (1, 8)])))
    budgets = () if limit_ms is None else (Budget(metric="p99_latency_ms", limit=limit_ms),)
    base = random_landscape(seed)
    land = Landscape(base.name, base.t0, base.t1, base.a, base.slot_limit, noise=noise, seed=seed)
    chosen = SearchOptions(bases=(BASE,), **options)
    return (
        lambda: make_planner(kind, space, OBJECTIVES, budgets, load_template(), "content", chosen),
        land.measure,
        space,
    )


def _pair(seed: int, noise: float, limit_ms: float | None) -> pairs.SharedLandscape:
    base = pairs.random_shared(seed)
    limits = base.limits_ms if limit_ms is None else (limit_ms, limit_ms)
    return pairs.SharedLandscape(base.name, base.models, base.slowdown, base.kind, limits, noise, seed)


def _joint(land: pairs.SharedLandscape, load: LoadRange, instances, batches, options):
    models = (
        ModelSpace(model=name, load=load, instance_counts=instances, max_batch_sizes=batches, dynamic_batching=(True,))
        for name in pairs.NAMES
    )
    space = SearchSpace(models=tuple(models))
    chosen = SearchOptions(bases=pairs.BASES, **options)
    template, *beside = pairs.TEMPLATES
    return (
        lambda: make_planner(
            "capacity", space, OBJECTIVES, land.budgets, template, "content", chosen, beside=tuple(beside)
        ),
        land.measure,
        space,
    )


def assert_inside(config: RunConfig, space: SearchSpace) -> None:
    assert config.content == "content"
    assert config.load.batch_size in space.batch_sizes
    assert len(config.loads) == len(space.driven)
    for load, model in zip(config.loads, space.driven):
        assert model.load is not None
        assert 0 < model.load.minimum <= load.load.level <= model.load.maximum
    for variant, model in zip(config.server.variants, space.models):
        assert variant.instance_count in (None, *model.instance_counts)
        assert variant.max_batch_size in (None, *model.max_batch_sizes)
        assert variant.queue_delay_us in (None, *model.queue_delays_us)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_it_stays_in_bounds_repeats_nothing_and_ends_with_a_sentence(kind: str, data: st.DataObject):
    make, measure, space = data.draw(cases(kind))
    search = make()
    asked = [outcome.config for outcome in explore(search, measure, AT_MOST)]
    assert 1 <= len(asked) < AT_MOST
    assert len({config.key for config in asked}) == len(asked)
    for config in asked:
        assert_inside(config, space)
    assert search.ask() is None
    assert search.expected_remaining() == 0
    assert len(search.conclusion()) > 10


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_it_asks_the_same_after_what_is_stored_is_told_in_any_order(kind: str, data: st.DataObject):
    make, measure, _ = data.draw(cases(kind))
    whole = explore(make(), measure, 40)
    cut = data.draw(st.integers(0, len(whole)))
    told = data.draw(st.randoms(use_true_random=False).map(lambda rng: rng.sample(whole[:cut], cut)))
    resumed = make()
    for outcome in told:
        resumed.tell(outcome)
    answers = {outcome.config.key: outcome for outcome in whole}
    rest = explore(resumed, lambda config: answers[config.key], len(whole) - cut)
    assert [outcome.config for outcome in rest] == [outcome.config for outcome in whole[cut:]]


@settings(max_examples=6, deadline=None)
@given(st.data())
def test_where_everything_fails_it_ends_and_says_so(kind: str, data: st.DataObject):
    make, _, space = data.draw(cases(kind))
    search = make()

    def refuse(config: RunConfig) -> Outcome:
        return Failure(config=config, stage="launch", reason="refused", measured_at=now())

    outcomes = explore(search, refuse, AT_MOST)
    assert 1 <= len(outcomes) <= space.candidate_count
    assert {entry.state for entry in search.ledger()} <= {"failed", "skipped"}
    assert "failed" in search.conclusion()


@settings(max_examples=6, deadline=None)
@given(st.data(), st.integers(0, 1000))
def test_failures_that_come_and_go_do_not_keep_it_from_ending(kind: str, data: st.DataObject, seed: int):
    make, measure, _ = data.draw(cases(kind))
    rng = random.Random(seed)

    def flaky(config: RunConfig) -> Outcome:
        if rng.random() < 0.4:
            return Failure(config=config, stage="serve", reason="died", measured_at=now())
        return measure(config)

    outcomes = explore(make(), flaky, AT_MOST)
    assert 1 <= len(outcomes) < AT_MOST
    assert len({outcome.config.key for outcome in outcomes}) == len(outcomes)


@settings(max_examples=5, deadline=None)
@given(st.data())
def test_where_nothing_keeps_the_limits_it_ends_and_says_so(kind: str, data: st.DataObject):
    make, measure, _ = data.draw(cases(kind, limits_ms=(0.01,)))
    search = make()
    outcomes = explore(search, measure, AT_MOST)
    assert 1 <= len(outcomes) < AT_MOST
    if any(isinstance(outcome, Measurement) for outcome in outcomes):
        assert "keeps every limit" in search.conclusion()

"""Candidates that differ in any field must lie apart for the surrogate."""

import pytest

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.ledger import Candidate
from analyzer.domain.measurement import Measurement, Outcome
from analyzer.domain.run import Edit, ModelVariant, RunConfig, ServerConfig
from analyzer.domain.space import Axis, LoadRange, ModelSpace, SearchSpace
from analyzer.search.encoding import encoded
from analyzer.search.make import make_planner
from analyzer.search.options import SearchOptions
from tests.fakes.landscapes import BASE, CONCURRENCY, MODEL, OBJECTIVES, explore, landscape, load_template

LOAD = LoadRange(kind="concurrency", minimum=1, maximum=64)


def with_axis(*values: object) -> list[tuple[float, ...]]:
    space = SearchSpace(models=(ModelSpace(model=MODEL, load=LOAD, axes=(Axis(path="parameters.X", values=values),)),))
    return [slots.extra for slots in encoded([Candidate(server=s) for s in space.server_configs()], (BASE,), MODEL)]


def test_without_anything_else_there_are_no_columns():
    space = SearchSpace(models=(ModelSpace(model=MODEL, load=LOAD, instance_counts=(1, 2)),))
    found = encoded([Candidate(server=s) for s in space.server_configs()], (BASE,), MODEL)
    assert {slots.extra for slots in found} == {()}


def test_numbers_lie_by_their_size_and_unset_in_the_middle():
    unset, *numbers = with_axis(1, 4, 16)
    assert [round(row[0] * 1.5) for row in numbers] == [0, 2, 4]
    assert unset[0] == numbers[1][0]
    assert unset != numbers[1]


@pytest.mark.parametrize("values", [("a", "b", "c"), (True, False), ((1, 2), (4,)), ("fast", 3)])
def test_kinds_without_an_order_lie_equally_far_apart(values: tuple[object, ...]):
    rows = with_axis(*values)
    assert len(set(rows)) == len(values) + 1


def test_the_models_that_an_ensemble_calls_differ_by_instances_and_batch():
    called = ModelSpace(model="inner", instance_counts=(1, 4), max_batch_sizes=(2, 8), dynamic_batching=(True,))
    space = SearchSpace(models=(ModelSpace(model="whole", load=LOAD), called))
    found = encoded([Candidate(server=s) for s in space.server_configs()], (), "whole")
    assert {slots.instances for slots in found} == {1, 4}
    assert {slots.batch_limit for slots in found} == {1, 2, 8}


def seen_with(factors: dict[object, float]):
    """The mixed landscape, faster or slower by the value of an edit."""

    def answer(config: RunConfig) -> Outcome:
        outcome = landscape("mixed").measure(config)
        assert isinstance(outcome, Measurement)
        edits = config.server.variants[0].edits
        return scaled(outcome, factors.get(edits[0].value if edits else None, 1.0))

    return answer


def scaled(outcome: Measurement, factor: float) -> Measurement:
    from msgspec.structs import replace

    load = outcome.load
    rate = replace(load.throughput, per_second=load.throughput.per_second * factor)
    rate = replace(rate, low=rate.per_second, high=rate.per_second)
    assert load.response is not None
    latency = replace(
        load.response,
        mean_ns=load.response.mean_ns / factor,
        percentiles=tuple(
            replace(p, value_ns=round(p.value_ns / factor), low_ns=None, high_ns=None)
            for p in load.response.percentiles
        ),
    )
    return replace(outcome, load=replace(load, throughput=rate, response=latency))


@pytest.mark.parametrize("best", ["fast", "slow", "odd"])
def test_a_field_that_the_model_knows_nothing_of_is_learnt(best: str):
    axis = Axis(path="parameters.MODE", values=("fast", "slow", "odd"))
    model = ModelSpace(
        model=MODEL,
        load=CONCURRENCY,
        instance_counts=(1, 2, 4),
        max_batch_sizes=(4, 16, 64),
        dynamic_batching=(True,),
        axes=(axis,),
    )
    planner = make_planner(
        "capacity",
        SearchSpace(models=(model,)),
        OBJECTIVES,
        (Budget(metric="p99_latency_ms", limit=20.0, model=MODEL),),
        load_template(),
        "content",
        SearchOptions(bases=(BASE,)),
    )
    outcomes = explore(planner, seen_with({best: 1.5}))
    kept = [o for o in outcomes if isinstance(o, Measurement) and o.load.response.percentiles[0].value_ns <= 20e6]
    chosen = max(kept, key=lambda o: o.load.throughput.per_second)
    assert chosen.config.server.variants[0].edits == (Edit(path="parameters.MODE", value=best),)
    assert len(outcomes) <= 40


@pytest.mark.parametrize("metric", ["cost_per_million", "server_memory_mb"])
def test_other_objectives_than_throughput_are_searched(metric: str):
    from msgspec.structs import replace

    limited = (Budget(metric="p99_latency_ms", limit=20.0), Budget(metric="throughput", limit=500, at_most=False))
    model = ModelSpace(
        model=MODEL,
        load=CONCURRENCY,
        instance_counts=(1, 2, 3, 4, 5),
        max_batch_sizes=(1, 4, 16, 64),
        dynamic_batching=(True, False),
    )
    planner = make_planner(
        "capacity",
        SearchSpace(models=(model,)),
        (Objective(metric=metric),),
        limited,
        load_template(),
        "content",
        SearchOptions(bases=(BASE,)),
    )
    outcomes = explore(planner, lambda c: replace(landscape("mixed").measure(c), price_per_hour=1.0))
    kept = [o for o in outcomes if all(b.violation(o) <= 0 for b in limited)]
    best = min(Objective(metric=metric).read(o).value for o in kept)
    assert best <= {"cost_per_million": 0.115, "server_memory_mb": 158}[metric]
    assert len(outcomes) <= 40


def test_the_variant_of_the_default_has_no_edits():
    assert ServerConfig(variants=(ModelVariant(model=MODEL),)).is_default

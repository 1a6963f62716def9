import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.domain.ledger import Candidate
from analyzer.domain.run import ModelVariant, ServerConfig
from analyzer.domain.space import LoadRange, ModelSpace, SearchSpace
from analyzer.search.candidates import (
    Slots,
    doublings,
    highest,
    listed,
    lowest,
    roster,
    run_config,
    slots_of,
    template_for,
)
from perf_client.profile import Concurrency, LoadProfile, RequestRate

BASE = ModelVariant(model="m", instance_count=2, max_batch_size=8, dynamic_batching=False)
LOAD = LoadRange(kind="concurrency", minimum=1, maximum=64)


def space_of(batch_sizes: tuple[int, ...] = (1,), **axes: object) -> SearchSpace:
    return SearchSpace(models=(ModelSpace(model="m", load=LOAD, **axes),), batch_sizes=batch_sizes)


def server(**fields: object) -> ServerConfig:
    return ServerConfig(variants=(ModelVariant(model="m", **fields),))


def test_unset_fields_take_the_value_of_the_repository():
    assert slots_of(Candidate(server=server()), (BASE,)) == Slots(2, 8, 1, 1, 0, False)


def test_a_client_batch_fills_part_of_the_servers_batch():
    on = server(dynamic_batching=True, max_batch_size=32)
    assert slots_of(Candidate(server=on, batch_size=4), (BASE,)).batch_limit == 8


def test_without_the_batcher_one_request_is_one_batch_and_no_delay_counts():
    off = server(dynamic_batching=False, max_batch_size=32, queue_delay_us=500)
    slots = slots_of(Candidate(server=off), (BASE,))
    assert (slots.batch_limit, slots.delay_us) == (1, 0)


def test_the_default_comes_first_and_its_spelled_out_twin_is_left_out():
    space = space_of(instance_counts=(1, 2), dynamic_batching=(False, True))
    found = roster(space, (BASE,))
    assert found.kept[0].server.is_default
    twins = {c.server: rule for c, rule in found.skipped}
    assert "default" in twins[server(instance_count=2, dynamic_batching=False)]


def test_a_delay_of_none_is_another_candidate_where_the_repository_has_one():
    batches = ModelVariant(model="m", instance_count=2, max_batch_size=8, dynamic_batching=True, queue_delay_us=500)
    space = space_of(dynamic_batching=(True,), queue_delays_us=(0, 500))
    assert [c.server.variants[0].queue_delay_us for c in roster(space, (batches,)).kept] == [None, 0]


def test_a_called_models_own_values_written_out_are_no_other_candidate():
    caller, called = (ModelSpace(model="m", load=LOAD), ModelSpace(model="sub", instance_counts=(1, 3)))
    bases = (BASE, ModelVariant(model="sub", instance_count=3, max_batch_size=4, dynamic_batching=True))
    found = roster(SearchSpace(models=(caller, called)), bases)
    assert [c.server.variants[1].instance_count for c in found.kept] == [None, 1]
    assert "default" in found.skipped[0][1]


@given(st.floats(0.1, 200), st.lists(st.integers(2, 100), max_size=5))
def test_where_loads_are_listed_only_those_are_asked_for(load: float, values: list[int]):
    within = LoadRange(kind="concurrency", minimum=2, maximum=100, values=tuple(sorted({2.0, *map(float, values)})))
    found = listed(within, load)
    assert found in within.values
    assert found <= load or found == 2


def test_without_a_list_a_load_is_only_kept_within_its_bounds():
    assert [listed(LOAD, load) for load in (0.5, 7, 99)] == [1, 7, 64]


def test_max_batch_sizes_make_no_difference_without_the_batcher():
    space = space_of(max_batch_sizes=(1, 2, 4), dynamic_batching=(False,), instance_counts=(1,))
    assert len(roster(space, (BASE,)).kept) == 2  # the default has two instances


def test_a_client_batch_beyond_the_max_batch_size_is_left_out():
    space = space_of(max_batch_sizes=(4,), dynamic_batching=(True,), batch_sizes=(1, 16))
    rules = [rule for c, rule in roster(space, (BASE,)).skipped if c.batch_size == 16]
    assert len(rules) == 2
    assert all("does not fit" in rule for rule in rules)


def test_every_candidate_is_kept_or_skipped_exactly_once():
    space = space_of(
        instance_counts=(1, 2),
        max_batch_sizes=(1, 8),
        dynamic_batching=(True, False),
        queue_delays_us=(0, 100),
        batch_sizes=(1, 2),
    )
    found = roster(space, (BASE,))
    everything = [*found.kept, *(c for c, _ in found.skipped)]
    assert len(everything) == len(set(everything)) == 2 * space.server_config_count


@pytest.mark.parametrize(
    ("minimum", "maximum", "expected"),
    [(1, 8, (1, 2, 4, 8)), (3, 20, (3, 4, 8, 16, 20)), (5, 5, (5,)), (0, 2, (1, 2))],
)
def test_concurrency_doubles_between_its_bounds(minimum: float, maximum: float, expected: tuple[float, ...]):
    assert doublings(LoadRange(kind="concurrency", minimum=minimum, maximum=maximum)) == expected


@given(st.sampled_from(["concurrency", "request_rate"]), st.floats(0, 500), st.floats(1, 5000))
def test_loads_are_never_zero_nor_above_their_maximum(kind: str, minimum: float, maximum: float):
    load = LoadRange(kind=kind, minimum=min(minimum, maximum), maximum=maximum)
    levels = doublings(load)
    assert min(levels) == lowest(load) > 0
    assert max(levels) == highest(load)
    assert len(set(levels)) == len(levels)


def test_a_point_takes_everything_but_load_and_batch_from_the_template():
    template = LoadProfile(model="m", load=RequestRate(per_second=1.0, arrival="poisson"), protocol="grpc", seed=7)
    config = run_config(Candidate(server=server(), batch_size=4), 125.5, template, "digest", duration_s=2.0)
    assert config.load.load == RequestRate(per_second=125.5, arrival="poisson")
    assert (config.load.batch_size, config.load.protocol, config.load.seed, config.load.duration_s) == (4, "grpc", 7, 2)


def test_a_template_of_the_other_kind_of_load_is_replaced():
    template = LoadProfile(model="m", load=RequestRate(per_second=9.0))
    assert template_for(LOAD, template).load == Concurrency(in_flight=1)
    rates = LoadRange(kind="request_rate", minimum=1, maximum=9)
    assert template_for(rates, template) is template

import pytest
from msgspec.structs import replace

from analyzer.domain.run import Edit, ModelVariant, ServerConfig
from analyzer.render import words
from perf_client.profile import Concurrency, LoadProfile, ModelShare, RequestRate
from tests.fakes.outcomes import server_config
from tests.fakes.runs import model_spec

SPECS = {"synthetic": model_spec()}


@pytest.mark.parametrize(
    ("config", "specs", "said"),
    [
        (server_config(), SPECS, "1 instance, no dynamic batching"),
        (server_config(), {}, "instances unchanged, batching unchanged"),
        (server_config(2, 16, True, 500), SPECS, "2 instances, dynamic batching up to 16, delay 500 µs"),
        (server_config(2, None, True, 0), SPECS, "2 instances, dynamic batching up to 8, delay 0 µs"),
        (server_config(1, None, False), {}, "1 instance, no dynamic batching"),
        (server_config(1, None, True), {}, "1 instance, dynamic batching"),
    ],
)
def test_a_configuration_is_told_with_what_the_repository_leaves_unchanged(config, specs, said):
    assert words.server(config, specs) == said


def test_several_models_are_named_and_preferred_sizes_told():
    first = ModelVariant(model="a", instance_count=1, dynamic_batching=False)
    second = ModelVariant(model="b", instance_count=2, dynamic_batching=True, preferred_batch_sizes=(4, 8))
    said = "a: 1 instance, no dynamic batching; b: 2 instances, dynamic batching, preferred sizes 4, 8"
    assert words.server(ServerConfig(variants=(first, second)), {}) == said


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (Concurrency(in_flight=1024), "concurrency 1,024"),
        (RequestRate(per_second=300.0), "300 requests/s"),
        (RequestRate(per_second=1250.5, arrival="poisson"), "1,250.5 requests/s, Poisson"),
    ],
)
def test_a_load_is_told(load, said):
    assert words.load(load) == said


def test_the_load_generators_command_is_quoted():
    profile = LoadProfile(
        model="my model",
        load=RequestRate(per_second=200.0, arrival="poisson"),
        batch_size=4,
        input_data="a b.json",
        shapes={"X": (3, 224)},
    )
    assert words.client_command(profile) == (
        "perf-client -m 'my model' -i http -b 4 --request-rate-range 200 --request-distribution poisson"
        " --input-data 'a b.json' --shape X:3,224 --duration 5 --seed 0"
    )


def test_models_that_share_a_load_are_all_named():
    mix = (ModelShare(model="a", weight=3.0), ModelShare(model="b", weight=1.5))
    command = words.client_command(LoadProfile(model="a", load=Concurrency(in_flight=8), mix=mix))
    assert command.startswith("perf-client -m a -m b --mix 3:1.5 -i http -b 1 --concurrency-range 8 ")


def test_a_variant_keeps_the_name_that_another_tool_gave_it():
    variant = ModelVariant(model="synthetic", instance_count=2, name="synthetic_config_3")
    assert words.variant(variant, SPECS) == "2 instances, no dynamic batching (synthetic_config_3)"


def test_an_open_load_keeps_its_shape_and_cap():
    load = RequestRate(per_second=50.0, arrival="gamma", gamma_shape=0.5, max_in_flight=64)
    command = words.client_command(LoadProfile(model="m", load=load))
    assert "--request-distribution gamma --gamma-shape 0.5 --max-in-flight 64" in command


CHAIN = {
    "a": model_spec("a"),
    "b": model_spec("b"),
    "chain": replace(model_spec("chain"), composing=("a", "b")),
}


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ({}, {}, "every model as it is today"),
        ({"instance_count": 1}, {"dynamic_batching": False}, "every model as it is today"),
        ({"instance_count": 1, "dynamic_batching": False}, {"instance_count": 2}, "b: 2 instances"),
        ({"instance_count": 2}, {"instance_count": 2, "dynamic_batching": False}, "a, b: 2 instances"),
        ({"max_batch_size": 16, "dynamic_batching": True}, {}, "a: dynamic batching up to 16"),
        ({"max_batch_size": 16}, {}, "a: max_batch_size 16"),
        ({"edits": (Edit(path="parameters.x.y", value=2),)}, {}, "a: x.y 2"),
        ({"edits": (Edit(path="optimization.graph.level", value=1),)}, {}, "a: graph.level 1"),
        ({"edits": (Edit(path="instance_group.0.kind", value="KIND_CPU"),)}, {}, "a: instance_group.0.kind CPU"),
        ({"edits": (Edit(path="instance_group.kind", value="KIND_GPU"),)}, {}, "a: on GPU"),
    ],
)
def test_of_several_models_only_what_differs_from_today_is_told(a, b, said):
    variants = (ModelVariant(model="chain"), ModelVariant(model="a", **a), ModelVariant(model="b", **b))
    assert words.server(ServerConfig(variants=variants), CHAIN) == said

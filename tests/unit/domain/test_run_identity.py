from analyzer.domain.record import content_key
from analyzer.domain.run import Edit, ModelVariant, RunConfig, ServerConfig
from perf_client.profile import Concurrency, LoadProfile


def config(**changes) -> RunConfig:
    load = LoadProfile(model="m", load=Concurrency(in_flight=4), **changes)
    return RunConfig(server=ServerConfig(variants=(ModelVariant(model="m", instance_count=2),)), load=load, content="c")


def test_fields_at_their_default_are_no_part_of_a_points_identity():
    """Else each field that a later version adds would make every stored point a stranger."""
    assert config().key == config(batch_size=1, seed=0).key != config(batch_size=2).key
    plain = {"content": "c", "load": {"load": {"in_flight": 4, "mode": "concurrency"}, "model": "m"}}
    plain["server"] = {"variants": [{"instance_count": 2, "model": "m"}]}
    assert config().key == content_key(plain)


def test_edits_and_loads_beside_are_part_of_it():
    edited = ModelVariant(model="m", instance_count=2, edits=(Edit(path="parameters.a", value="1"),))
    beside = LoadProfile(model="other", load=Concurrency(in_flight=1))
    plain = config()
    others = [
        RunConfig(server=ServerConfig(variants=(edited,)), load=plain.load, content="c"),
        RunConfig(server=plain.server, load=plain.load, content="c", beside=(beside,)),
    ]
    assert len({plain.key, *(other.key for other in others)}) == 3


def test_values_that_only_python_takes_for_equal_are_told_apart():
    keys = {
        ServerConfig(variants=(ModelVariant(model="m", edits=(Edit(path="p", value=value),)),)).key
        for value in (1, True, 1.0, "1", (1,), None)
    }
    assert len(keys) == 6

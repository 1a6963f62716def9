from analyzer.domain.record import content_key
from analyzer.domain.run import ModelVariant, RunConfig, ServerConfig
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

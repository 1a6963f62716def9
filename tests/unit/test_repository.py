from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.domain.run import ModelVariant, ServerConfig
from analyzer.errors import InputError
from analyzer.repository import digest_of, model_folder, model_spec, varied, write_variants

TEXT = """
name: "m" backend: "onnxruntime" max_batch_size: 16
input [ { name: "X" data_type: TYPE_FP32 dims: [ 3, -1 ] } ]
output [ { name: "Y" data_type: TYPE_STRING dims: [ 1 ] } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }
"""


def config(text: str = TEXT) -> ModelConfig:
    return text_format.Parse(text, ModelConfig())


def variant(**changes) -> ModelConfig:
    return varied(config(), ModelVariant(model="m", **changes))


def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repo" / "m"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(b"weights")
    (folder / "config.pbtxt").write_text(TEXT)
    return tmp_path / "repo"


def test_a_spec_holds_what_the_configuration_says(tmp_path: Path):
    spec = model_spec(repository(tmp_path) / "m", config())
    assert (spec.name, spec.backend, spec.max_batch_size, spec.instance_count) == ("m", "onnxruntime", 16, 2)
    assert (spec.inputs[0].name, spec.inputs[0].datatype, spec.inputs[0].shape) == ("X", "FP32", (3, -1))
    assert spec.outputs[0].datatype == "BYTES"
    assert spec.dynamic_batching
    assert text_format.Parse(spec.config_text, ModelConfig()) == config()


def test_nothing_changed_is_the_same_configuration():
    assert variant() == config()


def test_each_change_lands_in_its_field_and_nowhere_else():
    made = variant(
        instance_count=4, max_batch_size=32, queue_delay_us=500, dynamic_batching=True, preferred_batch_sizes=(2,)
    )
    assert [(group.count, group.kind) for group in made.instance_group] == [(4, config().instance_group[0].kind)]
    assert made.max_batch_size == 32
    assert made.dynamic_batching.max_queue_delay_microseconds == 500
    assert list(made.dynamic_batching.preferred_batch_size) == [2]
    assert made.input == config().input


def test_the_batcher_can_be_switched_off_and_on():
    assert not variant(dynamic_batching=False, queue_delay_us=5).HasField("dynamic_batching")
    bare = config(TEXT[: TEXT.index("dynamic_batching")])
    assert varied(bare, ModelVariant(model="m", dynamic_batching=True)).HasField("dynamic_batching")


def test_preferred_sizes_above_the_maximum_are_dropped():
    assert list(variant(max_batch_size=4).dynamic_batching.preferred_batch_size) == [4]


def test_a_variant_repository_links_what_is_big_and_writes_its_own_configuration(tmp_path: Path):
    source = repository(tmp_path)
    server = ServerConfig(variants=(ModelVariant(model="m", instance_count=3),))
    texts = write_variants(source, {"m": config()}, server, tmp_path / "variant")
    made = tmp_path / "variant" / "m"
    assert (made / "1" / "model.onnx").read_bytes() == b"weights"
    assert (made / "1").is_symlink()
    assert (made / "config.pbtxt").read_text() == texts["m"]
    assert text_format.Parse(texts["m"], ModelConfig()).instance_group[0].count == 3
    assert (source / "m" / "config.pbtxt").read_text() == TEXT


def test_the_digest_follows_content_and_names(tmp_path: Path):
    source = repository(tmp_path)
    before = digest_of([source / "m"])
    assert digest_of([source / "m"]) == before
    (source / "m" / "1" / "model.onnx").write_bytes(b"others")
    assert digest_of([source / "m"]) != before


@pytest.mark.parametrize(
    ("make", "name", "sentence"),
    [
        (lambda path: None, "m", "not a folder"),
        (lambda path: path.mkdir(), "m", "is empty"),
        (lambda path: (path / "other").mkdir(parents=True), "m", "there are other"),
    ],
)
def test_a_missing_model_is_named_with_what_is_there(tmp_path: Path, make, name, sentence):
    make(tmp_path / "repo")
    with pytest.raises(InputError, match=sentence):
        model_folder(tmp_path / "repo", name)


def test_the_queue_delay_is_known_where_there_is_a_batcher(tmp_path: Path):
    batching = config()
    batching.dynamic_batching.max_queue_delay_microseconds = 300
    assert model_spec(tmp_path / "m", batching).queue_delay_us == 300
    batching.ClearField("dynamic_batching")
    assert model_spec(tmp_path / "m", batching).queue_delay_us is None

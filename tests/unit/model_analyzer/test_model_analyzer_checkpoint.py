import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import InputError
from analyzer.model_analyzer.checkpoint import is_checkpoint, read_checkpoint
from analyzer.model_analyzer.tables import csv_tables
from tests.fakes import model_analyzer as fake

SINGLE = fake.content("single-model")


def test_configurations_and_points_are_read(tmp_path):
    checkpoint = read_checkpoint(fake.folder(tmp_path, SINGLE))
    assert checkpoint.models == ("add_sub",)
    assert [len(configuration.points) for configuration in checkpoint.configurations] == [4, 2, 4, 2, 4]
    batched = checkpoint.configurations[2]
    assert (batched.name, batched.protocol) == ("add_sub_config_1", "grpc")
    assert (batched.variants[0].max_batch_size, batched.variants[0].batcher) == (2, {})
    assert checkpoint.configurations[0].variants[0].batcher is None
    (gpu,) = checkpoint.gpus.values()
    assert (gpu.name, gpu.total_memory_bytes) == ("NVIDIA TITAN RTX", 25387401216)


def test_models_profiled_together_are_one_entry(tmp_path):
    checkpoint = read_checkpoint(fake.folder(tmp_path, fake.content("multi-model")))
    assert checkpoint.models == ("resnet50_libtorch,vgg19_libtorch",)
    assert all(len(point.models) == 2 for point in checkpoint.points)


def test_the_older_layout_is_read(tmp_path):
    checkpoint = read_checkpoint(fake.folder(tmp_path, fake.content("older-layout")))
    (configuration,) = checkpoint.configurations
    (variant,) = configuration.variants
    assert (variant.model, variant.name, variant.max_batch_size) == (
        "vgg19_libtorch", "vgg19_libtorch_config_default", 128,
    )  # fmt: skip
    assert variant.config["name"] == "vgg19_libtorch"
    assert [point.models[0].concurrency for point in configuration.points] == [1, 2]


@pytest.mark.parametrize("name", ["single-model", "multi-model"])
def test_both_layouts_give_the_same_tables(tmp_path, name):
    older = fake.in_older_layout(fake.tree(name))
    assert csv_tables(read_checkpoint(fake.folder(tmp_path, older))) == csv_tables(
        read_checkpoint(fake.folder(tmp_path / "newer", fake.content(name)))
    )


def test_the_newest_of_a_folder_is_read_and_other_files_are_left_alone(tmp_path):
    fake.folder(tmp_path, b"{", number=9)
    fake.folder(tmp_path, SINGLE, number=10)
    (tmp_path / "notes.ckpt").write_text("mine")
    assert read_checkpoint(tmp_path).models == ("add_sub",)
    with pytest.raises(InputError, match=r"9\.ckpt is damaged"):
        read_checkpoint(tmp_path / "9.ckpt")


def test_a_folder_or_file_is_known_for_a_checkpoint_by_its_name(tmp_path):
    assert not is_checkpoint(tmp_path)
    assert is_checkpoint(fake.folder(tmp_path, SINGLE))
    assert is_checkpoint(tmp_path / "3.ckpt")
    assert not is_checkpoint(tmp_path / "run.json")


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (SINGLE[:9000], "is damaged"),
        (b"\xff\xfe\x00", "is damaged"),
        (b"[]", "is no checkpoint of Model Analyzer"),
        (b'{"a": 1}', "missing required field `ResultManager.results`"),
        (b'{"ResultManager.results": {"_results": {}}}', "holds no measurement"),
        (b'{"ResultManager.results": {"_results": {"m": {"c": [{"_model_run_configs": []}, {}]}}}}', "no measurement"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_a_sentence(tmp_path, raw, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        read_checkpoint(fake.folder(tmp_path, raw))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_numbered_file_and_a_missing_file_are_named(tmp_path):
    (tmp_path / "notes.ckpt").write_text("mine")
    with pytest.raises(InputError, match=r"none is called 0\.ckpt"):
        read_checkpoint(tmp_path)
    with pytest.raises(InputError, match="No such file"):
        read_checkpoint(tmp_path / "7.ckpt")


@given(length=st.integers(0, len(SINGLE) - 1))
def test_a_file_cut_at_any_byte_is_a_sentence_or_whole(tmp_path_factory, length):
    path = tmp_path_factory.getbasetemp() / "cut.ckpt"
    path.write_bytes(SINGLE[:length])
    if SINGLE[:length].rstrip() == SINGLE.rstrip():
        return
    with pytest.raises(InputError, match=r"is damaged|is empty"):
        read_checkpoint(path)


JUNK = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just([]), st.just({}), st.just([[1]]))


@given(data=st.data())
def test_a_value_replaced_by_junk_is_a_sentence_or_does_not_matter(tmp_path_factory, data):
    checkpoint = fake.tree("older-layout")
    node, key = checkpoint, data.draw(st.sampled_from(sorted(checkpoint)))
    while isinstance(node[key], dict | list) and node[key] and data.draw(st.integers(0, 5)):
        node = node[key]
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
    node[key] = data.draw(JUNK)
    path = tmp_path_factory.getbasetemp() / "junk.ckpt"
    path.write_text(json.dumps(checkpoint))
    said = ""
    try:
        said = csv_tables(read_checkpoint(path))["metrics-model-inference.csv"].splitlines()[0]
    except InputError as error:
        said = str(error)
    assert said.startswith(("Model,", "checkpoint ", str(path)))
    assert "\n" not in said


def test_fields_that_a_newer_version_added_are_passed_over(tmp_path):
    checkpoint = fake.tree("single-model")
    checkpoint["ResultManager.something_new"] = {"a": [1]}
    for run in fake.run_configs(checkpoint):
        run["_added"] = 1
        run["_model_run_configs"][0]["_model_config_variant"]["model_config"]["fieldOfTomorrow"] = {"x": 1}
    for point in fake.measured(checkpoint):
        point["_model_config_measurements"][0]["_non_gpu_data"].append(["perf_new", {"_value": 1.5, "_unit": "s"}])
    assert csv_tables(read_checkpoint(fake.folder(tmp_path, checkpoint))) == csv_tables(
        read_checkpoint(fake.folder(tmp_path / "as-it-was", SINGLE))
    )


def test_a_point_with_another_number_of_models_than_its_configuration_is_refused(tmp_path):
    checkpoint = fake.tree("multi-model")
    fake.measured(checkpoint)[3]["_model_config_measurements"].pop()
    with pytest.raises(InputError, match=r"has 1 models, .* 2"):
        read_checkpoint(fake.folder(tmp_path, checkpoint))


def test_a_configuration_that_cannot_be_one_is_named(tmp_path):
    checkpoint = fake.tree("single-model")
    fake.run_configs(checkpoint)[1]["_model_run_configs"][0]["_model_config_variant"]["model_config"] = {
        "maxBatchSize": "many"
    }
    with pytest.raises(InputError, match="the configuration of add_sub_config_0"):
        read_checkpoint(fake.folder(tmp_path, checkpoint))


def test_loads_kept_as_text_are_numbers_and_other_text_is_refused(tmp_path):
    checkpoint = fake.tree("older-layout")
    load = fake.measured(checkpoint)[0]["_model_config_measurements"][0]["_model_specific_pa_params"]
    load["concurrency-range"] = "16"
    point = next(read_checkpoint(fake.folder(tmp_path, checkpoint)).points)
    assert point.models[0].concurrency == 16
    load["concurrency-range"] = "1:4"
    with pytest.raises(InputError, match="'1:4' is no load"):
        read_checkpoint(fake.folder(tmp_path, checkpoint))

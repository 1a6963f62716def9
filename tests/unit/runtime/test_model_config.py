from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor
from tritonclient.grpc import model_config_pb2

from analyzer.runtime.backends.base import ModelError
from analyzer.runtime.batcher import BatchPolicy
from analyzer.runtime.config_check import ignored_fields, validate
from analyzer.runtime.config_fields import FIELDS, HONOURED_BY, decide
from analyzer.runtime.ensemble_steps import read_steps
from analyzer.runtime.instance_groups import placements
from analyzer.runtime.loading import make_policy, prepare
from analyzer.runtime.model_config import read_config, served_versions
from tests.fakes import repositories

EXECUTION = "optimization.execution_accelerators"
IO = (
    'name: "m" backend: "simulated" input { name: "A" data_type: TYPE_FP32 dims: [ 1 ] } '
    'output { name: "B" data_type: TYPE_FP32 dims: [ 1 ] } '
)


def parse(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def folder_with(tmp_path: Path, text: str, *files: str) -> Path:
    folder = tmp_path / "m"
    (folder / "1").mkdir(parents=True)
    (folder / "config.pbtxt").write_text(text)
    for file in files:
        (folder / "1" / file).touch()
    return folder


@pytest.mark.parametrize(
    ("text", "files", "backend"),
    [
        ('backend: "python"', [], "python"),
        ('platform: "onnxruntime_onnx"', [], "onnxruntime"),
        ('platform: "ensemble"', [], "ensemble"),
        ("ensemble_scheduling { }", [], "ensemble"),
        ("", ["model.onnx"], "onnxruntime"),
        ("", ["model.py"], "python"),
        ('default_model_filename: "net.onnx"', ["net.onnx"], "onnxruntime"),
    ],
)
def test_the_backend_is_stated_or_told_by_the_files(tmp_path: Path, text: str, files: list[str], backend: str):
    config = read_config(folder_with(tmp_path, text, *files))
    assert (config.name, config.backend) == ("m", backend)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "input {\n  nam: 3 }",
            "m/config.pbtxt, line 2, can't be read: ModelInput has no field 'nam'; did you mean name?",
        ),
        ("\xff", "m/config.pbtxt, line 1, can't be read"),
        ("input { data_type: 999999999999999 }", "m/config.pbtxt can't be read: Value out of range: 999999999999999"),
        (
            "max_bach_size: 8",
            "line 1, can't be read: ModelConfig has no field 'max_bach_size'; did you mean max_batch_size",
        ),
        (
            "ensemble_scheduling { step { model_nam: 'a' } }",
            "ModelEnsembling.Step has no field 'model_nam'; did you mean model_name",
        ),
        ('name: "other"', "has the name 'other' in its config.pbtxt; it must be the folder's"),
        ('platform: "caffe2"', "has the unknown platform 'caffe2'"),
        ("", "names no backend"),
    ],
)
def test_a_configuration_that_cannot_be_read_is_one_sentence(tmp_path: Path, text: str, reason: str):
    with pytest.raises(ModelError) as caught:
        read_config(folder_with(tmp_path, text))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("policy", "folders", "served"),
    [
        ("", ["1", "2", "10"], [10]),
        ("version_policy { latest { num_versions: 2 } }", ["1", "2", "10"], [2, 10]),
        ("version_policy { all { } }", ["1", "2", "10", "x", "03", "0"], [1, 2, 10]),
        ("version_policy { specific { versions: [ 1, 10 ] } }", ["1", "2", "10"], [1, 10]),
        ("version_policy { specific { versions: [ 1, 9 ] } }", ["1", "2"], [1]),
        ("", [], [1]),
    ],
)
def test_version_policy(tmp_path: Path, policy: str, folders: list[str], served: list[int]):
    for name in folders:
        (tmp_path / name).mkdir()
    assert list(served_versions(tmp_path, parse(IO + policy))) == served


def test_a_version_asked_for_must_be_there(tmp_path: Path):
    (tmp_path / "1").mkdir()
    with pytest.raises(ModelError, match="no folder for version 4"):
        served_versions(tmp_path, parse(IO + "version_policy { specific { versions: [ 4 ] } }"))


def test_a_policy_of_specific_versions_must_name_one(tmp_path: Path):
    folder = folder_with(tmp_path, "version_policy { specific { } }", "model.onnx")
    with pytest.raises(ModelError, match="names none"):
        served_versions(folder, read_config(folder))


def test_a_model_with_files_needs_a_version_folder(tmp_path: Path):
    with pytest.raises(ModelError, match="add one such as 'm/1'"):
        served_versions(tmp_path, parse('name: "m" backend: "python"'))


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        ("", []),
        ("max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 5 }", []),
        ("max_batch_size: 4 dynamic_batching { preserve_ordering: true } response_cache { enable: true }", []),
        ('input { name: "C" format: FORMAT_NCHW }', ["input.format"]),
        ("response_cache { enable: false }", []),
    ],
)
def test_harmless_fields_are_named(text: str, ignored: list[str]):
    assert ignored_fields(parse(IO + text)) == ignored


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("sequence_batching { iterative_sequence: true }", "sequence_batching.iterative_sequence"),
        ('input { name: "C" allow_ragged_batch: true }', "input.allow_ragged_batch"),
        ("batch_input { }", "batch_input"),
    ],
)
def test_fields_that_would_change_answers_are_refused(text: str, field: str):
    with pytest.raises(ModelError, match="which this runtime does not support") as caught:
        ignored_fields(parse(IO + text))
    assert f"sets {field}," in str(caught.value)


@pytest.mark.parametrize(
    ("backend", "ignored"),
    [("onnxruntime", []), ("python", ["optimization.graph.level", EXECUTION + ".gpu_execution_accelerator.name"])],
)
def test_what_only_some_backends_honour_is_told_for_the_others(backend: str, ignored: list[str]):
    config = parse(
        IO + "optimization { graph { level: -1 } "
        'execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }'
    )
    config.backend = backend
    assert ignored_fields(config) == ignored


def leaves(descriptor: Descriptor, prefix: str = "") -> Iterator[str]:
    for field in descriptor.fields:
        kind = field.message_type
        if kind is None or kind.GetOptions().map_entry:
            yield f"{prefix}{field.name}"
        else:
            yield from leaves(kind, f"{prefix}{field.name}.") if kind.fields else [f"{prefix}{field.name}"]


def test_every_field_of_the_configuration_is_decided():
    for path in leaves(model_config_pb2.ModelConfig.DESCRIPTOR):
        decide(path, "python")


def test_every_decision_is_about_a_field_that_exists():
    for path in (*FIELDS, *HONOURED_BY):
        descriptor = model_config_pb2.ModelConfig.DESCRIPTOR
        for name in path.split("."):
            field = descriptor.fields_by_name[name]
            descriptor = field.message_type


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("max_batch_size: -1", "max_batch_size -1"),
        ("dynamic_batching { }", "needs a max_batch_size of 1 or more"),
        ("max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 8 ] }", "must be from 1 to 4"),
        ("instance_group { count: -2 }", "count -2"),
        ('input { name: "A" data_type: TYPE_FP32 dims: [ 1 ] }', "two of the same name"),
        ('input { name: "C" dims: [ 1 ] }', "input 'C' of model 'm': data_type is missing"),
        ('output { name: "C" data_type: TYPE_FP32 dims: [ 0 ] }', "neither -1 nor positive"),
        (
            'input { name: "C" data_type: TYPE_FP32 dims: [ -1, -1 ] reshape { shape: [ -1 ] } }',
            "reshapes more than one variable dim",
        ),
    ],
)
def test_configurations_that_contradict_themselves(text: str, reason: str):
    with pytest.raises(ModelError) as caught:
        validate(parse(IO + text))
    assert reason in str(caught.value)


def test_a_model_needs_inputs_and_outputs():
    with pytest.raises(ModelError, match="states no input"):
        validate(parse('name: "m"'))


def test_the_batching_policy_is_read_from_the_configuration():
    text = "max_batch_size: 8 dynamic_batching { preferred_batch_size: [ 8, 4 ] max_queue_delay_microseconds: 500 }"
    assert make_policy(parse(IO + text)) == BatchPolicy(8, True, (4, 8), 500_000)
    assert make_policy(parse(IO)) == BatchPolicy(1, False)


def test_instances_are_counted_over_all_groups(tmp_path: Path):
    folder = repositories.write_simulated(tmp_path, extra="instance_group [ { count: 2 }, { kind: KIND_CPU } ]")
    (files,) = prepare(folder).versions
    assert [(item.name, item.peers, item.kind) for item in placements(files)] == [
        ("simulated_0_0", 3, "KIND_CPU"),
        ("simulated_0_1", 3, "KIND_CPU"),
        ("simulated_1_2", 3, "KIND_CPU"),
    ]


def test_gpus_make_one_instance_each(tmp_path: Path):
    group = "instance_group { count: 2 kind: KIND_GPU gpus: [ 0, 3 ] }"
    (files,) = prepare(repositories.write_simulated(tmp_path, extra=group)).versions
    assert [(item.kind, item.device) for item in placements(files)] == [
        ("KIND_GPU", 0),
        ("KIND_GPU", 0),
        ("KIND_GPU", 3),
        ("KIND_GPU", 3),
    ]


@pytest.mark.parametrize(
    ("group", "gpus", "instances"),
    [
        ("kind: KIND_GPU", 2, [("KIND_GPU", 0), ("KIND_GPU", 1)]),
        ("kind: KIND_GPU count: 2 gpus: [ 1 ]", 2, [("KIND_GPU", 1), ("KIND_GPU", 1)]),
        ("gpus: [ 0, 1 ]", 2, [("KIND_GPU", 0), ("KIND_GPU", 1)]),
        ("kind: KIND_CPU count: 2", 2, [("KIND_CPU", 0), ("KIND_CPU", 0)]),
        ("", 2, [("KIND_CPU", 0)]),
    ],
)
def test_groups_are_spread_over_the_gpus_there_are(tmp_path: Path, group: str, gpus: int, instances: list):
    folder = repositories.write_add_sub(tmp_path, extra=f"instance_group {{ {group} }}")
    (files,) = prepare(folder, gpu_count=gpus).versions
    assert [(item.kind, item.device) for item in placements(files)] == instances
    assert [item.index for item in placements(files)] == list(range(len(instances)))


@pytest.mark.parametrize(
    ("group", "gpus", "reason"),
    [
        ("kind: KIND_GPU", 0, "is KIND_GPU, but this machine has no NVIDIA GPU with a working driver; use KIND_CPU"),
        ("gpus: [ 0, 2 ]", 2, "instance group 'add_sub_0' of model 'add_sub' lists GPU 2; this machine has 0, 1"),
        ("gpus: [ -1 ]", 2, "lists GPU -1"),
    ],
)
def test_gpus_that_are_not_there_are_refused(tmp_path: Path, group: str, gpus: int, reason: str):
    folder = repositories.write_add_sub(tmp_path, extra=f"instance_group {{ {group} }}")
    with pytest.raises(ModelError) as caught:
        prepare(folder, gpu_count=gpus)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('backend: "caffe2"', "backend 'caffe2' is not known; known are "),
        (IO + "instance_group { kind: KIND_CPU gpus: [ 0 ] }", "lists gpus in an instance_group that is not KIND_GPU"),
        (IO + 'parameters { key: "service_us" value { string_value: "x" } }', "wrong parameter for the simulated"),
        (IO + 'parameters { key: "speed" value { string_value: "1" } }', "wrong parameter for the simulated"),
        (IO + 'parameters { key: "service_us" value { string_value: "-1" } }', "negative or infinite"),
    ],
)
def test_what_no_backend_can_run_is_refused(tmp_path: Path, text: str, reason: str):
    with pytest.raises(ModelError) as caught:
        prepare(folder_with(tmp_path, text))
    assert reason in str(caught.value)


def ensemble(*steps: tuple[str, str, str]) -> model_config_pb2.ModelConfig:
    """Steps as (model, tensor in, tensor out), from X to Y."""
    config = parse('name: "e" input { name: "X" } output { name: "Y" } ensemble_scheduling { }')
    for model, source, target in steps:
        step = config.ensemble_scheduling.step.add(model_name=model, model_version=-1)
        step.input_map["IN"] = source
        step.output_map["OUT"] = target
    return config


def test_steps_may_be_listed_in_any_order():
    steps = read_steps(ensemble(("b", "mid", "Y"), ("a", "X", "mid")))
    assert [(step.model, step.version, step.inputs, step.outputs) for step in steps] == [
        ("b", "", (("IN", "mid"),), (("Y", "OUT"),)),
        ("a", "", (("IN", "X"),), (("mid", "OUT"),)),
    ]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (ensemble(), "has no step"),
        (ensemble(("a", "Z", "Y")), "no step and no input makes the tensor 'Z'"),
        (ensemble(("a", "X", "Z")), "no step makes its output 'Y'"),
        (ensemble(("a", "X", "Y"), ("b", "X", "Y")), "makes the tensor 'Y' more than once"),
        (ensemble(("a", "X", "X")), "makes the tensor 'X' more than once"),
        (ensemble(("a", "X", "Y"), ("b", "q", "p"), ("c", "p", "q")), "form a cycle"),
    ],
)
def test_graphs_that_cannot_run_are_refused(config: model_config_pb2.ModelConfig, reason: str):
    with pytest.raises(ModelError) as caught:
        read_steps(config)
    assert reason in str(caught.value)

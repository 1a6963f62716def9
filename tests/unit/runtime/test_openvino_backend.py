"""The openvino backend on the CPU: options by tables, answers against the bare library."""

from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from analyzer.runtime.backends.base import ModelError, ModelFiles, Placement
from analyzer.runtime.backends.openvino import OpenvinoBackend
from analyzer.runtime.backends.openvino_options import make_plan, unknown_parameters
from analyzer.runtime.loading import prepare
from tests.fakes.opened_store import answers
from tests.fakes.repositories import affine_onnx, parameter_block, write_model

CPU = Placement("m_0_0", 0, 1, "KIND_CPU", 0)


def files(parameters: dict[str, object], max_batch_size: int = 8) -> ModelFiles:
    config = model_config_pb2.ModelConfig(name="m", max_batch_size=max_batch_size)
    return ModelFiles("m", 1, Path("m"), Path("m/1"), text_format.Parse(parameter_block(parameters), config))


@pytest.mark.parametrize(
    ("parameters", "properties"),
    [
        ({}, {}),
        ({"INFERENCE_NUM_THREADS": 3}, {"INFERENCE_NUM_THREADS": "3"}),
        ({"CPU_THREADS_NUM": 3}, {"INFERENCE_NUM_THREADS": "3"}),
        ({"NUM_STREAMS": 2}, {"NUM_STREAMS": "2"}),
        ({"CPU_THROUGHPUT_STREAMS": "auto"}, {"NUM_STREAMS": "AUTO"}),
        ({"CPU_BIND_THREAD": "NUMA"}, {"ENABLE_CPU_PINNING": "YES"}),
        ({"CPU_BIND_THREAD": "NO"}, {"ENABLE_CPU_PINNING": "NO"}),
        ({"ENFORCE_BF16": "YES"}, {"INFERENCE_PRECISION_HINT": "bf16"}),
        ({"PERFORMANCE_HINT": "throughput"}, {"PERFORMANCE_HINT": "THROUGHPUT"}),
        ({"PERFORMANCE_HINT_NUM_REQUESTS": 4}, {"PERFORMANCE_HINT_NUM_REQUESTS": "4"}),
    ],
)
def test_parameters_become_properties_of_openvino(parameters: dict[str, object], properties: dict[str, str]):
    assert make_plan(files(parameters), CPU).properties == properties


@pytest.mark.parametrize(
    ("parameters", "streams"),
    [({}, "3"), ({"NUM_STREAMS": 1}, "1"), ({"PERFORMANCE_HINT": "LATENCY"}, None)],
)
def test_a_stream_an_instance_unless_something_else_is_said(parameters: dict[str, object], streams: str | None):
    plan = make_plan(files(parameters), Placement("m_0_0", 0, 3, "KIND_CPU", 0))
    assert plan.properties.get("NUM_STREAMS") == streams


@pytest.mark.parametrize(
    ("parameters", "sizes"),
    [({}, ()), ({"SKIP_DYNAMIC_BATCHSIZE": "YES"}, (8,)), ({"batch_sizes": "2,8"}, (2, 8))],
)
def test_batches_are_padded_where_asked_to(parameters: dict[str, object], sizes: tuple[int, ...]):
    assert make_plan(files(parameters), CPU).batch_sizes == sizes


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"NUM_STREAMS": "many"}, "NUM_STREAMS 'many'; it takes a number of 0 or more or AUTO or NUMA"),
        ({"CPU_THREADS_NUM": "-1"}, "CPU_THREADS_NUM '-1'; it takes a number of 0 or more"),
        ({"PERFORMANCE_HINT": "SPEED"}, "it takes LATENCY, THROUGHPUT, CUMULATIVE_THROUGHPUT"),
        ({"ENFORCE_BF16": "perhaps"}, "ENFORCE_BF16 'perhaps'; it takes true or false"),
        ({"CPU_EXTENSION_PATH": "/lib/x.so"}, "own CPU kernels are not supported"),
    ],
)
def test_a_value_that_can_not_be_honoured_is_one_sentence(parameters: dict[str, object], reason: str):
    with pytest.raises(ModelError) as caught:
        make_plan(files(parameters), CPU)
    assert reason in str(caught.value)


def test_gpu_instances_are_refused_and_unknown_parameters_named():
    with pytest.raises(ModelError, match="TARGET_DEVICE for other devices"):
        make_plan(files({}), Placement("m_0_0", 0, 1, "KIND_GPU", 0))
    assert unknown_parameters(files({"colour": "red", "NUM_STREAMS": 1, "TARGET_DEVICE": "CPU"})) == ["colour"]


def write(repository: Path, file_name: str = "model.onnx", extra: str = "", **tensors: object) -> Path:
    """y = 2 * x + 1, as an ONNX file or as IR."""
    given = {"inputs": [("x", "TYPE_FP32", (4,))], "outputs": [("y", "TYPE_FP32", (4,))], "max_batch_size": 8}
    folder = write_model(
        repository, "affine", backend="openvino", extra=extra, files={"model.onnx": affine_onnx()}, **(given | tensors)
    )
    if file_name == "model.xml":
        openvino = pytest.importorskip("openvino")
        onnx = folder / "1" / "model.onnx"
        openvino.save_model(
            openvino.Core().read_model(str(onnx)), str(folder / "1" / "model.xml"), compress_to_fp16=False
        )
        onnx.unlink()
    return folder


openvino_only = pytest.mark.usefixtures("openvino")


@pytest.fixture
def openvino():
    return pytest.importorskip("openvino")


@openvino_only
@pytest.mark.parametrize("file_name", ["model.onnx", "model.xml"])
@pytest.mark.parametrize(
    "extra",
    [
        "",
        "dynamic_batching { }\ninstance_group { count: 2 }",
        "dynamic_batching { }\n" + parameter_block({"SKIP_DYNAMIC_BATCHSIZE": "YES", "INFERENCE_NUM_THREADS": 1}),
        "dynamic_batching { }\n" + parameter_block({"batch_sizes": "1,8", "PERFORMANCE_HINT": "LATENCY"}),
    ],
)
def test_answers_are_those_of_the_model(tmp_path: Path, file_name: str, extra: str):
    write(tmp_path, file_name, extra)
    sent = [np.random.default_rng(seed).random((rows, 4), np.float32) for seed, rows in enumerate((1, 3, 8, 2))]
    for array, got in zip(sent, answers(tmp_path, "affine", [{"x": array} for array in sent]), strict=True):
        np.testing.assert_allclose(got.outputs["y"], 2 * array + 1, rtol=1e-6)


@openvino_only
def test_a_model_without_configuration_is_completed_from_its_file(tmp_path: Path):
    folder = write(tmp_path, "model.xml")
    (folder / "config.pbtxt").unlink()
    config = prepare(folder).config
    assert (config.backend, config.max_batch_size, config.HasField("dynamic_batching")) == ("openvino", 4, True)
    assert [(item.name, item.data_type, list(item.dims)) for item in config.input] == [("x", 11, [4])]
    assert [(item.name, item.data_type, list(item.dims)) for item in config.output] == [("y", 11, [4])]


@openvino_only
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"inputs": [("z", "TYPE_FP32", (4,))]}, "has no input 'z' in its OpenVINO file; it has x"),
        ({"inputs": [("x", "TYPE_FP16", (4,))]}, "input 'x' of model 'affine' is FP32 in its OpenVINO file"),
        ({"outputs": [("z", "TYPE_FP32", (4,))]}, "has no output 'z' in its OpenVINO file; it has y"),
        ({"extra": parameter_block({"TARGET_DEVICE": "NPU"})}, "the OpenVINO device 'NPU'; this machine has CPU"),
    ],
)
def test_what_contradicts_the_model_is_refused_at_load(tmp_path: Path, changed: dict[str, object], reason: str):
    prepared = prepare(write(tmp_path, **changed))
    with pytest.raises(ModelError) as caught:
        OpenvinoBackend().load(prepared.versions[0], CPU)
    assert reason in str(caught.value)


@openvino_only
def test_a_file_that_is_no_model_is_one_sentence(tmp_path: Path):
    folder = write(tmp_path)
    (folder / "1" / "model.onnx").write_text("not a model")
    with pytest.raises(ModelError, match="model 'affine' can't be opened by OpenVINO: ") as caught:
        prepare(folder)
    assert "\n" not in str(caught.value)


def test_without_openvino_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    folder = write(tmp_path)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelError, match=r"pip install 'serving-analyzer\[openvino\]'"):
        prepare(folder)

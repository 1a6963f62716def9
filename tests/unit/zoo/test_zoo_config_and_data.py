import json

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from analyzer.zoo.input_data import write_input_data
from analyzer.zoo.model_config import ENSEMBLE, ONNX, EnsembleStep, ModelConfig, TensorConfig, to_pbtxt
from tests.fakes.model_folder import read_config, read_requests


def parse(config: ModelConfig) -> model_config_pb2.ModelConfig:
    return text_format.Parse(to_pbtxt(config), model_config_pb2.ModelConfig())


def test_config_says_name_backend_batch_and_tensors():
    config = ModelConfig(
        "m", ONNX, 8, (TensorConfig("x", "FP32", (3, -1)),), (TensorConfig("y", "INT64", (2,), "labels.txt"),), "a\nb"
    )
    parsed = parse(config)
    assert (parsed.name, parsed.backend, parsed.max_batch_size) == ("m", "onnxruntime", 8)
    assert (parsed.input[0].name, list(parsed.input[0].dims)) == ("x", [3, -1])
    assert parsed.output[0].data_type == model_config_pb2.TYPE_INT64
    assert parsed.output[0].label_filename == "labels.txt"
    assert not parsed.HasField("dynamic_batching")
    assert to_pbtxt(config).startswith("# a\n# b\n")


def test_scalar_is_one_element_on_the_wire_and_none_in_the_model():
    tensor = parse(ModelConfig("m", ONNX, 0, (TensorConfig("sr", "INT64", (1,), scalar=True),), ())).input[0]
    assert list(tensor.dims) == [1]
    assert tensor.HasField("reshape")
    assert list(tensor.reshape.shape) == []


def test_ensemble_steps_keep_their_order_and_maps():
    steps = (EnsembleStep("a", {"x": "in"}, {"y": "t", "z": "u"}), EnsembleStep("b", {"x": "t"}, {"y": "out"}))
    parsed = parse(ModelConfig("e", ENSEMBLE, 4, (), (), steps=steps)).ensemble_scheduling.step
    assert [step.model_name for step in parsed] == ["a", "b"]
    assert dict(parsed[0].output_map) == {"y": "t", "z": "u"}
    assert dict(parsed[1].input_map) == {"x": "t"}


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
def test_any_printable_name_survives_the_text_format(name):
    parsed = parse(ModelConfig(name, ONNX, 0, (TensorConfig(name, "FP32", (1,)),), ()))
    assert (parsed.name, parsed.input[0].name) == (name, name)


@pytest.mark.parametrize("shape", [(4,), (2, 1, 3), (65,), (3, 40), ()])
def test_input_data_gives_back_the_tensor(tmp_path, shape):
    values = np.random.default_rng(0).integers(-9, 9, shape, dtype=np.int32)
    (tmp_path / "config.pbtxt").write_text(
        to_pbtxt(ModelConfig("m", ONNX, 0, (TensorConfig("x", "INT32", shape),), ()))
    )
    write_input_data(tmp_path, [{"x": values}, {"x": values + 1}])
    first, second = read_requests(tmp_path)
    assert read_config(tmp_path).name == "m"
    np.testing.assert_array_equal(first["x"], values)
    np.testing.assert_array_equal(second["x"], values + 1)


def test_base64_holds_little_endian_bytes_whatever_the_order_in_memory(tmp_path):
    values = np.arange(100, dtype=">i4")
    (tmp_path / "config.pbtxt").write_text(
        to_pbtxt(ModelConfig("m", ONNX, 0, (TensorConfig("x", "INT32", (100,)),), ()))
    )
    write_input_data(tmp_path, [{"x": values}])
    np.testing.assert_array_equal(read_requests(tmp_path)[0]["x"], np.arange(100))


def test_small_tensors_are_readable_numbers_and_large_ones_base64(tmp_path):
    write_input_data(tmp_path, [{"small": np.arange(4, dtype=np.int32), "large": np.zeros(65, np.float32)}])
    entry = json.loads((tmp_path / "input_data.json").read_text())["data"][0]
    assert entry["small"] == {"content": [0, 1, 2, 3], "shape": [4]}
    assert list(entry["large"]["content"]) == ["b64"]

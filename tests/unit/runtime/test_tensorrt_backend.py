"""TensorRT plans, up to the edge of TensorRT's own library, which a fake stands in for."""

import sys
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from analyzer.runtime.backends.base import Execution, ModelError, ModelFiles, Placement
from analyzer.runtime.backends.tensorrt import TensorrtBackend
from analyzer.runtime.backends.tensorrt_engine import import_tensorrt
from analyzer.runtime.backends.tensorrt_instance import TensorrtInstance
from analyzer.runtime.device_tensor import DeviceTensor, as_array
from analyzer.runtime.request import InferError, InferRequest
from tests.fakes import tensorrt as fake

GPU = Placement("net_0", 0, 1, "KIND_GPU", 0)
CONFIG = """\
name: "net"
max_batch_size: 8
input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 4 ] }
"""


class Streams(list[fake.FakeStream]):
    """Those that a backend opened."""

    def open(self, device: int) -> fake.FakeStream:
        self.append(fake.FakeStream(device))
        return self[-1]


def model(folder: Path, plan: bytes, config: str = CONFIG) -> ModelFiles:
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "1" / "model.plan").write_bytes(plan)
    read = text_format.Parse(config, model_config_pb2.ModelConfig())
    return ModelFiles("net", 1, folder, folder / "1", read)


def backend(streams: Streams | None = None, library: object = None) -> TensorrtBackend:
    opened = Streams() if streams is None else streams
    return TensorrtBackend(lambda: library or fake.library(), opened.open)


def batches(*rows: int) -> list[np.ndarray]:
    return [np.random.default_rng(seed).standard_normal((count, 4), np.float32) for seed, count in enumerate(rows)]


def execute(instance: TensorrtInstance, *arrays: np.ndarray) -> list[np.ndarray]:
    execution = Execution(
        [InferRequest("net", {"x": array}, 0) for array in arrays], [array.shape[0] for array in arrays]
    )
    answers = instance.execute(execution)
    assert 0 < execution.input_end_ns < execution.infer_end_ns
    return [answer["y"] for answer in answers]


def test_batches_of_every_size_are_answered_and_earlier_answers_stay_as_they_are(tmp_path: Path):
    streams = Streams()
    instance = backend(streams).load(model(tmp_path, fake.plan()), GPU)
    sent = [batches(*rows) for rows in ((1,), (2, 3), (8,), (1, 1))]
    got = [execute(instance, *arrays) for arrays in sent]
    for arrays, answers in zip(sent, got):
        for array, answer in zip(arrays, answers):
            np.testing.assert_array_equal(answer, 2 * array)
    instance.close()
    assert (streams[0].held, streams[0].is_closed) == (0, True)


class Memory:
    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def read(self, pointer: int, byte_size: int) -> bytes:
        return self._array.tobytes()


def device_tensor(array: np.ndarray, device: int) -> np.ndarray:
    """The fake's device is this process, so an array's own address is one of the device."""
    return as_array(DeviceTensor(array.ctypes.data, array.nbytes, device, "FP32", array.shape, Memory(array)))


@pytest.mark.parametrize("device", [0, 1])
def test_inputs_on_a_device_are_taken_alone_and_beside_those_on_the_host(tmp_path: Path, device: int):
    streams = Streams()
    instance = backend(streams).load(model(tmp_path, fake.plan()), GPU)
    first, second = batches(2, 3)
    (alone,) = execute(instance, device_tensor_rows := device_tensor(first, device))
    np.testing.assert_array_equal(alone, 2 * first)
    # Nothing but the output was allocated for a tensor that lies where the engine runs.
    assert streams[0].held == (1 if device == 0 else 2)
    together = execute(instance, device_tensor_rows, second)
    np.testing.assert_array_equal(np.concatenate(together), 2 * np.concatenate([first, second]))


def test_instances_of_a_device_share_its_engine(tmp_path: Path):
    files, shared = model(tmp_path, fake.plan()), backend()
    first, second = (shared.load(files, GPU) for _ in range(2))
    other = shared.load(files, Placement("net_1", 1, 2, "KIND_GPU", 1))
    assert first._engine is second._engine
    assert first._engine is not other._engine


def test_the_profiles_of_an_instance_group_are_used_by_what_fits_first(tmp_path: Path):
    config = CONFIG.replace("8", "32") + 'instance_group { name: "net" count: 1 profile: "1" profile: "0" }'
    files = model(tmp_path, fake.plan((1, 8), (1, 2), (16, 32)), config)
    instance = backend().load(files, GPU)
    for rows in (1, 2, 5):
        (array,) = batches(rows)
        np.testing.assert_array_equal(execute(instance, array)[0], 2 * array)
    with pytest.raises(
        InferError, match=r"no optimization profile of model 'net' takes inputs of the shape 'x' \[9, 4\]"
    ):
        execute(instance, *batches(9))
    (array,) = batches(3)
    np.testing.assert_array_equal(execute(instance, array)[0], 2 * array)


def test_a_configuration_is_completed_from_the_plan(tmp_path: Path):
    files = model(tmp_path, fake.plan((1, 16)), 'name: "net"')
    backend().complete(files)
    assert (files.config.max_batch_size, files.config.HasField("dynamic_batching")) == (16, True)
    assert [(item.name, item.data_type, list(item.dims)) for item in files.config.input] == [("x", 11, [4])]
    assert [(item.name, item.data_type, list(item.dims)) for item in files.config.output] == [("y", 11, [4])]


SHAPE_TENSOR = [{"name": "n", "mode": "INPUT", "type": "INT32", "shape": [1], "is_shape": True}]
FP8 = [{"name": "x", "mode": "INPUT", "type": "FP8", "shape": [-1, 4]}]


@pytest.mark.parametrize(
    ("plan", "config", "reason"),
    [
        (b"no plan", CONFIG, "can't be loaded by TensorRT 10.9.0 on this GPU: IRuntime::deserializeCudaEngine: Error"),
        (
            fake.plan(version="8.6"),
            CONFIG,
            "engine version 8.6 is not 10.9; build it with this version and for this GPU",
        ),
        (fake.plan(is_full=True), CONFIG, "got no execution context of TensorRT; most likely the GPU is full"),
        (fake.plan((1, 4)), CONFIG, "has max_batch_size 8, the profiles of its plan take at most 4"),
        (fake.plan(), CONFIG.replace('"x"', '"z"'), "has no input 'z' in its plan; it has x"),
        (fake.plan(), CONFIG.replace("FP32", "FP16", 1), "input 'x' of model 'net' is FP32 in its plan"),
        (fake.plan(tensors=SHAPE_TENSOR, profiles=[]), CONFIG, "'n' of model 'net' is a shape tensor"),
        (fake.plan(tensors=FP8, profiles=[]), CONFIG, "is of TensorRT's type FP8, which no request can carry"),
        (
            fake.plan(),
            CONFIG + 'instance_group { name: "net" profile: "7" }',
            "an instance_group of model 'net' names profile '7', its plan has 0",
        ),
    ],
)
def test_what_can_not_be_served_is_one_sentence_and_leaves_no_stream_open(
    tmp_path: Path, plan: bytes, config: str, reason: str
):
    streams = Streams()
    files = model(tmp_path, plan, config)
    with pytest.raises(ModelError) as caught:
        backend(streams).load(files, GPU)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [stream.is_closed for stream in streams] == [True]


def test_a_plan_is_not_for_the_cpu(tmp_path: Path):
    with pytest.raises(ModelError, match="instance 'net_0' is KIND_CPU; a TensorRT plan runs on KIND_GPU only"):
        backend().load(model(tmp_path, fake.plan()), Placement("net_0", 0, 1, "KIND_CPU", 0))


def test_outputs_whose_shape_depends_on_the_data_are_refused_and_the_next_batch_is_served(tmp_path: Path):
    tensors = [
        {"name": "x", "mode": "INPUT", "type": "FLOAT", "shape": [-1, 4]},
        {"name": "y", "mode": "OUTPUT", "type": "FLOAT", "shape": [-1, 4]},
    ]
    instance = backend().load(model(tmp_path, fake.plan(tensors=tensors)), GPU)
    for _ in range(2):
        with pytest.raises(InferError, match="output 'y' of model 'net' has a shape that depends on the data"):
            execute(instance, *batches(1))


def test_a_failed_batch_does_not_spoil_the_next(tmp_path: Path):
    """Its copies are still to be done when the next batch wants the same memory."""
    instance = backend().load(model(tmp_path, fake.plan()), GPU)
    first, second = batches(2, 3)
    context = instance._contexts[0].context
    starts, context.execute_async_v3 = context.execute_async_v3, lambda stream: False
    with pytest.raises(InferError, match="TensorRT could not start this batch of model 'net'"):
        execute(instance, first)
    context.execute_async_v3 = starts
    np.testing.assert_array_equal(execute(instance, second)[0], 2 * second)


def test_without_tensorrt_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelError, match=r"pip install 'serving-analyzer\[tensorrt\]'"):
        import_tensorrt()


@pytest.mark.parametrize(
    ("name", "version", "is_taken"),
    [("tensorrt", "10.13.2", True), ("tensorrt", "8.6.1", False), ("tensorrt_rtx", "1.3.0", True)],
)
def test_tensorrt_10_or_tensorrt_for_rtx_is_taken(
    monkeypatch: pytest.MonkeyPatch, name: str, version: str, is_taken: bool
):
    for module in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, module, None)
    library = fake.library(name, version)
    monkeypatch.setitem(sys.modules, name, library)
    if is_taken:
        assert import_tensorrt() is library
    else:
        with pytest.raises(ModelError, match=r"needs TensorRT 10 or newer; 8\.6\.1 is installed"):
            import_tensorrt()

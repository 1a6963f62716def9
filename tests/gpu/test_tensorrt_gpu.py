"""A plan built here, served by the real TensorRT on a real GPU. Run by hand: pytest -m gpu tests/gpu."""

from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.backends.base import Execution, ModelError, Placement
from analyzer.runtime.backends.tensorrt_engine import import_tensorrt
from analyzer.runtime.backends.tensorrt_stream import CudaStream
from analyzer.runtime.devices import gpu_count
from analyzer.runtime.loading import prepare
from analyzer.runtime.request import InferRequest

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(gpu_count() == 0, reason="no NVIDIA GPU here")]

GPU = Placement("net_0", 0, 1, "KIND_GPU", 0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model without a configuration: y = x + x, for 1 to 8 rows of 4."""
    try:
        trt = import_tensorrt()
    except ModelError as error:
        pytest.skip(str(error))
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    x = network.add_input("x", trt.float32, (-1, 4))
    y = network.add_elementwise(x, x, trt.ElementWiseOperation.SUM).get_output(0)
    y.name = "y"
    network.mark_output(y)
    profile, config = builder.create_optimization_profile(), builder.create_builder_config()
    profile.set_shape("x", (1, 4), (4, 4), (8, 4))
    config.add_optimization_profile(profile)
    (tmp_path / "net" / "1").mkdir(parents=True)
    (tmp_path / "net" / "1" / "model.plan").write_bytes(bytes(builder.build_serialized_network(network, config)))
    return tmp_path / "net"


def test_a_plan_is_completed_and_answers(folder: Path):
    prepared = prepare(folder)
    assert prepared.backend is not None
    files = prepared.versions[0]
    assert (files.config.max_batch_size, files.config.input[0].name, files.config.output[0].name) == (8, "x", "y")
    instance = prepared.backend.load(files, GPU)
    for rows in ((1,), (2, 3), (8,)):
        sent = [np.random.default_rng(count).standard_normal((count, 4), np.float32) for count in rows]
        execution = Execution([InferRequest("net", {"x": array}, 0) for array in sent], list(rows))
        for array, answer in zip(sent, instance.execute(execution)):
            np.testing.assert_array_equal(answer["y"], 2 * array)
        assert 0 < execution.input_end_ns <= execution.infer_end_ns
    instance.close()


def test_a_plan_that_is_damaged_is_one_sentence(folder: Path):
    path = folder / "1" / "model.plan"
    path.write_bytes(b"damaged" + path.read_bytes()[7:])
    with pytest.raises(ModelError, match="can't be loaded by TensorRT") as caught:
        prepare(folder)
    assert "\n" not in str(caught.value)


def test_a_stream_carries_bytes_there_and_back():
    stream = CudaStream(0)
    host, back = stream.allocate_host(1024), stream.allocate_host(1024)
    host[:] = np.arange(1024) % 251
    first, second = stream.allocate(1024), stream.allocate(1024)
    stream.mark(0)
    stream.to_device(first, host)
    stream.within(second, first, 1024)
    stream.mark(1)
    stream.to_host(back, second)
    stream.synchronize()
    np.testing.assert_array_equal(back, host)
    assert stream.between_ns(0, 1) >= 0
    for pointer in (first, second):
        stream.free(pointer)
    stream.close()

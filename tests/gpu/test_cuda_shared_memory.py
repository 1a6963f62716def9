"""CUDA shared memory of the runtime on a real device: handles of another process, both protocols, all backends."""

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from analyzer.runtime.devices import gpu_count
from perf_client.cuda_memory import CudaDriver, CudaRegion
from tests.fakes.repositories import write_add_sub, write_onnx
from tests.fakes.running_server import RunningServer, running_server

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(gpu_count() == 0, reason="no NVIDIA GPU here")]

SIXTEEN = np.arange(16, dtype=np.float32).reshape(4, 4)
DYNAMIC = "dynamic_batching { max_queue_delay_microseconds: 2000 }"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("models")
    write_add_sub(repository, type_name="TYPE_FP32")
    write_onnx(repository, "on_gpu", extra=f"instance_group {{ kind: KIND_GPU }} {DYNAMIC}")
    write_onnx(repository, "on_cpu", extra="instance_group { kind: KIND_CPU }")
    with running_server(repository) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def api(request, server: RunningServer):
    module = {"http": triton_http, "grpc": triton_grpc}[request.param]
    client = module.InferenceServerClient(getattr(server, request.param))
    try:
        yield module, client
    finally:
        client.unregister_cuda_shared_memory()
        client.close()


@pytest.fixture
def region() -> Iterator[CudaRegion]:
    made = CudaRegion(CudaDriver(), "r", 4096)
    yield made
    made.close()


def register(client, region: CudaRegion) -> None:
    handle = base64.b64encode(region.name.handle).decode()
    client.register_cuda_shared_memory("r", handle, region.name.device, 4096)


def tensors(module, model: str):
    """Inputs and outputs in the region: an input every 256 bytes, an output every 256 bytes from 2048 on."""
    names = (["INPUT0", "INPUT1"], ["OUTPUT0", "OUTPUT1"]) if model == "add_sub" else (["x"], ["y"])
    inputs = [module.InferInput(name, [4, 4], "FP32") for name in names[0]]
    outputs = [module.InferRequestedOutput(name) for name in names[1]]
    for place, tensor in enumerate(inputs):
        tensor.set_shared_memory("r", 64, place * 256)
    for place, tensor in enumerate(outputs):
        tensor.set_shared_memory("r", 64, 2048 + place * 256)
    return inputs, outputs


def read(region: CudaRegion, place: int) -> np.ndarray:
    return np.frombuffer(region.read(2048 + place * 256, 64), np.float32).reshape(4, 4)


@pytest.mark.parametrize("model", ["add_sub", "on_gpu", "on_cpu"])
def test_tensors_are_read_and_written_in_place(api, region, model):
    module, client = api
    for place in range(2):
        region.write(place * 256, SIXTEEN.tobytes())
    register(client, region)
    inputs, outputs = tensors(module, model)
    for _ in range(3):
        client.infer(model, inputs, outputs=outputs)
    expected = 2 * SIXTEEN if model == "add_sub" else 2 * SIXTEEN + 1
    np.testing.assert_array_equal(read(region, 0), expected)


def test_requests_of_a_batch_get_their_own_rows(server, region):
    """Several at once over one region: the dynamic batcher joins them on the device."""
    with triton_grpc.InferenceServerClient(server.grpc) as client:
        register(client, region)
        region.write(0, SIXTEEN.tobytes())
        answers: list[object] = []
        for row in range(4):
            tensor = triton_grpc.InferInput("x", [1, 4], "FP32")
            tensor.set_shared_memory("r", 16, row * 16)
            output = triton_grpc.InferRequestedOutput("y")
            output.set_shared_memory("r", 16, 2048 + row * 16)
            client.async_infer("on_gpu", [tensor], lambda result, error: answers.append(error), outputs=[output])
        while len(answers) < 4:
            client.is_server_live()
        assert answers == [None] * 4
        np.testing.assert_array_equal(read(region, 0), 2 * SIXTEEN + 1)
        client.unregister_cuda_shared_memory()


def test_status_tells_what_is_registered_and_a_region_too_large_is_refused(api, region):
    module, client = api
    register(client, region)
    status = client.get_cuda_shared_memory_status()
    entry = status[0] if module is triton_http else status.regions["r"]
    size = entry["byte_size"] if module is triton_http else entry.byte_size
    assert size == 4096
    client.unregister_cuda_shared_memory("r")
    handle = base64.b64encode(region.name.handle).decode()
    with pytest.raises(InferenceServerException, match="its memory has"):
        client.register_cuda_shared_memory("large", handle, 0, 1 << 40)
    with pytest.raises(InferenceServerException, match="failed to register CUDA shared memory region 'bad'"):
        client.register_cuda_shared_memory("bad", base64.b64encode(bytes(64)).decode(), 0, 8)
    with pytest.raises(InferenceServerException, match="no CUDA device"):
        client.register_cuda_shared_memory("far", handle, 99, 8)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("model", ["add_sub", "on_gpu"])
def test_the_load_generator_drives_it(server, tmp_path: Path, protocol, model):
    command = [sys.executable, "-m", "perf_client", "-m", model, "-i", protocol, "-u", getattr(server, protocol)]
    memory = ["--shared-memory", "cuda", "--output-shared-memory-size", "64"]
    load = ["--concurrency-range", "4", "--request-count", "400"]
    root = Path(__file__).parents[2]
    done = subprocess.run([*command, *memory, *load], capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr

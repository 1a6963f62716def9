"""ONNX Runtime on CUDA: IO binding, tensors that stay on the device, fixed batch sizes. By hand: pytest tests/gpu."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.device_tensor import DeviceTensor, on_host
from analyzer.runtime.devices import gpu_count
from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import InferRequest, InferResponse
from analyzer.zoo import conv_chain
from analyzer.zoo.catalogue import add
from tests.fakes.repositories import parameter_block

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

HAS_CUDA = gpu_count() > 0 and "CUDAExecutionProvider" in ort.get_available_providers()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_CUDA, reason="no NVIDIA GPU, or an ONNX Runtime without CUDA"),
]

GPU = "instance_group { kind: KIND_GPU count: 1 }\n"
FP32_ON_TENSOR_CORES = {"rtol": 1e-2, "atol": 1e-2}
KEEP = frozenset({"OUTPUT"})

Act = Callable[["Served"], Coroutine[None, None, None]]


class Served:
    def __init__(self, store: ModelStore) -> None:
        self._store = store

    async def infer(self, model: str, tensor: object, keep: frozenset[str] = frozenset()) -> InferResponse:
        answer = asyncio.get_running_loop().create_future()
        far = isinstance(tensor, DeviceTensor)
        request = InferRequest(model, {"INPUT": tensor}, time.monotonic_ns(), on_device=far, keep_on_device=keep)
        self._store.submit(request, answer.set_result)
        response = await answer
        assert isinstance(response, InferResponse), response
        return response

    def executions(self, model: str) -> int:
        return self._store.statistics(model)[0].execution_count


def serve(repository: Path, act: Act) -> None:
    async def run() -> None:
        store = ModelStore(repository, loop=asyncio.get_running_loop())
        await store.open()
        try:
            await act(Served(store))
        finally:
            await store.close(10.0)

    asyncio.run(run())


def chain(repository: Path, extra: str = "") -> Path:
    for folder in add("conv_chain", repository):
        if folder.name != "conv_chain":
            with (folder / "config.pbtxt").open("a") as config:
                config.write(GPU + extra)
    return repository


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *conv_chain.STAGES[0].input_shape), np.float32)


def bare(repository: Path, model: str, inputs: np.ndarray) -> np.ndarray:
    path = repository / model / "1" / "model.onnx"
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"INPUT": inputs})[0]


def bare_chain(repository: Path, inputs: np.ndarray) -> np.ndarray:
    for stage in conv_chain.STAGES:
        inputs = bare(repository, stage.name, inputs)
    return inputs


def test_the_chain_answers_as_on_the_cpu(tmp_path: Path):
    async def act(served: Served) -> None:
        for count in (1, 3, 16):
            sent = images(count, count)
            answer = await served.infer("conv_chain", sent)
            assert isinstance(answer.outputs["OUTPUT"], np.ndarray)
            np.testing.assert_allclose(answer.outputs["OUTPUT"], bare_chain(tmp_path, sent), **FP32_ON_TENSOR_CORES)

    serve(chain(tmp_path), act)


def test_an_output_stays_on_the_device_and_is_the_next_models_input(tmp_path: Path):
    async def act(served: Served) -> None:
        sent = images(4)
        first = (await served.infer("conv_1", sent, KEEP)).outputs["OUTPUT"]
        assert isinstance(first, DeviceTensor)
        np.testing.assert_allclose(first.to_host(), bare(tmp_path, "conv_1", sent), **FP32_ON_TENSOR_CORES)
        second = (await served.infer("conv_2", first, KEEP)).outputs["OUTPUT"]
        last = (await served.infer("conv_3", second)).outputs["OUTPUT"]
        np.testing.assert_allclose(last, bare_chain(tmp_path, sent), **FP32_ON_TENSOR_CORES)

    serve(chain(tmp_path), act)


def test_a_batch_takes_rows_from_the_host_and_from_the_device(tmp_path: Path):
    async def act(served: Served) -> None:
        sent = [images(rows, rows) for rows in (1, 2, 3)]
        first = (await served.infer("conv_1", sent[0], KEEP)).outputs["OUTPUT"]
        middle = [bare(tmp_path, "conv_1", array) for array in sent[1:]]
        answers = await asyncio.gather(*(served.infer("conv_2", tensor) for tensor in (first, *middle)))
        for array, answer in zip(sent, answers, strict=True):
            wanted = bare(tmp_path, "conv_2", bare(tmp_path, "conv_1", array))
            np.testing.assert_allclose(answer.outputs["OUTPUT"], wanted, **FP32_ON_TENSOR_CORES)
        assert served.executions("conv_2") < 3

    serve(
        chain(tmp_path, "dynamic_batching { max_queue_delay_microseconds: 100000 preferred_batch_size: [ 6 ] }\n"), act
    )


def test_fixed_batch_sizes_pad_on_the_device_and_answer_the_real_rows(tmp_path: Path):
    async def act(served: Served) -> None:
        for count in (1, 2, 3, 7, 16):
            sent = images(count, count)
            for keep in (frozenset(), KEEP):
                outputs = on_host((await served.infer("conv_1", sent, keep)).outputs)
                assert outputs["OUTPUT"].shape[0] == count
                np.testing.assert_allclose(outputs["OUTPUT"], bare(tmp_path, "conv_1", sent), **FP32_ON_TENSOR_CORES)

    serve(chain(tmp_path, parameter_block({"batch_sizes": "1,4,16"}) + "\n"), act)

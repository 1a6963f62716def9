"""PyTorch models on a real GPU, against the bare module. Run by hand: pytest -m gpu tests/gpu."""

import gc
import threading
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.devices import gpu_count

torch = pytest.importorskip("torch")

from analyzer.runtime.backends.base import Execution, Instance, ModelError, Placement  # noqa: E402 (torch may be absent)
from analyzer.runtime.device_tensor import DeviceTensor, as_array, on_device  # noqa: E402 (likewise)
from analyzer.runtime.loading import prepare  # noqa: E402 (likewise)
from analyzer.runtime.request import InferRequest, Tensors  # noqa: E402 (likewise)
from tests.fakes.torch_models import AFFINE_TENSORS, Affine, exported, write_torch  # noqa: E402 (likewise)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(gpu_count() == 0 or not torch.cuda.is_available(), reason="no NVIDIA GPU or no CUDA here"),
    pytest.mark.filterwarnings("ignore:The given buffer is not writable"),  # torch.export.load of 2.11 warns of its own
]


def load(folder: Path) -> Instance:
    prepared = prepare(folder)
    assert prepared.backend is not None
    return prepared.backend.load(prepared.versions[0], Placement("net_0", 0, 1, "KIND_GPU", 0))


def execute(instance: Instance, *inputs: Tensors, kept: tuple[str, ...] = ()) -> tuple[list[Tensors], Execution]:
    requests = [InferRequest("net", tensors, 0, keep_on_device=frozenset(kept)) for tensors in inputs]
    execution = Execution(requests, [next(iter(tensors.values())).shape[0] for tensors in inputs])
    return instance.execute(execution), execution


def batches(*rows: int) -> list[np.ndarray]:
    return [np.random.default_rng(seed).standard_normal((count, 4), np.float32) for seed, count in enumerate(rows)]


BARE = Affine().eval()


def expected(array: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return BARE(torch.from_numpy(array))[0].numpy()


@pytest.mark.parametrize("sizes", ["", "4", "1,2,8"])
def test_batches_answer_as_the_bare_module_does_with_and_without_captured_graphs(tmp_path: Path, sizes: str):
    parameters = {"cuda_graph_batch_sizes": sizes, "allow_tf32": "false"} if sizes else {"allow_tf32": "false"}
    folder = write_torch(tmp_path, Affine(), **AFFINE_TENSORS, max_batch_size=16, parameters=parameters)
    instance = load(folder)
    kept_answers = []
    for rows in ((1,), (3, 1), (2,), (1, 5, 2), (9, 3), (1,)):
        sent = batches(*rows)
        got, execution = execute(instance, *({"INPUT__0": array} for array in sent))
        assert 0 < execution.input_end_ns <= execution.infer_end_ns
        kept_answers += [(array, answer["OUTPUT__0"]) for array, answer in zip(sent, got)]
    # All are compared at the end: a later batch must not have written over an earlier answer.
    for array, answer in kept_answers:
        np.testing.assert_allclose(answer, expected(array), rtol=1e-4, atol=1e-5)


def test_an_exported_program_runs_on_the_gpu(tmp_path: Path):
    (tmp_path / "net" / "1").mkdir(parents=True)
    exported(Affine(), tmp_path / "net" / "1" / "model.pt2", torch.ones(3, 4))
    (tmp_path / "net" / "config.pbtxt").write_text("instance_group { kind: KIND_GPU }")
    instance = load(tmp_path / "net")
    (array,) = batches(2)
    ((got,), _) = execute(instance, {"x": array})
    np.testing.assert_allclose(got["OUTPUT__0"], expected(array), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("parameters", [{"precision": "fp16"}, {"autocast": "fp16"}, {"autocast": "bf16"}])
def test_half_precision_agrees_to_its_tolerance_captured_and_not(tmp_path: Path, parameters: dict[str, str]):
    (array,) = batches(2)
    for number, sizes in enumerate(({}, {"cuda_graph_batch_sizes": "2"})):
        given = {**parameters, **sizes, "channels_last": "true"}
        folder = write_torch(
            tmp_path / str(number), Affine(), **AFFINE_TENSORS, max_batch_size=4, parameters=given, name="net"
        )
        instance = load(folder)
        ((got,), _) = execute(instance, {"INPUT__0": array})
        assert got["OUTPUT__0"].dtype == np.float32
        np.testing.assert_allclose(got["OUTPUT__0"], expected(array), atol=0.05)


class _Held:
    """The memory of a client: a tensor of PyTorch that the runtime knows by its address only."""

    def __init__(self, tensor: "torch.Tensor") -> None:
        self.tensor = tensor

    def read(self, pointer: int, byte_size: int) -> bytes:
        return self.tensor.cpu().numpy().tobytes()


def device_tensor(array: np.ndarray) -> np.ndarray:
    tensor = torch.from_numpy(array).cuda()
    torch.cuda.synchronize()
    return as_array(DeviceTensor(tensor.data_ptr(), array.nbytes, 0, "FP32", array.shape, _Held(tensor)))


def test_tensors_on_the_device_go_in_and_come_out_beside_those_on_the_host(tmp_path: Path):
    folder = write_torch(tmp_path, Affine(), **AFFINE_TENSORS, max_batch_size=16, parameters={"allow_tf32": "false"})
    instance = load(folder)
    assert instance.takes_device_tensors
    first, second = batches(2, 3)
    inputs = {"INPUT__0": device_tensor(first)}, {"INPUT__0": second}
    got, _ = execute(instance, *inputs, kept=("OUTPUT__0",))
    for array, answer in zip((first, second), got):
        held = on_device(answer["OUTPUT__0"])
        assert held is not None
        np.testing.assert_allclose(held.to_host(), expected(array), rtol=1e-4, atol=1e-5)
        assert isinstance(answer["OUTPUT__1"], np.ndarray)


def test_two_instances_capture_and_run_at_the_same_time(tmp_path: Path):
    parameters = {"cuda_graph_batch_sizes": "1,4", "allow_tf32": "false", "ENABLE_WEIGHT_SHARING": "true"}
    folder = write_torch(tmp_path, Affine(), **AFFINE_TENSORS, max_batch_size=4, parameters=parameters)
    prepared = prepare(folder)
    assert prepared.backend is not None
    files = prepared.versions[0]
    wrong: list[object] = []

    def serve(index: int) -> None:
        try:
            instance = prepared.backend.load(files, Placement(f"net_{index}", index, 2, "KIND_GPU", 0))
            for seed in range(200):
                array = np.random.default_rng(seed).standard_normal((1 + seed % 4, 4), np.float32)
                ((got,), _) = execute(instance, {"INPUT__0": array})
                np.testing.assert_allclose(got["OUTPUT__0"], expected(array), rtol=1e-4, atol=1e-5)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=serve, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_dims_that_vary_can_not_be_captured(tmp_path: Path):
    tensors = {"inputs": [("x", "TYPE_FP32", (-1,))], "outputs": [("y", "TYPE_FP32", (-1,))]}
    folder = write_torch(tmp_path, Affine(), **tensors, max_batch_size=4, parameters={"cuda_graph_batch_sizes": "1"})
    with pytest.raises(ModelError, match="needs fixed dims; input 'x' has -1"):
        load(folder)


def test_a_closed_instance_leaves_no_memory_behind(tmp_path: Path):
    big = torch.nn.Sequential(torch.nn.Linear(4096, 4096), torch.nn.Linear(4096, 3))
    tensors = {"inputs": [("x", "TYPE_FP32", (4096,))], "outputs": [("y", "TYPE_FP32", (3,))]}
    parameters = {"cuda_graph_batch_sizes": "1,8"}
    folder = write_torch(tmp_path, big, **tensors, max_batch_size=8, parameters=parameters)
    del big
    gc.collect()
    torch.cuda.empty_cache()
    left = []
    for _ in range(3):
        instance = load(folder)
        execute(instance, {"x": np.ones((3, 4096), np.float32)})
        instance.close()
        del instance
        gc.collect()
        left.append(torch.cuda.memory_allocated())
    # cuBLAS keeps up to 32 MiB for each stream it was used on, which the next instance gets; weights must be gone.
    assert left[-1] - left[0] < 8 * 2**20

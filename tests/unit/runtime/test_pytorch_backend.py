"""PyTorch models on the CPU, against the bare module."""

import asyncio
import gc
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from analyzer.runtime.backends.base import Execution, ModelError, ModelFiles, Placement  # noqa: E402 (torch may be absent)
from analyzer.runtime.backends.pytorch import PytorchBackend, TorchInstance  # noqa: E402 (likewise)
from analyzer.runtime.loading import prepare  # noqa: E402 (likewise)
from analyzer.runtime.request import InferError, InferRequest, Tensors  # noqa: E402 (likewise)
from tests.fakes.opened_store import answers, infer, opened_store  # noqa: E402 (likewise)
from tests.fakes.repositories import parameter_block, write_model  # noqa: E402 (likewise)
from tests.fakes.torch_models import AFFINE_TENSORS, Affine, exported, torchscript, write_torch  # noqa: E402 (likewise)


def placement(kind: str = "KIND_CPU") -> Placement:
    return Placement("net_0", 0, 1, kind, 0)


def load(folder: Path, kind: str = "KIND_CPU") -> tuple[TorchInstance, ModelFiles]:
    prepared = prepare(folder)
    assert prepared.backend is not None
    files = prepared.versions[0]
    return prepared.backend.load(files, placement(kind)), files


def execute(instance: TorchInstance, *inputs: Tensors) -> list[Tensors]:
    requests = [InferRequest("net", tensors, 0) for tensors in inputs]
    rows = [len(next(iter(tensors.values()))) for tensors in inputs]
    return instance.execute(Execution(requests, rows))


def bare(module: "torch.nn.Module", *arrays: np.ndarray) -> list[np.ndarray]:
    with torch.no_grad():
        found = module.eval()(*(torch.from_numpy(array) for array in arrays))
    return [tensor.numpy() for tensor in (found if isinstance(found, tuple) else (found,))]


def batches(*rows: int) -> list[np.ndarray]:
    return [np.random.default_rng(seed).standard_normal((count, 4), np.float32) for seed, count in enumerate(rows)]


def write_exported(repository: Path, config: str = "", **how: object) -> Path:
    folder = repository / "net"
    (folder / "1").mkdir(parents=True)
    exported(Affine(), folder / "1" / "model.pt2", torch.ones(3, 4), **how)
    if config:
        (folder / "config.pbtxt").write_text(config)
    return folder


def test_torchscript_answers_as_the_bare_module_does_in_batches_and_on_two_instances(tmp_path: Path):
    extra = "dynamic_batching { }\ninstance_group { count: 2 }"
    write_torch(tmp_path, Affine(), **AFFINE_TENSORS, max_batch_size=8, extra=extra)
    sent = batches(1, 3, 8, 2, 5)
    for array, got in zip(sent, answers(tmp_path, "net", [{"INPUT__0": array} for array in sent])):
        for name, expected in zip(("OUTPUT__0", "OUTPUT__1"), bare(Affine(), array)):
            np.testing.assert_allclose(got.outputs[name], expected, rtol=1e-5, atol=1e-6)


def test_an_exported_program_is_completed_from_its_file_and_answers_as_the_bare_module_does(tmp_path: Path):
    folder = write_exported(tmp_path)
    config = prepare(folder).config
    assert (config.backend, config.max_batch_size, config.HasField("dynamic_batching")) == ("pytorch", 4, True)
    assert [(item.name, item.data_type, list(item.dims)) for item in config.input] == [("x", 11, [4])]
    assert [(item.name, list(item.dims)) for item in config.output] == [("OUTPUT__0", [3]), ("OUTPUT__1", [4])]
    sent = batches(1, 3, 4, 2)
    for array, got in zip(sent, answers(tmp_path, "net", [{"x": array} for array in sent])):
        for name, expected in zip(("OUTPUT__0", "OUTPUT__1"), bare(Affine(), array)):
            np.testing.assert_allclose(got.outputs[name], expected, rtol=1e-5, atol=1e-6)


def test_the_rows_that_a_program_was_exported_for_bound_its_batches(tmp_path: Path):
    folder = write_exported(tmp_path, most=3)
    assert prepare(folder).config.max_batch_size == 3


def test_a_program_exported_without_variable_rows_does_not_batch(tmp_path: Path):
    folder = write_exported(tmp_path, fixed=True)
    config = prepare(folder).config
    assert (config.max_batch_size, list(config.input[0].dims)) == (0, [3, 4])


class Weighted(torch.nn.Module):
    """Takes a number besides its tensor, as silero-vad's TorchScript does."""

    def forward(self, x: torch.Tensor, sr: int, double: bool = False) -> torch.Tensor:
        return x * sr * (2 if double else 1)


def test_arguments_that_are_numbers_get_the_one_element_of_their_input(tmp_path: Path):
    inputs = [("x", "TYPE_FP32", (-1,)), ("sr", "TYPE_INT64", (1,))]
    write_torch(tmp_path, Weighted(), inputs=inputs, outputs=[("y", "TYPE_FP32", (-1,))])
    ones = np.ones(3, np.float32)
    (got,) = answers(tmp_path, "net", [{"x": ones, "sr": np.array([16], np.int64)}])
    assert got.outputs["y"].tolist() == [16, 16, 16]


def test_a_number_for_each_row_of_a_batch_is_refused(tmp_path: Path):
    inputs = [("x", "TYPE_FP32", (4,)), ("sr", "TYPE_INT64", (1,))]
    folder = write_torch(tmp_path, Weighted(), inputs=inputs, outputs=[("y", "TYPE_FP32", (4,))], max_batch_size=2)
    with pytest.raises(ModelError, match="a batch can't have several; set max_batch_size to 0"):
        load(folder)


class Named(torch.nn.Module):
    def forward(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"sum": batch["a"] + batch["b"], "difference": batch["a"] - batch["b"]}


def test_dictionaries_go_in_and_come_out_by_name(tmp_path: Path):
    inputs = [("a", "TYPE_INT32", (2,)), ("b", "TYPE_INT32", (2,))]
    outputs = [("difference", "TYPE_INT32", (2,)), ("sum", "TYPE_INT32", (2,))]
    write_torch(tmp_path, Named(), inputs=inputs, outputs=outputs, max_batch_size=4)
    a, b = np.array([[5, 7]], np.int32), np.array([[1, 2]], np.int32)
    (got,) = answers(tmp_path, "net", [{"a": a, "b": b}])
    assert {name: array.tolist() for name, array in got.outputs.items()} == {"difference": [[4, 5]], "sum": [[6, 9]]}


class InPlace(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.add_(1)


def test_a_model_that_writes_to_its_input_writes_to_a_copy(tmp_path: Path):
    folder = write_torch(tmp_path, InPlace(), inputs=[("x", "TYPE_FP32", (4,))], outputs=[("y", "TYPE_FP32", (4,))])
    instance, _ = load(folder)
    sent = np.zeros(4, np.float32)
    sent.flags.writeable = False
    (got,) = execute(instance, {"x": sent})
    assert (got["y"].tolist(), sent.tolist()) == ([1] * 4, [0] * 4)


class Counting(torch.nn.Module):
    """Gives its own buffer away."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count += x
        return self.count


def test_an_answer_does_not_change_when_the_model_goes_on(tmp_path: Path):
    folder = write_torch(tmp_path, Counting(), inputs=[("x", "TYPE_FP32", (1,))], outputs=[("y", "TYPE_FP32", (1,))])
    instance, _ = load(folder)
    (first,), (second,) = (execute(instance, {"x": np.ones(1, np.float32)}) for _ in range(2))
    assert (first["y"].tolist(), second["y"].tolist()) == ([1], [2])


@pytest.mark.parametrize("datatype", ["BOOL", "UINT8", "UINT16", "INT8", "INT32", "INT64", "FP16", "BF16", "FP64"])
def test_every_type_but_text_comes_back_as_it_went_in(tmp_path: Path, datatype: str):
    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

    tensor = [("x", f"TYPE_{datatype}", (3,))]
    folder = write_torch(tmp_path, Same(), inputs=tensor, outputs=[("y", f"TYPE_{datatype}", (3,))], max_batch_size=4)
    instance, files = load(folder)
    dtype = "uint16" if datatype == "BF16" else files.config and np.dtype(datatype.lower().replace("fp", "float"))
    sent = np.array([[0, 1, 2], [1, 0, 3]]).astype(dtype)
    got = execute(instance, {"x": sent[:1]}, {"x": sent[1:]})
    np.testing.assert_array_equal(np.concatenate([answer["y"] for answer in got]), sent)
    assert got[0]["y"].dtype == sent.dtype


def test_half_precision_is_computed_inside_and_not_seen_outside(tmp_path: Path):
    parameters = {"precision": "bf16", "channels_last": "true"}
    folder = write_torch(tmp_path, Affine(), **AFFINE_TENSORS, max_batch_size=8, parameters=parameters)
    instance, _ = load(folder)
    (array,) = batches(2)
    (got,) = execute(instance, {"INPUT__0": array})
    expected = bare(Affine(), array)[0]
    np.testing.assert_allclose(got["OUTPUT__0"], expected, atol=0.05)
    assert np.abs(got["OUTPUT__0"] - expected).max() > 0


def test_autocast_is_honoured(tmp_path: Path):
    parameters = {"autocast": "bf16", "INFERENCE_MODE": "false", "DISABLE_OPTIMIZED_EXECUTION": "true"}
    folder = write_torch(tmp_path, Affine(), **AFFINE_TENSORS, max_batch_size=8, parameters=parameters)
    instance, _ = load(folder)
    (array,) = batches(2)
    (got,) = execute(instance, {"INPUT__0": array})
    expected = bare(Affine(), array)[0]
    np.testing.assert_allclose(got["OUTPUT__0"], expected, atol=0.05)
    assert np.abs(got["OUTPUT__0"] - expected).max() > 0


def test_a_class_with_its_weights_is_served(tmp_path: Path):
    code = """\
import torch


class Inner(torch.nn.Module):
    def forward(self, x):
        return x


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()
        self.dense = torch.nn.Linear(4, 3)

    def forward(self, x, scale: float = 1.0):
        return self.dense(self.inner(x)), x.relu()
"""
    folder = write_model(
        tmp_path, "net", backend="pytorch", **AFFINE_TENSORS, max_batch_size=8, files={"model.py": code}
    )
    torch.save(Affine().state_dict(), folder / "1" / "model.pt")
    instance, _ = load(folder)
    (array,) = batches(2)
    (got,) = execute(instance, {"INPUT__0": array})
    np.testing.assert_allclose(got["OUTPUT__0"], bare(Affine(), array)[0], rtol=1e-5, atol=1e-6)


class Accumulate(torch.nn.Module):
    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + state, x + state


def test_state_is_kept_from_request_to_request_of_a_sequence(tmp_path: Path):
    state = """\
sequence_batching {
  state {
    input_name: "state" output_name: "new_state" data_type: TYPE_FP32 dims: [ 1 ]
    initial_state { name: "zero" data_type: TYPE_FP32 dims: [ 1 ] zero_data: true }
  }
}
"""
    tensors = {"inputs": [("x", "TYPE_FP32", (1,))], "outputs": [("y", "TYPE_FP32", (1,))]}
    write_torch(tmp_path, Accumulate(), **tensors, max_batch_size=1, extra=state)

    async def run() -> list[float]:
        found = []
        async with opened_store(tmp_path, ["net"]) as store:
            for number in range(3):
                parameters = {"sequence_id": 5, "sequence_start": number == 0, "sequence_end": number == 2}
                inputs = {"x": np.full((1, 1), number + 1, np.float32)}
                found.append((await infer(store, "net", inputs, parameters=parameters)).outputs["y"].item())
        return found

    assert asyncio.run(run()) == [1, 3, 6]


def test_instances_run_at_the_same_time(tmp_path: Path):
    """Each of two instances waits inside its model until the other has entered it, too."""
    meeting = """\
import threading

import torch

BARRIER = threading.Barrier(2)


class Meeting(torch.nn.Module):
    def forward(self, x):
        BARRIER.wait(30)
        return x
"""
    tensors = {"inputs": [("x", "TYPE_FP32", (1,))], "outputs": [("y", "TYPE_FP32", (1,))]}
    group = "instance_group { count: 2 }\n" + parameter_block({"ENABLE_WEIGHT_SHARING": "true"})
    write_model(tmp_path, "net", backend="pytorch", **tensors, extra=group, files={"model.py": meeting})
    got = answers(tmp_path, "net", [{"x": np.full(1, number, np.float32)} for number in range(2)])
    assert [answer.outputs["y"].item() for answer in got] == [0, 1]


def test_instances_share_weights_where_that_is_asked_for(tmp_path: Path):
    for name, shares in (("shared", True), ("own", False)):
        parameters = {"ENABLE_WEIGHT_SHARING": str(shares).lower()}
        folder = write_torch(tmp_path, Affine(), **AFFINE_TENSORS, parameters=parameters, name=name)
        prepared = prepare(folder)
        assert isinstance(prepared.backend, PytorchBackend)
        files = prepared.versions[0]
        instances = [prepared.backend.load(files, placement()) for _ in range(2)]
        programs = {id(instance._parts[0]) for instance in instances}
        assert len(programs) == (1 if shares else 2)


def test_closing_an_instance_frees_its_module(tmp_path: Path):
    folder = write_torch(tmp_path, Affine(), **AFFINE_TENSORS, parameters={"ENABLE_WEIGHT_SHARING": "true"})
    instance, _ = load(folder)
    program = weakref.ref(instance._parts[0])
    execute(instance, {"INPUT__0": batches(4)[0][0]})
    instance.close()
    gc.collect()
    assert program() is None


def test_each_instance_has_its_threads(tmp_path: Path):
    folder = write_torch(tmp_path, Affine(), **AFFINE_TENSORS, parameters={"INTRA_OP_THREAD_COUNT": "1"}, name="one")
    write_torch(tmp_path, Affine(), **AFFINE_TENSORS, parameters={"INTRA_OP_THREAD_COUNT": "2"}, name="two")
    both_loaded = threading.Barrier(2)
    found = {}

    def serve(name: str) -> None:
        load(folder.parent / name)
        both_loaded.wait(30)
        found[name] = torch.get_num_threads()

    threads = [threading.Thread(target=serve, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"one": 1, "two": 2}


AGREEING = """\
input { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 3 ] }
"""


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (AGREEING + "\nmax_batch_size: 64", "has max_batch_size 64, but was exported for at most 16 rows"),
        (
            AGREEING.replace("FP32", "INT32", 1) + "\nmax_batch_size: 2",
            "input 'x' of model 'net' is FP32 in its exported program, its config.pbtxt says INT32",
        ),
        (
            AGREEING.replace("[ 3 ]", "[ 5 ]") + "\nmax_batch_size: 2",
            "output 'OUTPUT__0' of model 'net' has the dims [3] in its exported program, its config.pbtxt says [5]",
        ),
        (
            AGREEING + "\nmax_batch_size: 2\n" + parameter_block({"cuda_graph_batch_sizes": "1"}),
            "sets cuda_graph_batch_sizes, which only instances on a GPU can have",
        ),
        (AGREEING.replace("TYPE_FP32", "TYPE_STRING", 1), "is TYPE_STRING, for which PyTorch has no tensor"),
    ],
)
def test_what_contradicts_the_file_is_refused_at_load(tmp_path: Path, config: str, reason: str):
    folder = write_exported(tmp_path, config, most=16)
    with pytest.raises(ModelError, match="net") as caught:
        load(folder)
    assert reason in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this PyTorch has CUDA")
def test_a_gpu_that_pytorch_can_not_use_is_refused(tmp_path: Path):
    folder = write_torch(tmp_path, Affine(), **AFFINE_TENSORS)
    with pytest.raises(ModelError, match="instance 'net_0' is KIND_GPU, but this PyTorch finds no CUDA device"):
        load(folder, "KIND_GPU")


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("model.pt", "model 'net' can't be opened by PyTorch: "),
        ("model.pt2", "is no exported program; write it with torch.export.save"),
        ("model.py", "has no class of torch.nn.Module in its Python file"),
    ],
)
def test_a_file_that_is_no_model_is_one_sentence(tmp_path: Path, file: str, reason: str):
    folder = write_model(tmp_path, "net", backend="pytorch", **AFFINE_TENSORS, files={file: "no_model = 1"})
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_torchscript_without_a_configuration_says_what_is_missing(tmp_path: Path):
    (tmp_path / "net" / "1").mkdir(parents=True)
    torchscript(Affine(), tmp_path / "net" / "1" / "model.pt")
    with pytest.raises(ModelError, match=r"needs its input and output in a config.pbtxt: .* forward takes x, but"):
        prepare(tmp_path / "net")


class Raising(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ones(2, 3) @ x


def test_what_a_model_raises_is_told_without_its_stack(tmp_path: Path):
    tensors = {"inputs": [("x", "TYPE_FP32", (4,))], "outputs": [("y", "TYPE_FP32", (-1,))]}
    write_torch(tmp_path, Raising(), **tensors)
    (got,) = answers(tmp_path, "net", [{"x": np.ones(4, np.float32)}])
    assert isinstance(got, InferError)
    assert "size mismatch" in got.message
    assert "\n" not in got.message


def test_torch_compile_is_refused_for_torchscript(tmp_path: Path):
    folder = write_torch(tmp_path, Affine(), **AFFINE_TENSORS, parameters={"torch_compile": "default"})
    with pytest.raises(ModelError, match="sets torch_compile, which TorchScript can't be"):
        load(folder)


def test_without_pytorch_the_extra_is_named():
    code = """\
import sys
sys.modules["torch"] = None
from analyzer.runtime.backends.base import ModelError, make_backend
try:
    make_backend("pytorch")
except ModelError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "the pytorch backend is not installed; pip install 'serving-analyzer[torch]'"

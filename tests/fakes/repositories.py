"""Model repositories written into a folder for tests: each function writes one model and returns its folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

ADD_SUB = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            left = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            right = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
            outputs = [pb_utils.Tensor("OUTPUT0", left + right), pb_utils.Tensor("OUTPUT1", left - right)]
            responses.append(pb_utils.InferenceResponse(output_tensors=outputs))
        return responses
"""

IDENTITY = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                output_tensors=[pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())]
            )
            for request in requests
        ]
"""

REFUSES_A_SECOND_INSTANCE = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        if not args["model_instance_name"].endswith("_0"):
            raise RuntimeError("no memory for another instance")

    def execute(self, requests):
        inputs = [pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)]) for array in inputs]
"""

MEETING = """\
import threading
import triton_python_backend_utils as pb_utils
import tests.fakes.meeting as meeting


class TritonPythonModel:
    def execute(self, requests):
        meeting.BARRIER.wait(timeout=30)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
"""
"""Waits inside of its execution until another instance has entered its own."""

IN_THREADS = 'parameters { key: "execution" value { string_value: "thread" } }'

Tensor = tuple[str, str, Sequence[int]]
"""Name, type as in ``TYPE_INT32`` and dims."""


def tensor_block(field: str, tensors: Sequence[Tensor]) -> str:
    items = (
        f'{field} {{ name: "{name}" data_type: {type_name} dims: [ {", ".join(map(str, dims))} ] }}'
        for name, type_name, dims in tensors
    )
    return "\n".join(items)


def parameter_block(parameters: Mapping[str, object]) -> str:
    items = (f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}' for key, value in parameters.items())
    return "\n".join(items)


def write_model(
    repository: Path,
    name: str,
    *,
    backend: str,
    inputs: Sequence[Tensor] = (),
    outputs: Sequence[Tensor] = (),
    max_batch_size: int = 0,
    extra: str = "",
    files: Mapping[str, str | bytes] | None = None,
    version: int = 1,
) -> Path:
    """Writes ``config.pbtxt`` (``extra`` is protobuf text) and one version folder with ``files``."""
    folder = repository / name
    (folder / str(version)).mkdir(parents=True, exist_ok=True)
    parts = (
        f'name: "{name}"',
        f'backend: "{backend}"' if backend else "",
        f"max_batch_size: {max_batch_size}",
        tensor_block("input", inputs),
        tensor_block("output", outputs),
        extra,
    )
    (folder / "config.pbtxt").write_text("\n".join(part for part in parts if part) + "\n")
    for file, content in (files or {}).items():
        data = content.encode() if isinstance(content, str) else content
        (folder / str(version) / file).write_bytes(data)
    return folder


def write_add_sub(
    repository: Path,
    name: str = "add_sub",
    *,
    type_name: str = "TYPE_INT32",
    dims: Sequence[int] = (4,),
    max_batch_size: int = 8,
    extra: str = "",
) -> Path:
    """A ``python`` model: OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1."""
    return write_model(
        repository,
        name,
        backend="python",
        inputs=[("INPUT0", type_name, dims), ("INPUT1", type_name, dims)],
        outputs=[("OUTPUT0", type_name, dims), ("OUTPUT1", type_name, dims)],
        max_batch_size=max_batch_size,
        extra=extra,
        files={"model.py": ADD_SUB},
    )


def write_python(
    repository: Path,
    name: str,
    code: str = IDENTITY,
    *,
    type_name: str = "TYPE_FP32",
    dims: Sequence[int] = (-1,),
    max_batch_size: int = 0,
    extra: str = "",
) -> Path:
    """A ``python`` model of INPUT0 and OUTPUT0; the code is an identity unless given."""
    return write_model(
        repository,
        name,
        backend="python",
        inputs=[("INPUT0", type_name, dims)],
        outputs=[("OUTPUT0", type_name, dims)],
        max_batch_size=max_batch_size,
        extra=extra,
        files={"model.py": code},
    )


def write_simulated(
    repository: Path,
    name: str = "simulated",
    *,
    type_name: str = "TYPE_FP32",
    dims: Sequence[int] = (4,),
    max_batch_size: int = 8,
    parameters: Mapping[str, object] | None = None,
    extra: str = "",
) -> Path:
    """Echoes INPUT0 as OUTPUT0 after its declared service time; with none given it is an identity on the loop."""
    return write_model(
        repository,
        name,
        backend="simulated",
        inputs=[("INPUT0", type_name, dims)],
        outputs=[("OUTPUT0", type_name, dims)],
        max_batch_size=max_batch_size,
        extra="\n".join((extra, parameter_block(parameters or {}))),
    )


def write_ensemble(repository: Path, name: str = "chain") -> Path:
    """X, Y -> ``add_sub`` -> (sum, DIFF); sum -> ``doubled`` -> SUM2. Writes the two models it calls as well."""
    write_add_sub(repository)
    doubled = IDENTITY.replace(".as_numpy())", ".as_numpy() * 2)")
    write_python(repository, "doubled", doubled, type_name="TYPE_INT32", dims=(4,), max_batch_size=8)
    steps = """\
platform: "ensemble"
ensemble_scheduling {
  step {
    model_name: "add_sub"
    model_version: -1
    input_map { key: "INPUT0" value: "X" }
    input_map { key: "INPUT1" value: "Y" }
    output_map { key: "OUTPUT0" value: "sum" }
    output_map { key: "OUTPUT1" value: "DIFF" }
  }
  step {
    model_name: "doubled"
    model_version: -1
    input_map { key: "INPUT0" value: "sum" }
    output_map { key: "OUTPUT0" value: "SUM2" }
  }
}
"""
    return write_model(
        repository,
        name,
        backend="",
        inputs=[("X", "TYPE_INT32", (4,)), ("Y", "TYPE_INT32", (4,))],
        outputs=[("SUM2", "TYPE_INT32", (4,)), ("DIFF", "TYPE_INT32", (4,))],
        max_batch_size=8,
        extra=steps,
    )


def write_onnx(repository: Path, name: str = "affine", *, with_config: bool = True, extra: str = "") -> Path:
    """An ONNX model y = 2 * x + 1 over FP32 [batch, 4]; without a config it has to be completed from the file."""
    folder = repository / name
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "1" / "model.onnx").write_bytes(affine_onnx())
    if with_config:
        write_model(
            repository,
            name,
            backend="onnxruntime",
            inputs=[("x", "TYPE_FP32", (4,))],
            outputs=[("y", "TYPE_FP32", (4,))],
            max_batch_size=8,
            extra=extra,
        )
    return folder


def affine_onnx() -> bytes:
    """The bytes of y = 2 * x + 1."""
    import onnx
    from onnx import TensorProto, helper

    def scalar(name: str, value: float) -> onnx.TensorProto:
        return helper.make_tensor(name, TensorProto.FLOAT, [], [value])

    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "two"], ["doubled"]), helper.make_node("Add", ["doubled", "one"], ["y"])],
        "affine",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        initializer=[scalar("two", 2.0), scalar("one", 1.0)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()

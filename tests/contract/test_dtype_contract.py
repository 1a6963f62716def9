"""Every data type of KServe v2, over both protocols and by every way a tensor can take, comes back as it went in."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import serialize_byte_tensor

from analyzer.runtime.dtypes import NUMPY_DTYPES
from tests.fakes.repositories import write_model
from tests.fakes.running_server import RunningServer, running_server

# Gives back the one input that it was given: X_FP32 as Y_FP32.
IDENTITIES = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            tensors = [pb_utils.Tensor("Y" + one.name()[1:], one.as_numpy()) for one in request.inputs()]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
"""

TEXTS = [b"", b"\x00\x01", "grün".encode(), b'"quoted" \\', b"x" * 300, b" "]

CONTENTS = {
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "BOOL": "bool_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}

ONNX_TYPES = {
    **{f"{sign}INT{bits}": f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)},
    "BOOL": "BOOL",
    "FP16": "FLOAT16",
    "FP32": "FLOAT",
    "FP64": "DOUBLE",
    "BYTES": "STRING",
}
"""ONNX has BF16, too, but ONNX Runtime takes it from no numpy array."""


def values(datatype: str) -> np.ndarray:
    """Six values, the extremes among them."""
    dtype = NUMPY_DTYPES[datatype]
    match datatype:
        case "BYTES":
            array = np.array(TEXTS, dtype=np.object_)
        case "BOOL":
            array = np.array([True, False, False, True, True, False])
        case "FP16" | "FP32" | "FP64":
            found = np.finfo(dtype)
            array = np.array([0.0, -1.5, found.max, found.min, found.smallest_normal, 0.1], dtype)
        case _:  # BF16 among them, as words: 16512 is 4.0
            integers = np.iinfo(dtype)
            array = np.array([0, 1, integers.max, integers.min, 16512, 7] if dtype.itemsize > 1 else range(6), dtype)
            array[2:4] = integers.max, integers.min
    return array.reshape(2, 3)


def write_identities(repository: Path) -> None:
    """``python``, one model with an input of each type, all optional, and an ONNX model a type."""
    names = {datatype: "STRING" if datatype == "BYTES" else datatype for datatype in NUMPY_DTYPES}
    blocks = [
        f'input {{ name: "X_{datatype}" data_type: TYPE_{name} dims: [ -1, 3 ] optional: true }}\n'
        f'output {{ name: "Y_{datatype}" data_type: TYPE_{name} dims: [ -1, 3 ] }}'
        for datatype, name in names.items()
    ]
    write_model(repository, "python", backend="python", extra="\n".join(blocks), files={"model.py": IDENTITIES})
    for datatype, kind in ONNX_TYPES.items():
        number = onnx.TensorProto.DataType.Value(kind)
        shapes = [onnx.helper.make_tensor_value_info(f"{name}_{datatype}", number, ["n", 3]) for name in "XY"]
        node = onnx.helper.make_node("Identity", [f"X_{datatype}"], [f"Y_{datatype}"])
        graph = onnx.helper.make_graph([node], "identity", shapes[:1], shapes[1:])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        write_model(
            repository, f"onnx_{datatype}", backend="onnxruntime", files={"model.onnx": model.SerializeToString()}
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("models")
    write_identities(repository)
    with running_server(repository) as running:
        yield running


CASES = [("python", datatype) for datatype in NUMPY_DTYPES] + [
    (f"onnx_{datatype}", datatype) for datatype in ONNX_TYPES
]
by_model = pytest.mark.parametrize(("model", "datatype"), CASES, ids=[f"{m}-{d}" for m, d in CASES])
by_protocol = pytest.mark.parametrize("protocol", ["http", "grpc"])


def raw(array: np.ndarray) -> bytes:
    return serialize_byte_tensor(array).item() if array.dtype.hasobject else array.tobytes()


def call_grpc(server: RunningServer, request: Any) -> Any:
    with grpc.insecure_channel(server.grpc) as channel:
        return service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=20)


def grpc_request(model: str, datatype: str) -> tuple[Any, Any]:
    request = service_pb2.ModelInferRequest(model_name=model)
    request.outputs.add(name=f"Y_{datatype}")
    return request, request.inputs.add(name=f"X_{datatype}", datatype=datatype, shape=[2, 3])


def call_http(server: RunningServer, model: str, body: dict[str, Any], tail: bytes = b"") -> tuple[dict, bytes]:
    text = json.dumps(body).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))} if tail else {}
    request = urllib.request.Request(f"http://{server.http}/v2/models/{model}/infer", text + tail, headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        data, length = answer.read(), answer.headers["Inference-Header-Content-Length"]
    cut = int(length or len(data))
    return json.loads(data[:cut]), data[cut:]


def http_body(datatype: str, binary: bool, **tensor: Any) -> dict[str, Any]:
    given = {"name": f"X_{datatype}", "datatype": datatype, "shape": [2, 3], **tensor}
    return {"inputs": [given], "outputs": [{"name": f"Y_{datatype}", "parameters": {"binary_data": binary}}]}


@by_protocol
@by_model
def test_bytes_come_back_as_they_went_in(server, protocol, model, datatype):
    sent = raw(values(datatype))
    if protocol == "grpc":
        request, _ = grpc_request(model, datatype)
        request.raw_input_contents.append(sent)
        answer = call_grpc(server, request)
        (output,), (got,) = answer.outputs, answer.raw_output_contents
        assert (output.datatype, list(output.shape)) == (datatype, [2, 3])
    else:
        body = http_body(datatype, binary=True, parameters={"binary_data_size": len(sent)})
        told, got = call_http(server, model, body, sent)
        assert (told["outputs"][0]["datatype"], told["outputs"][0]["shape"]) == (datatype, [2, 3])
    assert got == sent


@pytest.mark.parametrize(("model", "datatype"), [case for case in CASES if case[1] not in ("FP16", "BF16")])
def test_numbers_and_texts_in_json_come_back_as_they_went_in(server, model, datatype):
    sent = values(datatype)
    if datatype == "BYTES":  # JSON holds text only
        sent = np.array([["", "a", "grün"], ['"quoted" \\', "\u2028", "😀"]], dtype=np.object_)
    told, _ = call_http(server, model, http_body(datatype, binary=False, data=sent.tolist()))
    (output,) = told["outputs"]
    assert (output["datatype"], output["shape"]) == (datatype, [2, 3])
    np.testing.assert_array_equal(np.array(output["data"], sent.dtype), sent.ravel())


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_types_that_json_and_contents_lack_are_refused_with_a_sentence(server, datatype):
    with pytest.raises(urllib.error.HTTPError) as caught:
        call_http(server, "python", http_body(datatype, binary=False, data=[0.0] * 6))
    assert (caught.value.code, datatype in caught.value.read().decode()) == (400, True)
    request, tensor = grpc_request("python", datatype)
    tensor.contents.fp32_contents.extend([0.0] * 6)
    with pytest.raises(grpc.RpcError, match=f"{datatype} can't be sent as contents"):
        call_grpc(server, request)


@pytest.mark.parametrize(("model", "datatype"), [case for case in CASES if case[1] in CONTENTS])
def test_typed_contents_come_back_as_raw_bytes(server, model, datatype):
    request, tensor = grpc_request(model, datatype)
    getattr(tensor.contents, CONTENTS[datatype]).extend(values(datatype).ravel().tolist())
    assert list(call_grpc(server, request).raw_output_contents) == [raw(values(datatype))]


@by_protocol
@by_model
def test_tensors_in_shared_memory_come_back_there(server, protocol, model, datatype):
    module = {"http": triton_http, "grpc": triton_grpc}[protocol]
    sent = raw(values(datatype))
    memory, half = SharedMemory(create=True, size=2 * len(sent)), len(sent)
    client = module.InferenceServerClient(getattr(server, protocol))
    try:
        memory.buf[:half] = sent
        client.register_system_shared_memory("r", f"/{memory.name}", 2 * half)
        tensor = module.InferInput(f"X_{datatype}", [2, 3], datatype)
        tensor.set_shared_memory("r", half)
        wanted = module.InferRequestedOutput(f"Y_{datatype}")
        wanted.set_shared_memory("r", half, offset=half)
        client.infer(model, [tensor], outputs=[wanted])
        assert bytes(memory.buf[half : 2 * half]) == sent
    finally:
        client.unregister_system_shared_memory("r")
        client.close()
        memory.close()
        memory.unlink()


@by_protocol
@pytest.mark.parametrize("datatype", NUMPY_DTYPES)
def test_the_types_that_are_told_are_those_of_the_configuration(server, protocol, datatype):
    module = {"http": triton_http, "grpc": triton_grpc}[protocol]
    client = module.InferenceServerClient(getattr(server, protocol))
    told = client.get_model_metadata("python", **({"as_json": True} if protocol == "grpc" else {}))
    client.close()
    assert {f"X_{datatype}": datatype}.items() <= {item["name"]: item["datatype"] for item in told["inputs"]}.items()

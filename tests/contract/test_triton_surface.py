"""The same requests to our runtime and to a real Triton (where TRITONSERVER names one) get the same answers over HTTP.

Errors have the same status and say the same thing; their words are our own where Triton's name no cause.
"""

import http.client
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.real_triton import TRITON, real_triton
from tests.fakes.repositories import write_add_sub, write_python
from tests.fakes.running_server import running_server

REPEAT = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            tensor = pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())
            for _ in range(2):
                sender.send(pb_utils.InferenceResponse([tensor]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
FAILS = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(error=pb_utils.TritonError("mine")) for _ in requests]
"""


def write_models(repository: Path) -> None:
    write_add_sub(repository)
    write_python(repository, "free", dims=(-1,))
    write_python(repository, "rows", dims=(4,), max_batch_size=2)
    write_python(repository, "texts", type_name="TYPE_STRING", dims=(1,))
    write_python(repository, "halves", type_name="TYPE_FP16", dims=(-1,))
    write_python(repository, "repeat", REPEAT, dims=(-1,), extra="model_transaction_policy { decoupled: true }")
    write_python(repository, "fails", FAILS, dims=(-1,))
    write_python(repository, "broken", "import nothing_here\n")
    labelled = write_python(repository, "labelled", dims=(4,), max_batch_size=2)
    config = labelled / "config.pbtxt"
    output = 'output { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ]'
    config.write_text(config.read_text().replace(output, f'{output} label_filename: "labels.txt"'))
    (labelled / "labels.txt").write_text("cat\ndog\nbird\n")


@pytest.fixture(scope="module", params=["ours", "triton"])
def ask(request, tmp_path_factory) -> Iterator[object]:
    repository = tmp_path_factory.mktemp("surface")
    write_models(repository)
    flags = ("--model-control-mode=explicit", "--load-model=*", "--exit-on-error=false")
    if request.param == "ours":
        with running_server(repository, *flags) as server:
            yield asker(server.http)
        return
    if TRITON is None:
        pytest.skip("no real Triton; name one with TRITONSERVER")
    with real_triton(repository, *flags, probe="/v2/health/live") as addresses:
        yield asker(addresses[0])


def asker(address: str):
    def ask(method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(address, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    return ask


def infer(data: object = (1.0, 2.0), shape=(2,), datatype: str = "FP32", name: str = "INPUT0", **more: object) -> bytes:
    tensor = {"name": name, "datatype": datatype, "shape": shape, "data": data}
    return json.dumps({"inputs": [tensor], **more}).encode()


def one_output(data: object, shape: list[int], datatype: str = "FP32", model: str = "free", **more: object) -> dict:
    output = {"name": "OUTPUT0", "datatype": datatype, "shape": shape, "data": data}
    return {"model_name": model, "model_version": "1", "outputs": [output], **more}


CLASSES = [{"name": "OUTPUT0", "parameters": {"classification": 2}}]
ANSWERS = {
    "plain": ("free", infer(), one_output([1.0, 2.0], [2])),
    "id": ("free", infer(id="x"), one_output([1.0, 2.0], [2], id="x")),
    "no elements": ("free", infer([], [0]), one_output([], [0])),
    "one of the versions": ("free/versions/1", infer(), one_output([1.0, 2.0], [2])),
    "no outputs named": ("free", infer(outputs=[]), one_output([1.0, 2.0], [2])),
    "own parameters": ("free", infer(parameters={"a": "b", "n": 5, "f": True}), one_output([1.0, 2.0], [2])),
    "texts": ("texts", infer(["é"], [1], "BYTES"), one_output(["é"], [1], "BYTES", "texts")),
    "classes": (
        "labelled",
        infer([1, 4, 2, 2], [1, 4], outputs=CLASSES),
        one_output(["4.000000:1:dog", "2.000000:2:bird"], [1, 2], "BYTES", "labelled"),
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_the_same(ask, name):
    model, body, expected = ANSWERS[name]
    status, headers, told = ask("POST", f"/v2/models/{model}/infer", body)
    assert (status, json.loads(told)) == (200, expected)
    assert headers["content-type"] == "application/json"


REFUSALS = {
    "unknown model": ("nobody", infer(), 404, "Request for unknown model: 'nobody' is not found"),
    "unknown version": ("free/versions/7", infer(), 404, "'free' version 7 is not found"),
    "model that failed to load": ("broken", infer(), 404, "'broken' has no available versions"),
    "wrong type": ("free", infer(datatype="INT32", data=[1, 2]), 400, "is 'INT32', but model 'free' expects 'FP32'"),
    "wrong shape": ("rows", infer([1, 2, 3], [1, 3]), 400, "for model 'rows'. Expected [-1,4], got [1,3]"),
    "too many rows": ("rows", infer([0] * 12, [3, 4]), 400, "batch-size must be <= 2 for 'rows'"),
    "unknown input": ("free", infer(name="NOPE"), 400, "NOPE"),
    "no inputs": ("free", b'{"inputs": []}', 400, "expected 1 inputs but got 0 inputs for model 'free'"),
    "unknown output": ("free", infer(outputs=[{"name": "NOPE"}]), 400, "inference output 'NOPE' for model 'free'"),
    "half as JSON": ("halves", infer(datatype="FP16"), 400, "FP16"),
    "unary on a decoupled model": ("repeat", infer(), 501, "doesn't support models with decoupled transaction policy"),
    "an error of the model": ("fails", infer(), 500, "mine"),
    "unknown region": (
        "free",
        infer(outputs=[{"name": "OUTPUT0", "parameters": {"shared_memory_region": "z", "shared_memory_byte_size": 4}}]),
        404,
        "Unable to find shared memory region: 'z'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_have_the_same_status_and_say_the_same(ask, name):
    model, body, expected, words = REFUSALS[name]
    status, _, told = ask("POST", f"/v2/models/{model}/infer", body)
    assert status == expected
    assert words in json.loads(told)["error"]


PLACES = {
    ("GET", "/v2/health/live"): 200,
    ("GET", "/v2/health/ready"): 400,
    ("GET", "/v2/models/free/ready"): 200,
    ("GET", "/v2/models/nobody/ready"): 400,
    ("GET", "/v2/models/broken/ready"): 400,
    ("GET", "/v2/models/nobody"): 404,
    ("GET", "/v2/models/broken"): 404,
    ("GET", "/v2/models/free/infer"): 405,
    ("POST", "/v2/models/free"): 405,
    ("DELETE", "/v2/health/live"): 405,
    ("GET", "/v2/nowhere"): 404,
    ("GET", "/v2/systemsharedmemory/status"): 200,
    ("GET", "/v2/systemsharedmemory/region/x/status"): 404,
    ("POST", "/v2/systemsharedmemory/region/x/unregister"): 200,
    ("POST", "/v2/repository/models/nobody/unload"): 200,
}


@pytest.mark.parametrize(("method", "path"), PLACES)
def test_places_have_the_same_status(ask, method, path):
    assert ask(method, path)[0] == PLACES[method, path]


def test_a_model_that_is_not_ready_says_so(ask):
    assert json.loads(ask("GET", "/v2/models/nobody/ready")[2]) == {"error": "Model version not ready"}


def test_extensions_of_triton_are_named(ask):
    told = json.loads(ask("GET", "/v2")[2])["extensions"]
    assert {"classification", "model_repository(unload_dependents)", "cuda_shared_memory", "trace"} <= set(told)


@pytest.mark.parametrize(
    ("model", "raw", "shape"),
    [("free", np.arange(3, dtype=np.float32), [3]), ("rows", np.arange(4, dtype=np.float32), [1, 4])],
)
def test_a_raw_body_is_the_one_input(ask, model, raw, shape):
    status, headers, told = ask("POST", f"/v2/models/{model}/infer", raw.tobytes(), Inference_Header_Content_Length="0")
    length = int(headers["inference-header-content-length"])
    (output,) = json.loads(told[:length])["outputs"]
    assert (status, output["shape"], told[length:]) == (200, shape, raw.tobytes())


def test_a_raw_body_may_be_a_text(ask):
    _, headers, told = ask("POST", "/v2/models/texts/infer", b"hello", Inference_Header_Content_Length="0")
    length = int(headers["inference-header-content-length"])
    assert told[length:] == b"\x05\x00\x00\x00hello"


@pytest.mark.parametrize(
    ("model", "raw", "words"),
    [
        ("add_sub", b"1234", "Raw request must only have 1 input (found 1) to be deduced but got 2 inputs"),
        ("rows", b"1234", "Expected 16, got 4"),
        ("free", b"123", "Expected 0, got 3"),
    ],
)
def test_raw_bodies_that_do_not_fit_are_refused(ask, model, raw, words):
    status, _, told = ask("POST", f"/v2/models/{model}/infer", raw, Inference_Header_Content_Length="0")
    assert status == 400
    assert words in json.loads(told)["error"]


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [("gzip", "gzip"), ("deflate", "deflate"), ("br", None), ("deflate;q=0.5, gzip;q=1", "gzip"), ("gzip;q=0", None)],
)
def test_answers_are_compressed_as_the_client_would_have_them(ask, accept, encoding):
    _, headers, told = ask("POST", "/v2/models/free/infer", infer(), Accept_Encoding=accept)
    assert headers.get("content-encoding") == encoding
    plain = zlib.decompress(told, zlib.MAX_WBITS | 32) if encoding else told
    assert json.loads(plain) == one_output([1.0, 2.0], [2])


def test_generate_answers_flat(ask):
    told = json.loads(ask("POST", "/v2/models/texts/generate", b'{"INPUT0": "hi", "id": "q"}')[2])
    assert told == {"id": "q", "model_name": "texts", "model_version": "1", "OUTPUT0": "hi"}


def test_generate_stream_has_an_event_for_each_answer(ask):
    status, headers, told = ask("POST", "/v2/models/repeat/generate_stream", b'{"INPUT0": 1}')
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    events = [json.loads(line.removeprefix(b"data: ")) for line in told.split(b"\n\n") if line]
    assert events == [{"model_name": "repeat", "model_version": "1", "OUTPUT0": 1.0}] * 2

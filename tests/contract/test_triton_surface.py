"""The same requests to our runtime and to a real Triton (where TRITONSERVER names one) get the same answers over HTTP.

Errors have the same status and say the same thing; their words are our own where Triton's name no cause.
"""

import http.client
import json
import re
import socket
import zlib
from collections.abc import Iterator

import numpy as np
import pytest

from tests.fakes.real_triton import TRITON, real_triton
from tests.fakes.running_server import running_server
from tests.fakes.surface_models import write_models


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


@pytest.fixture(scope="module")
def ask_raw(ask):
    """The Connection header of an answer, and whether the connection is open behind it."""
    host, port = ask.address.split(":")

    def ask_raw(version: str, line: str) -> tuple[str | None, bool]:
        with socket.create_connection((host, int(port)), 30) as client:
            client.sendall(f"GET /v2/health/live HTTP/{version}\r\nHost: x\r\n{line}\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            found = re.search(rb"\r\nConnection: ([a-z-]+)", head)
            client.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                is_open = client.recv(4096) != b""
            except ConnectionError:
                is_open = False
            return found[1].decode() if found else None, is_open

    return ask_raw


def asker(address: str):
    def ask(method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(address, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    ask.address = address
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
    "a reserved parameter": ("free", infer(parameters={"triton_own": "a"}), 400, "reserved"),
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
    ("GET", "/v2/models/nobody/stats"): 400,
    ("GET", "/v2/models/broken/stats"): 400,
    ("GET", "/v2/models/free/versions/7/stats"): 400,
}


@pytest.mark.parametrize(("method", "path"), PLACES)
def test_places_have_the_same_status(ask, method, path):
    assert ask(method, path)[0] == PLACES[method, path]


def test_a_model_that_is_not_ready_says_so(ask):
    assert json.loads(ask("GET", "/v2/models/nobody/ready")[2]) == {"error": "Model version not ready"}


def test_statistics_of_what_is_not_served_are_refused_in_the_same_words(ask):
    assert json.loads(ask("GET", "/v2/models/nobody/stats")[2]) == {
        "error": "requested model 'nobody' is not available"
    }
    told = json.loads(ask("GET", "/v2/models/free/versions/7/stats")[2])
    assert told == {"error": "requested model version is not available for model 'free'"}


def test_an_encoding_that_is_not_known_is_not_implemented(ask):
    assert ask("POST", "/v2/models/free/infer", infer(), Content_Encoding="br")[0] == 501


WRONG_PARAMETERS = [
    {"priority": -1},
    {"priority": "x"},
    {"priority": 1.5},
    {"timeout": True},
    {"timeout": "x"},
    {"sequence_id": 1.5},
    {"sequence_start": 5},
    {"sequence_end": "true"},
]


@pytest.mark.parametrize("parameters", WRONG_PARAMETERS, ids=str)
def test_parameters_of_the_wrong_type_are_refused_by_a_model_that_has_no_use_for_them(ask, parameters):
    status, _, told = ask("POST", "/v2/models/free/infer", infer(parameters=parameters))
    assert status in (400, 500)  # 400 here: what is wrong with a request is no fault of the server
    assert next(iter(parameters)) in json.loads(told)["error"]


def test_requests_that_fail_their_checks_are_no_failures_of_their_model(ask):
    def failures() -> int:
        return int(
            json.loads(ask("GET", "/v2/models/rows/stats")[2])["model_stats"][0]["inference_stats"]["fail"]["count"]
        )

    before = failures()
    for body in (infer([1, 2, 3], [1, 3]), infer(name="NOPE"), infer([0] * 12, [3, 4])):
        assert ask("POST", "/v2/models/rows/infer", body)[0] == 400
    assert failures() == before


@pytest.mark.parametrize("model", ["free", "chain", "rows", "repeat"])
def test_a_configuration_is_told_with_the_same_defaults(ask, model):
    told = json.loads(ask("GET", f"/v2/models/{model}/config")[2])
    assert told["version_policy"] == {"latest": {"num_versions": 1}}
    if model == "chain":
        assert (told["platform"], told["backend"]) == ("ensemble", "")
        assert told["model_transaction_policy"] == {"decoupled": False}
        return
    assert (told["backend"], told["default_model_filename"]) == ("python", "model.py")
    assert told["optimization"]["input_pinned_memory"] == {"enable": True}
    assert [group["name"] for group in told["instance_group"]] == [model]


def test_an_unloaded_model_has_no_versions(ask):
    assert ask("POST", "/v2/repository/models/add_sub/unload")[0] == 200
    status, _, told = ask("POST", "/v2/models/add_sub/infer", infer())
    assert ask("POST", "/v2/repository/models/add_sub/load")[0] == 200
    assert (status, json.loads(told)["error"]) == (
        404,
        "Request for unknown model: 'add_sub' has no available versions",
    )


def test_every_kind_of_connection_ends_when_its_client_expects(ask_raw):
    """HTTP/1.0 clients that ask for it, too, may go on; who says close reads to the end."""
    assert ask_raw("1.1", "") == (None, True)
    assert ask_raw("1.1", "Connection: close\r\n") == ("close", False)
    assert ask_raw("1.0", "Connection: keep-alive\r\n") == ("keep-alive", True)
    assert ask_raw("1.0", "")[1] is False


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

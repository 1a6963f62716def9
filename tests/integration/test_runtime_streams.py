"""Decoupled models over gRPC streams and the generate extension, as unmodified clients see them."""

import json
import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tests.fakes.repositories import write_add_sub, write_model
from tests.fakes.running_server import RunningServer, running_server

REPEAT = """\
import threading
import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


def answers(sender, count):
    for number in range(abs(count)):
        tensor = pb_utils.Tensor("OUT", np.array([number], np.int32))
        last = count < 0 and number == -count - 1
        sender.send(pb_utils.InferenceResponse([tensor]), flags=FINAL if last else 0)
    if count >= 0:
        sender.send(flags=FINAL)


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            count = int(request.inputs()[0].as_numpy()[0])
            sender = request.get_response_sender()
            if count == 99:
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("bad")), flags=FINAL)
            elif count == 98:
                raise ValueError("in a bad mood")
            else:
                # The instance is free again while the answers are still being sent.
                threading.Thread(target=answers, args=(sender, count)).start()
"""

TEXT = """\
import json
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            text = request.inputs()[0].as_numpy().ravel()[0]
            outputs = [np.array([[text, request.parameters().encode()]], dtype=object), np.array([[3]], np.int32)]
            tensors = [pb_utils.Tensor(name, array) for name, array in zip(("text_output", "n"), outputs)]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("models")
    write_add_sub(repository)
    write_model(
        repository,
        "repeat",
        backend="python",
        inputs=[("N", "TYPE_INT32", [1])],
        outputs=[("OUT", "TYPE_INT32", [1])],
        extra="model_transaction_policy { decoupled: true }",
        files={"model.py": REPEAT},
    )
    write_model(
        repository,
        "text",
        backend="python",
        inputs=[("text_input", "TYPE_STRING", [1])],
        outputs=[("text_output", "TYPE_STRING", [-1]), ("n", "TYPE_INT32", [1])],
        max_batch_size=4,
        files={"model.py": TEXT},
    )
    with running_server(repository) as running:
        yield running


class Stream:
    def __init__(self, address: str) -> None:
        self.client = triton_grpc.InferenceServerClient(address)
        self.answers: queue.Queue[tuple[object, object]] = queue.Queue()
        self.client.start_stream(lambda result, error: self.answers.put((result, error)))

    def repeat(self, count: int, **options: object) -> None:
        tensor = triton_grpc.InferInput("N", [1], "INT32")
        tensor.set_data_from_numpy(np.array([count], np.int32))
        self.client.async_stream_infer("repeat", [tensor], request_id=f"r{count}", **options)

    def next(self) -> tuple[list[int] | None, bool] | str:
        result, error = self.answers.get(timeout=20)
        if error is not None:
            return str(error)
        response = result.get_response()
        final = response.parameters["triton_final_response"].bool_param
        return result.as_numpy("OUT").tolist() if response.outputs else None, final


@pytest.fixture
def stream(server: RunningServer) -> Iterator[Stream]:
    opened = Stream(server.grpc)
    yield opened
    opened.client.stop_stream()
    opened.client.close()


def test_each_answer_of_a_decoupled_model_comes_in_order(stream):
    stream.repeat(3)
    assert [stream.next() for _ in range(3)] == [([0], False), ([1], False), ([2], False)]
    stream.repeat(-2)  # nothing told of the end of the request before
    assert [stream.next() for _ in range(2)] == [([0], False), ([1], True)]


def test_end_is_told_by_an_empty_answer_to_those_who_ask(stream):
    stream.repeat(1, enable_empty_final_response=True)
    assert [stream.next(), stream.next()] == [([0], False), (None, True)]
    stream.repeat(0, enable_empty_final_response=True)
    assert stream.next() == (None, True)


def test_errors_end_a_request_but_not_its_stream(stream):
    stream.repeat(99)
    assert "bad" in stream.next()
    stream.repeat(98)
    assert "in a bad mood" in stream.next()
    stream.repeat(-1)
    assert stream.next() == ([0], True)


def test_stream_that_the_client_ends_stays_open_for_what_is_to_come(server):
    opened = Stream(server.grpc)
    opened.repeat(200)
    opened.client.stop_stream()
    assert [opened.next()[0] for _ in range(200)] == [[number] for number in range(200)]
    opened.client.close()


def test_answers_of_other_models_are_marked_final(stream):
    tensors = [triton_grpc.InferInput(name, [1, 4], "INT32") for name in ("INPUT0", "INPUT1")]
    for tensor in tensors:
        tensor.set_data_from_numpy(np.ones((1, 4), np.int32))
    stream.client.async_stream_infer("add_sub", tensors)
    result, error = stream.answers.get(timeout=20)
    assert error is None
    assert result.get_response().parameters["triton_final_response"].bool_param


@pytest.mark.parametrize("module", [triton_http, triton_grpc])
def test_unary_call_of_a_decoupled_model_is_refused(server, module):
    address = server.http if module is triton_http else server.grpc
    client = module.InferenceServerClient(address)
    tensor = module.InferInput("N", [1], "INT32")
    tensor.set_data_from_numpy(np.array([1], np.int32))
    with pytest.raises(InferenceServerException, match="decoupled transaction policy"):
        client.infer("repeat", [tensor])
    client.close()


def test_requests_with_answers_are_counted_once(server, stream):
    client = triton_grpc.InferenceServerClient(server.grpc)
    before = client.get_inference_statistics("repeat").model_stats[0].inference_stats.success.count
    stream.repeat(5, enable_empty_final_response=True)
    while stream.next() != (None, True):
        pass
    assert client.get_inference_statistics("repeat").model_stats[0].inference_stats.success.count == before + 1
    client.close()


def post(server: RunningServer, path: str, body: object) -> tuple[int, str, str]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{server.http}/v2/models/{path}", data=data)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def events(text: str) -> list[object]:
    return [json.loads(item.removeprefix("data: ")) for item in text.split("\n\n") if item]


@pytest.mark.parametrize("text", ["hi", ["hi"], [["hi"]]])
def test_generate_takes_values_and_lists_and_passes_the_rest_on_as_parameters(server, text):
    body = {"text_input": text, "id": "7", "temperature": 0.5, "parameters": {"top_k": 3}}
    status, kind, told = post(server, "text/versions/1/generate", body)
    assert (status, kind) == (200, "application/json")
    answer = json.loads(told)
    said, parameters = answer.pop("text_output")
    assert answer == {"id": "7", "model_name": "text", "model_version": "1", "n": 3}
    assert said == "hi"
    assert json.loads(parameters) == {"temperature": 0.5, "top_k": 3}


def test_generate_stream_gives_an_event_an_answer(server):
    status, kind, told = post(server, "repeat/generate_stream", {"N": 3})
    assert (status, kind) == (200, "text/event-stream; charset=utf-8")
    assert [item["OUT"] for item in events(told)] == [0, 1, 2]
    assert post(server, "repeat/generate_stream", {"N": 0})[2] == ""
    assert [item["n"] for item in events(post(server, "text/generate_stream", {"text_input": "x"})[2])] == [3]


def test_streams_do_not_mix_with_other_requests_of_other_connections(server):
    found: dict[int, list[int]] = {}

    def ask(count: int) -> None:
        found[count] = [item["OUT"] for item in events(post(server, "repeat/generate_stream", {"N": count})[2])]

    threads = [threading.Thread(target=ask, args=(count,)) for count in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {count: list(range(count)) for count in range(1, 9)}


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("repeat/generate", {"N": 2}, 400, "exactly 1 response, got 2"),
        ("repeat/generate", {"N": 0}, 400, "exactly 1 response, got 0"),
        ("repeat/generate", {"N": 99}, 500, "bad"),
        ("repeat/generate_stream", {"N": 99}, 500, "bad"),
        ("text/generate", {"text": "x"}, 400, "missing required input"),
        ("text/generate", {"text_input": 3}, 400, "unable to parse"),
        ("text/generate", {"text_input": "x", "y": {"z": 1}}, 400, "parameter 'y' has invalid type"),
        ("text/generate", {"text_input": "x", "parameters": 1}, 400, "must be an object"),
        ("text/generate", {"text_input": "x", "id": [1]}, 400, "'id' must be a string"),
        ("text/generate_stream", b"[1]", 400, "failed to parse"),
        ("nowhere/generate", {}, 404, "unknown model"),
    ],
)
def test_generate_refuses_with_a_sentence(server, path, body, status, sentence):
    got, _, told = post(server, path, body)
    assert got == status
    assert sentence in told

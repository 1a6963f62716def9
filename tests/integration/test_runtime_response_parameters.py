"""Parameters that a ``model.py`` gives with its responses, as clients see them."""

import json
import queue
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tests.fakes.repositories import write_model, write_python
from tests.fakes.running_server import RunningServer, running_server

TOLD = {"tokens": 7, "reason": "stop, für heute", "cached": True, "score": 0.5, "least": -(2**63)}

TELLING = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            array = request.inputs()[0].as_numpy()
            # Rows of an even sum have parameters, so that a batch holds answers of both kinds.
            told = PARAMETERS if int(array.sum()) % 2 == 0 else None
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)], parameters=told))
        return answers
"""

STREAMING = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            tensor = pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())
            for number in range(3):
                sender.send(pb_utils.InferenceResponse([tensor], parameters={"number": number}))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

CALLING = """\
import json
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            called = pb_utils.InferenceRequest(
                model_name="told", inputs=request.inputs(), requested_output_names=["OUTPUT0"]
            ).exec()
            answers.append(
                pb_utils.InferenceResponse(called.output_tensors(), parameters={"heard": called.parameters()})
            )
        return answers
"""

# The state goes to the server and the parameters to the client.
COUNTING = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            total = given["SUM_IN"] + given["INPUT0"]
            tensors = [pb_utils.Tensor("OUTPUT0", total), pb_utils.Tensor("SUM_OUT", total)]
            answers.append(pb_utils.InferenceResponse(tensors, parameters={"tokens": int(total.sum())}))
        return answers
"""

STATE = """sequence_batching {
  state { input_name: "SUM_IN" output_name: "SUM_OUT" data_type: TYPE_INT32 dims: [ 2 ] }
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("models")
    code = TELLING.replace("PARAMETERS", repr(TOLD))
    whole = {"type_name": "TYPE_INT32", "dims": (2,)}
    thread = 'parameters { key: "execution" value { string_value: "thread" } }'
    write_python(repository, "told", code, **whole, max_batch_size=4, extra="dynamic_batching { }")
    write_python(repository, "told_in_thread", code, **whole, max_batch_size=4, extra=thread)
    write_python(repository, "wrong", TELLING.replace("PARAMETERS", '{"list": [1]}'), **whole, max_batch_size=4)
    write_python(repository, "calling", CALLING, **whole, max_batch_size=4)
    write_python(repository, "counting", COUNTING, **whole, max_batch_size=4, extra=STATE)
    write_model(
        repository,
        "reshaped",
        backend="python",
        inputs=[("INPUT0", "TYPE_INT32", [2])],
        extra='output { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 2, 1 ] reshape { shape: [ 2 ] } }',
        max_batch_size=4,
        files={"model.py": code},
    )
    decoupled = "model_transaction_policy { decoupled: true }"
    write_python(repository, "streaming", STREAMING, **whole, max_batch_size=4, extra=decoupled)
    write_python(repository, "streaming_in_thread", STREAMING, **whole, max_batch_size=4, extra=f"{decoupled} {thread}")
    with running_server(repository) as running:
        yield running


def ask(server: RunningServer, protocol: str, model: str, values: list[int], **options: Any) -> tuple[Any, dict]:
    """The first output and the parameters of the answer."""
    module = {"http": triton_http, "grpc": triton_grpc}[protocol]
    client = module.InferenceServerClient(getattr(server, protocol))
    try:
        tensor = module.InferInput("INPUT0", [1, 2], "INT32")
        tensor.set_data_from_numpy(np.array([values], np.int32))
        answer = client.infer(model, [tensor], **options)
        response = answer.get_response()
        given = response.get("parameters", {}) if protocol == "http" else plain(response.parameters)
        return answer.as_numpy("OUTPUT0"), given
    finally:
        client.close()


def plain(parameters: Any) -> dict[str, Any]:
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in parameters.items()}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("model", ["told", "told_in_thread", "reshaped"])
def test_parameters_reach_the_client_with_their_types(server, protocol, model):
    output, parameters = ask(server, protocol, model, [1, 3], request_id="r1")
    assert output.ravel().tolist() == [1, 3]
    assert parameters == TOLD
    assert {name: type(value) for name, value in parameters.items()} == {name: type(v) for name, v in TOLD.items()}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_an_answer_without_parameters_has_none(server, protocol):
    assert ask(server, protocol, "told", [1, 2])[1] == {}


def test_a_batch_keeps_the_parameters_of_each_request_apart(server):
    client = triton_grpc.InferenceServerClient(server.grpc)
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    for number in range(20):
        tensor = triton_grpc.InferInput("INPUT0", [1, 2], "INT32")
        tensor.set_data_from_numpy(np.array([[number, 0]], np.int32))
        client.async_infer("told", [tensor], lambda result, error: answers.put((result, error)))
    for _ in range(20):
        result, error = answers.get(timeout=20)
        assert error is None
        is_even = result.as_numpy("OUTPUT0")[0, 0] % 2 == 0
        assert plain(result.get_response().parameters) == (TOLD if is_even else {})
    client.close()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_parameters_that_no_client_could_get_are_refused_where_they_are_given(server, protocol):
    with pytest.raises(InferenceServerException, match=r"parameter 'list' of a response must be a string with a bool"):
        ask(server, protocol, "wrong", [1, 1])


def test_a_model_that_calls_another_gets_the_parameters_of_its_response(server):
    assert json.loads(ask(server, "http", "calling", [2, 2])[1]["heard"]) == TOLD


def test_a_sequence_that_keeps_state_tells_parameters_too(server):
    options = {"sequence_id": 5}
    assert ask(server, "http", "counting", [1, 1], sequence_start=True, **options)[1] == {"tokens": 2}
    assert ask(server, "grpc", "counting", [2, 1], sequence_end=True, **options)[1] == {"tokens": 5}


@pytest.mark.parametrize("model", ["streaming", "streaming_in_thread"])
def test_each_answer_of_a_stream_has_its_own_parameters(server, model):
    client = triton_grpc.InferenceServerClient(server.grpc)
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    tensor = triton_grpc.InferInput("INPUT0", [1, 2], "INT32")
    tensor.set_data_from_numpy(np.array([[1, 2]], np.int32))
    client.async_stream_infer(model, [tensor])
    for number in range(3):
        result, error = answers.get(timeout=20)
        assert error is None
        assert plain(result.get_response().parameters) == {"number": number, "triton_final_response": False}
    client.stop_stream()
    client.close()


@pytest.mark.parametrize("path", ["generate", "generate_stream"])
def test_generate_tells_parameters_beside_the_outputs(server, path):
    body = json.dumps({"INPUT0": [1, 3]}).encode()
    with urllib.request.urlopen(f"http://{server.http}/v2/models/told/{path}", body, timeout=20) as answer:
        told = json.loads(answer.read().removeprefix(b"data: "))
    assert told == {"model_name": "told", "model_version": "1", "OUTPUT0": [1, 3], **TOLD}

"""Sequences as unmodified tritonclient sends them: HTTP, gRPC and gRPC streams, number and text ids."""

import queue
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tests.fakes.repositories import write_model
from tests.fakes.running_server import RunningServer, running_server

SUM = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            key = request.correlation_id()
            if given["START"].any():
                self.sums[key] = 0
            self.sums[key] = self.sums.get(key, 0) + given["X"]
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("TOTAL", self.sums[key])]))
        return responses
"""

START = 'control_input { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("models")
    for name, strategy in (("direct", "direct { }"), ("oldest", "oldest { max_candidate_sequences: 8 }")):
        write_model(
            repository,
            name,
            backend="python",
            inputs=[("X", "TYPE_INT32", [1])],
            outputs=[("TOTAL", "TYPE_INT32", [1])],
            max_batch_size=4,
            extra=f"sequence_batching {{ {strategy} {START} }} instance_group {{ count: 2 }}",
            files={"model.py": SUM},
        )
    with running_server(repository) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def api(request, server):
    module = {"http": triton_http, "grpc": triton_grpc}[request.param]
    client = module.InferenceServerClient(getattr(server, request.param))
    yield module, client
    client.close()


def one(module, value: int):
    tensor = module.InferInput("X", [1, 1], "INT32")
    tensor.set_data_from_numpy(np.array([[value]], np.int32))
    return [tensor]


@pytest.mark.parametrize("model", ["direct", "oldest"])
@pytest.mark.parametrize("identity", [7, "seven", 2**62])
def test_sums_are_kept_by_sequence(api, model, identity):
    module, client = api
    totals = [
        client.infer(
            model, one(module, value), sequence_id=identity, sequence_start=value == 1, sequence_end=value == 4
        ).as_numpy("TOTAL")[0, 0]
        for value in (1, 2, 3, 4)
    ]
    assert totals == [1, 3, 6, 10]
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        client.infer(model, one(module, 1), sequence_id=identity)


def test_request_without_a_sequence_is_refused(api):
    module, client = api
    with pytest.raises(InferenceServerException, match="non-zero or non-empty correlation ID"):
        client.infer("direct", one(module, 1))


@pytest.mark.parametrize("model", ["direct", "oldest"])
def test_many_sequences_over_one_stream(server, model):
    client = triton_grpc.InferenceServerClient(server.grpc)
    answers: queue.Queue[tuple[object, object]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for step in range(10):
        for number in range(1, 21):
            client.async_stream_infer(
                model,
                one(triton_grpc, number),
                request_id=f"{number} {step}",
                sequence_id=number,
                sequence_start=step == 0,
                sequence_end=step == 9,
            )
    for _ in range(200):
        result, error = answers.get(timeout=20)
        assert error is None
        number, step = map(int, result.get_response().id.split())
        assert result.as_numpy("TOTAL").tolist() == [[number * (step + 1)]]
    client.stop_stream()
    client.close()

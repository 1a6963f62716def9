"""Answers compared with expected ones wherever they come: compressed, over streams, in shared memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import uvloop
from tritonclient.grpc import service_pb2 as pb

from perf_client.drive import Run, drive
from perf_client.errors import LoadError
from perf_client.profile import Compression, Concurrency, LoadProfile, Protocol, RequestRate
from perf_client.target import Target
from tests.fakes.driven import drive_grpc, failures
from tests.fakes.grpc_server import echo
from tests.fakes.memory_server import MemoryServer
from tests.fakes.repositories import write_add_sub, write_model
from tests.fakes.running_server import RunningServer, running_server

BOTH = pytest.mark.parametrize("protocol", ["http", "grpc"])

COUNT_UP = """\
import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for number in range(int(request.inputs()[0].as_numpy()[0])):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([number], np.int32))]))
            sender.send(flags=FINAL)
"""

SPELL = """\
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        def answer(request):
            words = [b"ab" * int(count) for count in request.inputs()[0].as_numpy()]
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array(words, dtype=object))])

        return [answer(request) for request in requests]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("models")
    write_add_sub(repository, type_name="TYPE_FP32", dims=(16,))
    numbers, words = [("N", "TYPE_INT32", [-1])], [("OUT", "TYPE_STRING", [-1])]
    write_model(
        repository,
        "count_up",
        backend="python",
        inputs=numbers,
        outputs=[("OUT", "TYPE_INT32", [1])],
        extra="model_transaction_policy { decoupled: true }",
        files={"model.py": COUNT_UP},
    )
    write_model(repository, "spell", backend="python", inputs=numbers, outputs=words, files={"model.py": SPELL})
    with running_server(repository) as running:
        yield running


def profile(model: str, path: Path, **changes: Any) -> LoadProfile:
    settings = {"model": model, "load": Concurrency(in_flight=4), "request_count": 60, "timeout_s": 20.0}
    return LoadProfile(**(settings | changes), input_data=str(path))


def run(load: LoadProfile, server: RunningServer) -> Run:
    address = getattr(server, load.protocol)
    return uvloop.run(drive(load, Target.parse(address, load.protocol)))


def data_file(folder: Path, data: list[Any], expected: list[Any]) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps({"data": data, "validation_data": expected}))
    return path


def sums(folder: Path, wrong: int = 0) -> Path:
    """Three entries for ``add_sub``, the first ``wrong`` of them with a sum that isn't."""
    rows = [[float(number + index) for index in range(16)] for number in range(3)]
    data = [{"INPUT0": row, "INPUT1": row} for row in rows]
    expected = [
        {"OUTPUT0": [2 * value + (number < wrong) for value in row], "OUTPUT1": [0.0] * 16}
        for number, row in enumerate(rows)
    ]
    return data_file(folder, data, expected)


@BOTH
@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
def test_compressed_answers_are_compared_as_what_they_hold(
    tmp_path: Path, server: RunningServer, protocol: Protocol, compression: Compression
):
    right = profile("add_sub", sums(tmp_path), protocol=protocol, compression=compression)
    assert failures(run(right, server)) == {"": 60}
    wrong = profile("add_sub", sums(tmp_path, wrong=1), protocol=protocol, compression=compression)
    assert failures(run(wrong, server)) == {"": 40, "wrong answer": 20}


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_answers_that_a_grpc_server_compresses_are_compared_too(tmp_path: Path, compression: Compression):
    def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        response = echo(request, context)
        response.outputs[0].name = "OUTPUT0"
        return response

    row = {"content": [0.0] * 5000, "shape": [5000]}
    other = {"content": [0.0] * 4999 + [1.0], "shape": [5000]}
    path = data_file(tmp_path, [{"INPUT0": row}] * 2, [{"OUTPUT0": row}, {"OUTPUT0": other}])
    load = profile("echo", path, protocol="grpc", compression=compression)
    answers = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.Deflate
    done = drive_grpc(load, infer, compression=answers)
    assert failures(done) == {"": 30, "wrong answer": 30}
    assert "at [0, 4999]" in done.facts.failure_examples["wrong answer"]


def counted(*expected: Any) -> tuple[list[Any], list[Any]]:
    return [{"N": [3]} for _ in expected], list(expected)


def outs(*numbers: int) -> list[dict[str, list[int]]]:
    return [{"OUT": [number]} for number in numbers]


def test_each_answer_of_a_stream_is_held_against_its_own(tmp_path: Path, server: RunningServer):
    path = data_file(tmp_path, *counted(outs(0, 1, 2), outs(0, 2, 1), outs(0, 1), {"OUT": [0]}, {}))
    done = run(profile("count_up", path, protocol="grpc", streaming=True, load=Concurrency(in_flight=1)), server)
    assert failures(done) == {"": 24, "wrong answer": 36}
    assert done.facts.failure_examples["wrong answer"] == (
        "answer 1: output OUT is 1 at [0], not 2; 1 of 1 values are wrong"
    )
    assert done.columns.answers is not None
    assert done.columns.answers.count.tolist() == [3] * 60


def test_another_number_of_answers_is_a_wrong_answer(tmp_path: Path, server: RunningServer):
    path = data_file(tmp_path, *counted(outs(0, 1)))
    done = run(profile("count_up", path, protocol="grpc", streaming=True), server)
    assert done.facts.failure_examples["wrong answer"] == "3 answers came, not 2"


def test_a_model_that_answers_once_is_compared_over_streams_as_without(tmp_path: Path, server: RunningServer):
    load = profile("add_sub", sums(tmp_path, wrong=2), protocol="grpc", streaming=True)
    assert failures(run(load, server)) == {"": 20, "wrong answer": 40}


def test_a_list_of_answers_without_streams_is_a_sentence(tmp_path: Path, server: RunningServer):
    path = data_file(tmp_path, [{"N": [1]}], [[{"OUT": ["ab"]}, {"OUT": ["ab"]}]])
    with pytest.raises(LoadError, match=r"lists several answers to a request, .*use -i grpc --streaming") as caught:
        run(profile("spell", path), server)
    assert caught.value.exit_code == 2


@BOTH
@pytest.mark.parametrize(
    "load", [Concurrency(in_flight=1), Concurrency(in_flight=16), RequestRate(per_second=500.0)], ids=str
)
def test_outputs_in_shared_memory_are_read_and_compared(
    tmp_path: Path, server: RunningServer, protocol: Protocol, load
):
    changes = {"protocol": protocol, "shared_memory": "system", "load": load}
    assert failures(run(profile("add_sub", sums(tmp_path), **changes), server)) == {"": 60}
    done = run(profile("add_sub", sums(tmp_path, wrong=1), **changes), server)
    assert failures(done) == {"": 40, "wrong answer": 20}
    assert "output OUTPUT0 is 0.0 at [0, 0], not 1.0" in done.facts.failure_examples["wrong answer"]


@BOTH
def test_text_in_shared_memory_ends_where_its_elements_do(tmp_path: Path, server: RunningServer, protocol: Protocol):
    data = [{"N": [0, 3]}, {"N": [2]}, {"N": [1, 1]}]
    path = data_file(tmp_path, data, [{"OUT": ["", "ababab"]}, {"OUT": ["abab"]}, {"OUT": ["ab", "a"]}])
    done = run(profile("spell", path, protocol=protocol, shared_memory="system"), server)
    assert failures(done) == {"": 40, "wrong answer": 20}


def test_streams_leave_their_only_answer_in_shared_memory(tmp_path: Path, server: RunningServer):
    changes = {"protocol": "grpc", "streaming": True, "shared_memory": "system"}
    assert failures(run(profile("add_sub", sums(tmp_path, wrong=1), **changes), server)) == {
        "": 40,
        "wrong answer": 20,
    }
    path = data_file(tmp_path, *counted(outs(0, 1, 2)))
    with pytest.raises(LoadError, match="only one can be compared; leave out --shared-memory"):
        run(profile("count_up", path, **changes), server)


def test_a_server_that_answers_without_writing_is_found_out(tmp_path: Path):
    """What it wrote for the same request before would be right."""
    memory = MemoryServer()
    calls = iter(range(1000))

    def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        response = memory.infer(request, context) if next(calls) % 2 == 0 else pb.ModelInferResponse()
        del response.outputs[:]
        response.outputs.add(name="OUTPUT0", datatype="FP32", shape=[1, 8])
        return response

    row = {"content": [1.0] * 8, "shape": [8]}
    path = data_file(tmp_path, [{"INPUT0": row}], [{"OUTPUT0": {"content": [2.0] * 8, "shape": [8]}}])
    load = profile("echo", path, protocol="grpc", shared_memory="system", load=Concurrency(in_flight=1))
    done = drive_grpc(load, infer, more=memory.methods())
    assert failures(done) == {"": 30, "wrong answer": 30}

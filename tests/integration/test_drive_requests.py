"""What requests carry and what answers are checked for, end to end: the server says what it got."""

import asyncio
import json
from pathlib import Path
from threading import Lock

import grpc
import numpy as np
import pytest
import uvloop
from tritonclient.grpc import service_pb2 as pb

from perf_client.drive import drive
from perf_client.errors import LoadError
from perf_client.profile import Concurrency, LoadProfile, ModelShare, RequestRate, Sequences
from perf_client.summarize import summarize
from perf_client.target import Target
from perf_client.tensors import NUMPY_TYPES
from tests.fakes.driven import drive_grpc, drive_scripted, failures
from tests.fakes.grpc_server import echo, grpc_server
from tests.fakes.scripted_http import ScriptedServer, answer, answer_at_once

VALUES = [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]


def profile(**changes) -> LoadProfile:
    settings = {"model": "scripted", "load": Concurrency(in_flight=2), "request_count": 60, "timeout_s": 10.0}
    return LoadProfile(**(settings | changes))


def data_file(folder: Path, output: str, values: list[list[int]] | None = None) -> str:
    document = {
        "data": [{"INPUT0": row} for row in VALUES],
        "validation_data": [{output: {"content": row, "shape": [4]}} for row in values or VALUES],
    }
    path = folder / "data.json"
    path.write_text(json.dumps(document))
    return str(path)


def binary_echo(body: bytes, add: int = 0) -> bytes:
    """What a server answers that gives the input back, a little changed where asked."""
    raw = (np.frombuffer(body[-16:], "<f4") + np.float32(add)).tobytes()
    output = {"name": "OUTPUT0", "datatype": "FP32", "shape": [4], "parameters": {"binary_data_size": 16}}
    header = json.dumps({"model_name": "scripted", "outputs": [output]}).encode()
    return answer(header + raw, headers=f"Inference-Header-Content-Length: {len(header)}\r\n")


def chunked_echo(body: bytes, add: int = 0) -> bytes:
    head, _, content = binary_echo(body, add).partition(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"Inference"))
    pieces = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (content[:7], content[7:]))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + length
    return b"HTTP/1.1 100 Continue\r\n\r\n" + head + b"\r\n\r\n" + pieces + b"0\r\n\r\n"


def json_echo(body: bytes, add: int = 0) -> bytes:
    values = [value + add for value in np.frombuffer(body[-16:], "<f4").tolist()]
    output = {"name": "OUTPUT0", "datatype": "FP32", "shape": [4], "data": values}
    return answer(json.dumps({"outputs": [output]}).encode())


def echoing(echo_back=binary_echo, wrong_every: int = 0) -> ScriptedServer:
    async def script(number: int) -> bytes:
        wrong = wrong_every and number % wrong_every == 0
        return echo_back(server.log[number].body, 1 if wrong else 0)

    server = ScriptedServer(script, outputs=[{"name": "OUTPUT0", "datatype": "FP32", "shape": [4]}])
    return server


@pytest.mark.parametrize("echo_back", [binary_echo, chunked_echo, json_echo])
def test_wrong_answers_over_http_are_counted_exactly(tmp_path: Path, echo_back):
    server = echoing(echo_back, wrong_every=3)
    run = drive_scripted(server, profile(input_data=data_file(tmp_path, "OUTPUT0")))
    assert failures(run) == {"": 40, "wrong answer": 20}
    assert (
        "output OUTPUT0 is 2.0 at [0], not 1.0; 4 of 4 values are wrong" in run.facts.failure_examples["wrong answer"]
    )


def test_right_answers_over_http_are_answers(tmp_path: Path):
    run = drive_scripted(
        echoing(), profile(input_data=data_file(tmp_path, "OUTPUT0"), load=RequestRate(per_second=400.0))
    )
    assert failures(run) == {"": 60}


@pytest.mark.parametrize("changes", [{"sequences": Sequences(length=3)}, {"mix": (ModelShare(model="scripted"),) * 2}])
def test_answers_are_compared_in_sequences_and_mixes_too(tmp_path: Path, changes: dict):
    load = profile(input_data=data_file(tmp_path, "OUTPUT0"), load=Concurrency(in_flight=1), **changes)
    assert failures(drive_scripted(echoing(wrong_every=3), load)) == {"": 40, "wrong answer": 20}


def test_an_answer_that_can_not_be_compared_is_a_bad_one(tmp_path: Path):
    server = ScriptedServer(answer_at_once, outputs=[{"name": "OUTPUT0", "datatype": "FP32", "shape": [4]}])
    run = drive_scripted(server, profile(input_data=data_file(tmp_path, "OUTPUT0")))
    assert failures(run) == {"bad answer": 60}
    assert "not an answer of KServe v2" in run.facts.failure_examples["bad answer"]


def test_wrong_answers_over_grpc_are_counted_exactly(tmp_path: Path):
    lock, calls = Lock(), iter(range(10_000))

    def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        with lock:
            number = next(calls)
        response = echo(request, context)
        response.outputs[0].name = "OUTPUT0"
        if number % 4 == 0:
            response.raw_output_contents[0] = bytes(32)
        return response

    load = profile(
        model="echo",
        protocol="grpc",
        input_data=data_file(tmp_path, "OUTPUT0"),
        batch_size=2,
        load=Concurrency(in_flight=5),
    )
    run = drive_grpc(load, infer)
    assert failures(run) == {"": 45, "wrong answer": 15}
    assert "8 of 8 values are wrong" in run.facts.failure_examples["wrong answer"]


def test_grpc_failures_stay_what_they_are_when_answers_are_compared(tmp_path: Path):
    def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        context.abort(grpc.StatusCode.INTERNAL, "no memory")

    run = drive_grpc(profile(model="echo", protocol="grpc", input_data=data_file(tmp_path, "OUTPUT0")), infer)
    assert failures(run) == {"grpc INTERNAL": 60}
    assert run.facts.failure_examples["grpc INTERNAL"] == "no memory"


def test_wrong_answers_reach_the_result_and_its_adjusted_percentiles(tmp_path: Path):
    load = profile(input_data=data_file(tmp_path, "OUTPUT0"), warmup_s=0.0)
    run = drive_scripted(echoing(wrong_every=3), load)
    result = summarize(load, run.columns, run.facts)
    assert result.failures == {"wrong answer": 20}
    assert result.failure_adjusted_ns["p50"] is not None
    assert result.failure_adjusted_ns["p90"] is None


def test_everything_that_goes_with_a_request_arrives_drive_scripted():
    server = ScriptedServer(answer_at_once, outputs=[{"name": name, "datatype": "FP32", "shape": [4]} for name in "AB"])
    load = profile(
        version="3",
        parameters={"priority": 2, "flag": True, "note": "x", "share": 0.5},
        headers=(("X-Route", "blue"),),
        outputs=("B",),
        request_count=4,
    )
    run = drive_scripted(server, load)
    assert failures(run) == {"": 4}
    for exchange in server.log:
        assert "\r\nX-Route: blue\r\n" in exchange.header
        assert exchange.header.startswith("POST /v2/models/scripted/versions/3/infer ")
        size = int(exchange.header.split("Inference-Header-Content-Length: ")[1].split("\r\n")[0])
        document = json.loads(exchange.body[:size])
        assert document["parameters"] == {"priority": 2, "flag": True, "note": "x", "share": 0.5}
        assert document["outputs"] == [{"name": "B", "parameters": {"binary_data": True}}]


def test_tensors_travel_as_json_where_that_was_asked_for():
    server = ScriptedServer(
        answer_at_once,
        inputs=[
            {"name": "INPUT0", "datatype": "FP32", "shape": [2, 2]},
            {"name": "T", "datatype": "BYTES", "shape": [2]},
            {"name": "F", "datatype": "BOOL", "shape": [1]},
        ],
    )
    run = drive_scripted(server, profile(input_format="json", output_format="json", request_count=4, string_length=3))
    assert failures(run) == {"": 4}
    for exchange in server.log:
        assert "Inference-Header-Content-Length" not in exchange.header
        assert "\r\nContent-Type: application/json\r\n" in exchange.header
        document = json.loads(exchange.body)
        numbers, texts, flags = document["inputs"]
        assert (numbers["shape"], len(numbers["data"])) == ([2, 2], 4)
        assert [len(text) for text in texts["data"]] == [3, 3]
        assert type(flags["data"][0]) is bool
        assert "parameters" not in document


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_types_without_a_json_form_are_refused(datatype: str):
    server = ScriptedServer(answer_at_once, inputs=[{"name": "INPUT0", "datatype": datatype, "shape": [4]}])
    with pytest.raises(LoadError, match=f"input INPUT0 is of type {datatype}.* use --input-tensor-format binary"):
        drive_scripted(server, profile(input_format="json"))


def test_everything_that_goes_with_a_request_arrives_drive_grpc():
    seen: list[tuple[pb.ModelInferRequest, dict[str, str]]] = []

    def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        seen.append((request, dict(context.invocation_metadata())))
        return echo(request, context)

    parameters = {"priority": -2, "flag": True, "note": "x", "share": 0.5}
    drive_grpc(
        profile(
            model="echo",
            protocol="grpc",
            shapes={"INPUT0": (2,)},
            parameters=parameters,
            headers=(("X-Route", "blue"),),
            outputs=("OUTPUT0",),
            request_count=4,
        ),
        infer,
    )
    for request, metadata in seen:
        chosen = {
            name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in request.parameters.items()
        }
        assert chosen == parameters
        assert [output.name for output in request.outputs] == ["OUTPUT0"]
        assert metadata["x-route"] == "blue"


def test_the_questions_before_the_load_have_the_headers_too():
    class Guarded(ScriptedServer):
        async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
            header = await reader.readuntil(b"\r\n\r\n")
            headers.append(header)
            writer.write(self._describe(header.decode().split(" ")[1]) if header.startswith(b"GET") else answer())
            return header.startswith(b"GET")

    headers: list[bytes] = []
    drive_scripted(Guarded(answer_at_once), profile(headers=(("Authorization", "Bearer abc"),), request_count=2))
    assert len(headers) > 3
    assert all(b"\r\nAuthorization: Bearer abc\r\n" in header for header in headers)


@pytest.mark.parametrize("datatype", [*NUMPY_TYPES, "BF16", "BYTES"])
def test_every_type_arrives_over_both_protocols_with_the_same_bytes(datatype: str):
    tensors = {"name": "INPUT0", "datatype": datatype, "shape": [3]}
    server = ScriptedServer(answer_at_once, inputs=[tensors])
    one = {"load": Concurrency(in_flight=1), "request_count": 3, "string_length": 5}
    assert failures(drive_scripted(server, profile(**one))) == {"": 3}
    seen: list[pb.ModelInferRequest] = []

    def infer(request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        seen.append(request)
        return echo(request, context)

    def metadata(request: pb.ModelMetadataRequest, context: grpc.ServicerContext) -> pb.ModelMetadataResponse:
        response = pb.ModelMetadataResponse(name="echo")
        response.inputs.add(name="INPUT0", datatype=datatype, shape=[-1, 3])
        return response

    with grpc_server(infer, more={"ModelMetadata": (metadata, pb.ModelMetadataRequest)}) as port:
        load = profile(model="echo", protocol="grpc", **one)
        assert failures(uvloop.run(drive(load, Target("127.0.0.1", port, "grpc")))) == {"": 3}
    for exchange, request in zip(server.log, seen, strict=True):
        size = int(exchange.header.split("Inference-Header-Content-Length: ")[1].split("\r\n")[0])
        assert json.loads(exchange.body[:size])["inputs"][0]["datatype"] == request.inputs[0].datatype == datatype
        assert exchange.body[size:] == request.raw_input_contents[0]


def test_an_error_whose_body_comes_in_pieces_is_kept_as_the_example():
    class Late(ScriptedServer):
        async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
            header = await reader.readuntil(b"\r\n\r\n")
            if header.startswith(b"GET"):
                writer.write(self._describe(header.decode().split(" ")[1]))
                return True
            await reader.readexactly(int(header.split(b"\r\nContent-Length: ")[1].split(b"\r\n")[0]))
            for piece in (b"HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\n", b"no ", b"memory"):
                writer.write(piece)
                await asyncio.sleep(0.01)
            return True

    run = drive_scripted(Late(answer_at_once), profile(request_count=2))
    assert run.facts.failure_examples == {"http 500": "no memory"}


async def _hangs(number: int) -> bytes | None:
    await asyncio.sleep(30)
    return None


async def _closes(number: int) -> bytes | None:
    return None


async def _says_nothing(number: int) -> bytes | None:
    return answer(b"", "503 Busy")


@pytest.mark.parametrize(
    ("script", "name", "words"),
    [
        (_hangs, "timeout", "no complete answer 0."),
        (_closes, "connection closed", "the server closed the connection before it had answered"),
        (_says_nothing, "http 503", "its body is empty"),
    ],
)
def test_every_class_of_failure_has_an_example(script, name: str, words: str):
    run = drive_scripted(ScriptedServer(script), profile(request_count=4, timeout_s=0.2))
    assert failures(run) == {name: 4}
    assert words in run.facts.failure_examples[name]

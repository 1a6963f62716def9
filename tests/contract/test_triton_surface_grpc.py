"""The same calls to our runtime and to a real Triton (where TRITONSERVER names one) get the same answers over gRPC."""

from collections.abc import Iterator
from multiprocessing import shared_memory

import grpc
import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from tests.fakes.real_triton import TRITON, real_triton
from tests.fakes.running_server import running_server
from tests.fakes.surface_models import write_models

_TIMEOUT_S = 60


@pytest.fixture(scope="module", params=["ours", "triton"])
def stub(request, tmp_path_factory) -> Iterator[object]:
    repository = tmp_path_factory.mktemp("surface")
    write_models(repository)
    flags = ("--model-control-mode=explicit", "--load-model=*", "--exit-on-error=false")
    if request.param == "ours":
        with running_server(repository, *flags) as server, grpc.insecure_channel(server.grpc) as channel:
            yield service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return
    if TRITON is None:
        pytest.skip("no real Triton; name one with TRITONSERVER")
    with (
        real_triton(repository, *flags, probe="/v2/health/live") as addresses,
        grpc.insecure_channel(addresses[1]) as channel,
    ):
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def call(stub, method: str, request) -> dict:
    return MessageToDict(getattr(stub, method)(request, timeout=_TIMEOUT_S), preserving_proto_field_name=True)


def refusal(stub, method: str, request) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(stub, method, request)
    return caught.value.code().name, caught.value.details()


def set_parameter(parameter, value: object) -> None:
    field = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
    setattr(parameter, field, value)


def infer(model="free", data=(1.0, 2.0), shape=(2,), datatype="FP32", name="INPUT0", **more) -> pb.ModelInferRequest:
    """``raw`` stands for the data; ``place`` and ``outputs`` are parameters of the input and by output."""
    request = pb.ModelInferRequest(model_name=model, model_version=more.get("version", ""), id=more.get("id", ""))
    tensor = request.inputs.add(name=name, datatype=datatype, shape=shape)
    for key, value in more.get("place", {}).items():
        set_parameter(tensor.parameters[key], value)
    if "contents" in more:
        field, values = more["contents"]
        getattr(tensor.contents, field).extend(values)
    elif "place" not in more:
        request.raw_input_contents.append(more.get("raw", np.asarray(data, np.float32).tobytes()))
    for output, parameters in more.get("outputs", {}).items():
        asked = request.outputs.add(name=output)
        for key, value in parameters.items():
            set_parameter(asked.parameters[key], value)
    for key, value in more.get("parameters", {}).items():
        set_parameter(request.parameters[key], value)
    return request


REFUSALS = {
    "unknown model": (infer("nobody"), "NOT_FOUND", "Request for unknown model: 'nobody' is not found"),
    "unknown version": (infer(version="7"), "NOT_FOUND", "'free' version 7 is not found"),
    "model that failed to load": (infer("broken"), "NOT_FOUND", "'broken' has no available versions"),
    "wrong type": (infer(datatype="INT32"), "INVALID_ARGUMENT", "is 'INT32', but model 'free' expects 'FP32'"),
    "unknown type": (infer(datatype="FP99"), "INVALID_ARGUMENT", "INPUT0"),
    "wrong shape": (infer("rows", shape=(1, 2)), "INVALID_ARGUMENT", "Expected [-1,4], got [1,2]"),
    "negative shape": (infer(shape=(-2,)), "INVALID_ARGUMENT", "'INPUT0'"),
    "too many rows": (infer("rows", [0] * 12, (3, 4)), "INVALID_ARGUMENT", "batch-size must be <= 2 for 'rows'"),
    "unknown input": (infer(name="NOPE"), "INVALID_ARGUMENT", "NOPE"),
    "unknown output": (infer(outputs={"NOPE": {}}), "INVALID_ARGUMENT", "'NOPE' for model 'free'"),
    "too few bytes": (infer(raw=b"1234"), "INVALID_ARGUMENT", "Expected 8, got 4"),
    "too few contents": (infer(contents=("fp32_contents", [1.0])), "INVALID_ARGUMENT", "INPUT0"),
    "contents of another type": (infer(contents=("int_contents", [1, 2])), "INVALID_ARGUMENT", "INPUT0"),
    "halves as contents": (
        infer("halves", datatype="FP16", contents=("fp32_contents", [1])),
        "INVALID_ARGUMENT",
        "FP16",
    ),
    "torn text": (
        infer("texts", shape=(1,), datatype="BYTES", raw=b"\5\0\0\0h"),
        "INVALID_ARGUMENT",
        "incomplete string",
    ),
    "unary on a decoupled model": (infer("repeat"), "UNIMPLEMENTED", "doesn't support models with decoupled"),
    "an error of the model": (infer("fails"), "INTERNAL", "mine"),
    "unknown region": (
        infer(place={"shared_memory_region": "z", "shared_memory_byte_size": 8}),
        "NOT_FOUND",
        "Unable to find shared memory region: 'z'",
    ),
    "region without size": (infer(place={"shared_memory_region": "z"}), "INVALID_ARGUMENT", "shared_memory_byte_size"),
    "reserved parameter": (infer(parameters={"triton_own": "x"}), "INVALID_ARGUMENT", "reserved"),
    "priority that is a text": (infer(parameters={"priority": "x"}), "INVALID_ARGUMENT", "priority"),
    "priority below 0": (infer(parameters={"priority": -1}), "INVALID_ARGUMENT", "priority"),
    "time-out that is a text": (infer(parameters={"timeout": "x"}), "INVALID_ARGUMENT", "timeout"),
    "sequence id that is a flag": (infer(parameters={"sequence_id": True}), "INVALID_ARGUMENT", "sequence_id"),
    "start that is a number": (infer(parameters={"sequence_start": 1}), "INVALID_ARGUMENT", "sequence_start"),
    "no sequence": (infer("sums", [1], (1, 1)), "INVALID_ARGUMENT", "sums"),
    "sequence without start": (infer("sums", [1], (1, 1), parameters={"sequence_id": 9}), "INVALID_ARGUMENT", "START"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_inference_is_refused_with_the_same_status(stub, name):
    request, code, words = REFUSALS[name]
    told = refusal(stub, "ModelInfer", request)
    assert told[0] == code
    assert words in told[1]


def test_an_answer_has_the_same_form(stub):
    raw = np.array([1, 2], np.float32).tobytes()
    for request in (infer(id="q"), infer(id="q", contents=("fp32_contents", [1.0, 2.0])), infer(id="q", version="1")):
        answer = stub.ModelInfer(request, timeout=_TIMEOUT_S)
        output = pb.ModelInferResponse.InferOutputTensor(name="OUTPUT0", datatype="FP32", shape=[2])
        expected = pb.ModelInferResponse(model_name="free", model_version="1", id="q", outputs=[output])
        expected.raw_output_contents.append(raw)
        assert answer == expected


def test_classes_are_texts(stub):
    request = infer("labelled", [1, 4, 2, 2], (1, 4), outputs={"OUTPUT0": {"classification": 2}})
    answer = stub.ModelInfer(request, timeout=_TIMEOUT_S)
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == ("BYTES", [1, 2])
    assert answer.raw_output_contents[0] == b"\x0e\0\0\x004.000000:1:dog\x0f\0\0\x002.000000:2:bird"


MODEL_CALLS = {"ModelMetadata": pb.ModelMetadataRequest, "ModelConfig": pb.ModelConfigRequest}


@pytest.mark.parametrize("method", MODEL_CALLS)
@pytest.mark.parametrize(("name", "version"), [("nobody", ""), ("broken", ""), ("free", "7")])
def test_what_is_not_served_has_neither_metadata_nor_configuration(stub, method, name, version):
    assert refusal(stub, method, MODEL_CALLS[method](name=name, version=version))[0] == "NOT_FOUND"


@pytest.mark.parametrize("name", ["add_sub", "free", "rows", "chain", "texts"])
def test_metadata_and_configuration_agree(stub, name):
    metadata = call(stub, "ModelMetadata", pb.ModelMetadataRequest(name=name))
    config = stub.ModelConfig(pb.ModelConfigRequest(name=name), timeout=_TIMEOUT_S).config
    batch = [-1] if config.max_batch_size else []
    assert metadata["versions"] == ["1"]
    assert metadata["platform"] == (config.platform or config.backend)
    assert [(item["name"], list(map(int, item["shape"]))) for item in metadata["inputs"]] == [
        (tensor.name, [*batch, *tensor.dims]) for tensor in config.input
    ]
    assert config.version_policy.latest.num_versions == 1


def test_readiness_is_no_error(stub):
    for name, version, ready in [
        ("free", "", True),
        ("free", "7", False),
        ("nobody", "", False),
        ("broken", "", False),
    ]:
        assert stub.ModelReady(pb.ModelReadyRequest(name=name, version=version), timeout=_TIMEOUT_S).ready is ready
    assert stub.ServerLive(pb.ServerLiveRequest(), timeout=_TIMEOUT_S).live
    assert not stub.ServerReady(pb.ServerReadyRequest(), timeout=_TIMEOUT_S).ready


def test_statistics_have_the_same_fields(stub):
    stub.ModelInfer(infer("rows", [1, 2, 3, 4], (1, 4)), timeout=_TIMEOUT_S)
    (entry,) = stub.ModelStatistics(pb.ModelStatisticsRequest(name="rows"), timeout=_TIMEOUT_S).model_stats
    told = entry.inference_stats
    assert (entry.name, entry.version, entry.execution_count) == ("rows", "1", entry.inference_count)
    assert told.success.count == told.queue.count == told.compute_infer.count == entry.inference_count > 0
    assert [(batch.batch_size, batch.compute_infer.count) for batch in entry.batch_stats] == [
        (1, entry.execution_count)
    ]
    assert entry.last_inference > 1_600_000_000_000


@pytest.mark.parametrize(("name", "version"), [("nobody", ""), ("broken", ""), ("free", "7")])
def test_statistics_of_what_is_not_served_are_an_invalid_argument(stub, name, version):
    code, words = refusal(stub, "ModelStatistics", pb.ModelStatisticsRequest(name=name, version=version))
    assert (code, "not available" in words) == ("INVALID_ARGUMENT", True)


def test_the_index_names_states_and_reasons(stub):
    models = stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=_TIMEOUT_S).models
    found = {model.name: (model.version, model.state) for model in models}
    assert found["free"] == ("1", "READY")
    assert found["broken"] == ("1", "UNAVAILABLE")
    (broken,) = [model for model in models if model.name == "broken"]
    assert "nothing_here" in broken.reason
    ready = stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True), timeout=_TIMEOUT_S).models
    assert "broken" not in {model.name for model in ready}


def test_models_come_and_go(stub):
    stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="add_sub"), timeout=_TIMEOUT_S)
    assert refusal(stub, "ModelMetadata", pb.ModelMetadataRequest(name="add_sub"))[0] == "NOT_FOUND"
    stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="add_sub"), timeout=_TIMEOUT_S)
    assert call(stub, "ModelMetadata", pb.ModelMetadataRequest(name="add_sub"))["name"] == "add_sub"
    stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="nobody"), timeout=_TIMEOUT_S)


def test_a_load_that_fails_says_why(stub):
    code, words = refusal(stub, "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="broken"))
    assert (code, "nothing_here" in words) == ("INVALID_ARGUMENT", True)
    request = pb.RepositoryModelLoadRequest(model_name="free")
    request.parameters["other"].string_param = "x"
    assert refusal(stub, "RepositoryModelLoad", request)[0] == "INVALID_ARGUMENT"


@pytest.fixture
def region():
    memory = shared_memory.SharedMemory(create=True, size=64)
    yield memory
    memory.close()
    memory.unlink()


def test_regions_of_shared_memory(stub, region):
    def register(name: str, key: str, byte_size: int) -> pb.SystemSharedMemoryRegisterRequest:
        return pb.SystemSharedMemoryRegisterRequest(name=name, key=key, byte_size=byte_size)

    method, key = "SystemSharedMemoryRegister", f"/{region.name}"
    call(stub, method, register("a", key, 64))
    status = stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest(name="a"), timeout=_TIMEOUT_S).regions[
        "a"
    ]
    assert (status.name, status.key, status.offset, status.byte_size) == ("a", key, 0, 64)
    assert refusal(stub, method, register("a", key, 64))[0] == "ALREADY_EXISTS"
    assert refusal(stub, method, register("b", key, 2**20))[0] == "INTERNAL"
    assert refusal(stub, method, register("b", "/no_such_region", 4))[0] == "INTERNAL"
    place = {"shared_memory_region": "a", "shared_memory_byte_size": 8}
    region.buf[:8] = np.array([3, 4], np.float32).tobytes()
    stub.ModelInfer(infer(place=place, outputs={"OUTPUT0": {**place, "shared_memory_offset": 8}}), timeout=_TIMEOUT_S)
    assert bytes(region.buf[8:16]) == bytes(region.buf[:8])
    beyond = {**place, "shared_memory_offset": 60}
    assert refusal(stub, "ModelInfer", infer(place=beyond))[0] == "INVALID_ARGUMENT"
    assert refusal(stub, "ModelInfer", infer(place={**place, "shared_memory_byte_size": 12}))[0] == "INVALID_ARGUMENT"
    small = {"OUTPUT0": {**place, "shared_memory_byte_size": 4}}
    assert refusal(stub, "ModelInfer", infer(outputs=small))[0] == "INTERNAL"
    call(stub, "SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name="a"))
    assert refusal(stub, "SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(name="a"))[0] == "NOT_FOUND"


def test_cuda_memory_without_a_device(stub):
    assert refusal(stub, "CudaSharedMemoryStatus", pb.CudaSharedMemoryStatusRequest(name="a"))[0] == "NOT_FOUND"
    request = pb.CudaSharedMemoryRegisterRequest(name="a", raw_handle=b"a" * 64, device_id=0, byte_size=4)
    assert refusal(stub, "CudaSharedMemoryRegister", request)[0] in ("INVALID_ARGUMENT", "INTERNAL")


def streamed(stub, *requests: pb.ModelInferRequest) -> list[pb.ModelStreamInferResponse]:
    return list(stub.ModelStreamInfer(iter(requests), timeout=_TIMEOUT_S))


def final(answer: pb.ModelStreamInferResponse) -> bool:
    return answer.infer_response.parameters["triton_final_response"].bool_param


TELL_END = {"triton_enable_empty_final_response": True}


def test_a_stream_says_which_answer_is_the_last(stub):
    (plain,) = streamed(stub, infer(id="a"))
    assert (plain.infer_response.id, final(plain), plain.error_message) == ("a", True, "")
    assert len(streamed(stub, infer(parameters=TELL_END))) == 1
    answers = streamed(stub, infer("repeat", id="b"))
    assert [(answer.infer_response.id, final(answer)) for answer in answers] == [("b", False)] * 2
    answers = streamed(stub, infer("repeat", id="c", parameters=TELL_END))
    assert [(len(answer.infer_response.outputs), final(answer)) for answer in answers] == [(1, False)] * 2 + [(0, True)]
    assert answers[-1].infer_response.model_name == "repeat"
    assert {answer.infer_response.id for answer in answers} == {"c"}


def test_errors_do_not_end_a_stream_and_carry_their_request(stub):
    answers = streamed(stub, infer("nobody", id="1"), infer("fails", id="2"), infer(raw=b"12", id="3"), infer(id="4"))
    told = {answer.infer_response.id: answer.error_message for answer in answers}
    assert told.keys() == {"1", "2", "3", "4"}
    assert "'nobody' is not found" in told["1"]
    assert "mine" in told["2"]
    assert "Expected 8, got 2" in told["3"]
    assert told["4"] == ""
    (failed,) = [answer.infer_response for answer in answers if answer.infer_response.id == "2"]
    assert (failed.model_name, failed.parameters["triton_final_response"].bool_param) == ("fails", True)


def test_a_sequence_over_a_stream(stub):
    def step(value: float, **flags: bool) -> pb.ModelInferRequest:
        return infer("sums", [value], (1, 1), parameters={"sequence_id": 5, **flags})

    answers = streamed(stub, step(1, sequence_start=True), step(2), step(3, sequence_end=True))
    sums = [np.frombuffer(answer.infer_response.raw_output_contents[0], np.float32)[0] for answer in answers]
    assert sums == [1, 3, 6]


def test_a_stream_without_requests_ends(stub):
    assert streamed(stub) == []

"""What unmodified tritonclient sees of the runtime, over HTTP and gRPC alike."""

import asyncio
import json
import queue
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes  # tritonclient takes BF16 in its type
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as triton_grpc_aio
import tritonclient.http as triton_http
import tritonclient.http.aio as triton_http_aio
from tritonclient.utils import InferenceServerException

from tests.fakes.repositories import write_add_sub, write_ensemble, write_onnx, write_python, write_simulated
from tests.fakes.running_server import RunningServer, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("models")
    write_ensemble(repository)
    write_onnx(repository)
    for name, type_name in (
        ("fp32", "FP32"),
        ("fp16", "FP16"),
        ("bf16", "BF16"),
        ("bool", "BOOL"),
        ("bytes", "STRING"),
    ):
        write_simulated(repository, f"echo_{name}", type_name=f"TYPE_{type_name}", dims=(-1,))
    write_add_sub(repository, "typed", type_name="TYPE_UINT8", dims=(2,), max_batch_size=0)
    write_python(repository, "raises", BROKEN)
    with running_server(repository) as running:
        yield running


BROKEN = """\
class TritonPythonModel:
    def execute(self, requests):
        raise ValueError("model is in a bad mood")
"""


@dataclass(frozen=True)
class Api:
    """One of the two client libraries, which share their names."""

    name: str
    module: ModuleType
    aio: ModuleType
    client: Any
    address: str

    def input(self, name: str, array: np.ndarray, datatype: str, **how: Any) -> Any:
        tensor = self.module.InferInput(name, list(array.shape), datatype)
        tensor.set_data_from_numpy(array, **how)
        return tensor

    def wanted(self, name: str, **how: Any) -> Any:
        return self.module.InferRequestedOutput(name, **how)

    def infer(self, model: str, *inputs: Any, **options: Any) -> Any:
        return self.client.infer(model, list(inputs), **options)

    def add_sub(self, left: np.ndarray, right: np.ndarray, **options: Any) -> Any:
        inputs = self.input("INPUT0", left, "INT32"), self.input("INPUT1", right, "INT32")
        return self.infer("add_sub", *inputs, **options)

    def as_dict(self, answer: Any) -> dict[str, Any]:
        if isinstance(answer, dict | list):
            return answer
        from google.protobuf.json_format import MessageToDict

        return MessageToDict(answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


@pytest.fixture(params=["http", "grpc"])
def api(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Api]:
    modules = {"http": (triton_http, triton_http_aio), "grpc": (triton_grpc, triton_grpc_aio)}
    module, aio = modules[request.param]
    address = getattr(server, request.param)
    client = module.InferenceServerClient(address)
    try:
        yield Api(request.param, module, aio, client, address)
    finally:
        client.close()


LEFT = np.array([[1, 2, 3, 4]], np.int32)
RIGHT = np.array([[10, 20, 30, 40]], np.int32)


def test_health(api):
    assert api.client.is_server_live()
    assert api.client.is_server_ready()
    assert api.client.is_model_ready("add_sub")
    assert api.client.is_model_ready("add_sub", "1")
    assert not api.client.is_model_ready("add_sub", "2")
    assert not api.client.is_model_ready("nowhere")


def test_server_metadata(api):
    told = api.as_dict(api.client.get_server_metadata())
    assert told["name"] == "serving-analyzer"
    assert {"binary_tensor_data", "statistics", "model_configuration", "model_repository"} <= set(told["extensions"])


def test_model_metadata(api):
    told = api.as_dict(api.client.get_model_metadata("add_sub"))
    assert told["name"] == "add_sub"
    assert told["versions"] == ["1"]
    shapes = {tensor["name"]: [int(size) for size in tensor["shape"]] for tensor in told["inputs"] + told["outputs"]}
    assert shapes == {name: [-1, 4] for name in ("INPUT0", "INPUT1", "OUTPUT0", "OUTPUT1")}
    assert {tensor["datatype"] for tensor in told["inputs"]} == {"INT32"}


def test_model_config(api):
    told = api.as_dict(api.client.get_model_config("add_sub"))
    config = told.get("config", told)
    assert config["max_batch_size"] == 8
    assert config["input"][0]["data_type"] == "TYPE_INT32"
    assert [int(size) for size in config["input"][0]["dims"]] == [4]


def test_repository_index(api):
    told = api.as_dict(api.client.get_model_repository_index())
    models = told if isinstance(told, list) else told["models"]
    states = {model["name"]: model["state"] for model in models}
    assert {"add_sub", "chain", "doubled", "affine"} <= set(states)
    assert set(states.values()) == {"READY"}


def test_inference(api):
    answer = api.add_sub(LEFT, RIGHT)
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), LEFT + RIGHT)
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT1"), LEFT - RIGHT)


def test_answer_carries_the_request_id_and_the_version(api):
    answer = api.as_dict(api.add_sub(LEFT, RIGHT, request_id="night 7 ü").get_response())
    assert answer["id"] == "night 7 ü"
    assert answer["model_name"] == "add_sub"
    assert answer["model_version"] == "1"


def test_batch_and_named_version(api):
    left = np.arange(32, dtype=np.int32).reshape(8, 4)
    answer = api.add_sub(left, left, model_version="1")
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), 2 * left)


def test_only_the_outputs_asked_for_come_back(api):
    answer = api.add_sub(LEFT, RIGHT, outputs=[api.wanted("OUTPUT1")])
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT1"), LEFT - RIGHT)
    assert answer.as_numpy("OUTPUT0") is None


def test_ensemble(api):
    answer = api.infer("chain", api.input("X", LEFT, "INT32"), api.input("Y", RIGHT, "INT32"))
    np.testing.assert_array_equal(answer.as_numpy("SUM2"), 2 * (LEFT + RIGHT))
    np.testing.assert_array_equal(answer.as_numpy("DIFF"), LEFT - RIGHT)


def test_onnx_model(api):
    array = np.array([[0, 1, 2, 3]], np.float32)
    answer = api.infer("affine", api.input("x", array, "FP32"))
    np.testing.assert_allclose(answer.as_numpy("y"), 2 * array + 1)


@pytest.mark.parametrize(
    ("model", "datatype", "array"),
    [
        ("echo_fp32", "FP32", np.array([[1.5, -2.0, np.inf]], np.float32)),
        ("echo_fp16", "FP16", np.array([[1.5, -2.0, 65504]], np.float16)),
        ("echo_bool", "BOOL", np.array([[True, False, True]])),
        ("echo_bytes", "BYTES", np.array([[b"", b"\x00\xff", "grün".encode()]], np.object_)),
    ],
)
def test_each_kind_of_tensor_comes_back_as_it_was(api, model, datatype, array):
    answer = api.infer(model, api.input("INPUT0", array, datatype), outputs=[api.wanted("OUTPUT0")])
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), array)


def test_bf16_comes_back_as_it_was(api):
    array = np.array([[1.5, -2.0, 3.0]], ml_dtypes.bfloat16)
    answer = api.infer("echo_bf16", api.input("INPUT0", array, "BF16"))
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0").astype(np.float32), array.astype(np.float32))


def test_tensor_of_10_mb(api):
    array = np.random.default_rng(1).standard_normal((1, 2_500_000), dtype=np.float32)
    for _ in range(2):
        answer = api.infer("echo_fp32", api.input("INPUT0", array, "FP32"))
        np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), array)


def test_empty_tensor(api):
    answer = api.infer("echo_fp32", api.input("INPUT0", np.zeros((1, 0), np.float32), "FP32"))
    assert answer.as_numpy("OUTPUT0").shape == (1, 0)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_messages(api, encoding):
    http_only = {"request_compression_algorithm": encoding, "response_compression_algorithm": encoding}
    options = http_only if api.name == "http" else {"compression_algorithm": encoding}
    answer = api.add_sub(LEFT, RIGHT, **options)
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), LEFT + RIGHT)


def wrong_requests(api: Api) -> dict[str, tuple[str, list[Any], str]]:
    four, shape = np.zeros((1, 4), np.int32), np.zeros((1, 3), np.int32)
    left = api.input("INPUT0", four, "INT32")
    floats = api.input("INPUT1", four.astype(np.float32), "FP32")
    nine = np.zeros((9, 4), np.int32)
    return {
        "unknown model": ("nowhere", [left], "'nowhere' is not found"),
        "missing input": ("add_sub", [left], "expected 2 inputs but got 1 input"),
        "unknown input": ("add_sub", [left, api.input("OTHER", four, "INT32")], "unexpected inference input 'OTHER'"),
        "wrong shape": ("add_sub", [left, api.input("INPUT1", shape, "INT32")], "unexpected shape for input 'INPUT1'"),
        "wrong type": ("add_sub", [left, floats], "FP32"),
        "large batch": (
            "add_sub",
            [api.input("INPUT0", nine, "INT32"), api.input("INPUT1", nine, "INT32")],
            "batch-size must be <= 8",
        ),
        "raising model": ("raises", [api.input("INPUT0", np.zeros(1, np.float32), "FP32")], "bad mood"),
    }


@pytest.mark.parametrize(
    "case",
    ["unknown model", "missing input", "unknown input", "wrong shape", "wrong type", "large batch", "raising model"],
)
def test_wrong_request_gets_one_sentence(api, case):
    model, inputs, sentence = wrong_requests(api)[case]
    with pytest.raises(InferenceServerException) as caught:
        api.infer(model, *inputs)
    assert sentence in caught.value.message()
    assert "Traceback" not in caught.value.message()


def test_wrong_version_and_output_are_refused(api):
    with pytest.raises(InferenceServerException, match=r"version|not found"):
        api.add_sub(LEFT, RIGHT, model_version="7")
    with pytest.raises(InferenceServerException, match="NO_SUCH"):
        api.add_sub(LEFT, RIGHT, outputs=[api.wanted("NO_SUCH")])


def test_loading_is_refused_unless_control_is_explicit(api):
    with pytest.raises(InferenceServerException, match="--model-control-mode explicit"):
        api.client.load_model("add_sub")
    with pytest.raises(InferenceServerException, match="--model-control-mode explicit"):
        api.client.unload_model("add_sub")


def statistics(api: Api, model: str) -> dict[str, Any]:
    return api.as_dict(api.client.get_inference_statistics(model))["model_stats"][0]


def test_statistics_count_requests_and_batches(api):
    before = statistics(api, "add_sub")
    api.add_sub(LEFT, RIGHT)
    api.add_sub(np.repeat(LEFT, 3, axis=0), np.repeat(RIGHT, 3, axis=0))
    after = statistics(api, "add_sub")
    assert int(after["inference_count"]) - int(before["inference_count"]) == 4
    assert int(after["execution_count"]) - int(before["execution_count"]) == 2
    counts = {name: int(after["inference_stats"][name]["count"]) for name in ("success", "queue", "compute_input")}
    counts |= {name: int(after["inference_stats"][name]["count"]) for name in ("compute_infer", "compute_output")}
    assert len(set(counts.values())) == 1
    assert 3 in {int(entry["batch_size"]) for entry in after["batch_stats"]}


def test_failures_are_counted(api):
    with pytest.raises(InferenceServerException):
        api.infer("raises", api.input("INPUT0", np.zeros(1, np.float32), "FP32"))
    assert int(statistics(api, "raises")["inference_stats"]["fail"]["count"]) > 0


def test_many_requests_at_once_get_their_own_answers(api):
    async def run() -> None:
        client = api.aio.InferenceServerClient(api.address)

        async def ask(number: int) -> None:
            array = np.full((1, 4), number, np.int32)
            inputs = [api.input("INPUT0", array, "INT32"), api.input("INPUT1", array, "INT32")]
            answer = await client.infer("add_sub", inputs, request_id=str(number))
            assert answer.as_numpy("OUTPUT0").tolist() == [[2 * number] * 4]

        await asyncio.gather(*(ask(number) for number in range(200)))
        await client.close()

    asyncio.run(run())


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp's, on what tritonclient does
def test_large_tensors_at_once(api):
    async def run() -> None:
        client = api.aio.InferenceServerClient(api.address)

        async def ask(number: int) -> None:
            array = np.full((1, 400_000 + number), number, np.float32)
            answer = await client.infer("echo_fp32", [api.input("INPUT0", array, "FP32")])
            np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), array)

        await asyncio.gather(*(ask(number) for number in range(16)))
        await client.close()

    asyncio.run(run())


def test_json_tensors_over_http(server):
    client = triton_http.InferenceServerClient(server.http)
    tensors = []
    for name, array in (("INPUT0", LEFT), ("INPUT1", RIGHT)):
        tensors.append(triton_http.InferInput(name, list(array.shape), "INT32"))
        tensors[-1].set_data_from_numpy(array, binary_data=False)
    wanted = [
        triton_http.InferRequestedOutput("OUTPUT0", binary_data=False),
        triton_http.InferRequestedOutput("OUTPUT1"),
    ]
    answer = client.infer("add_sub", tensors, outputs=wanted)
    assert answer.get_output("OUTPUT0")["data"] == [11, 22, 33, 44]
    assert "data" not in answer.get_output("OUTPUT1")
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT1"), LEFT - RIGHT)
    client.close()


def test_typed_contents_over_grpc(server):
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    request = service_pb2.ModelInferRequest(model_name="typed")
    for name, values in (("INPUT0", [200, 7]), ("INPUT1", [50, 7])):
        tensor = request.inputs.add(name=name, datatype="UINT8", shape=[2])
        tensor.contents.uint_contents.extend(values)
    with grpc.insecure_channel(server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request, timeout=10)
        assert list(answer.raw_output_contents) == [bytes([250, 14]), bytes([150, 0])]
        request.inputs[0].contents.uint_contents[0] = 256
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/inference.GRPCInferenceService/NoSuchCall")(b"")
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_grpc_stream_answers_each_request_and_outlives_a_failed_one(server):
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client = triton_grpc.InferenceServerClient(server.grpc)
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    tensors = []
    for name in ("INPUT0", "INPUT1"):
        tensors.append(triton_grpc.InferInput(name, [1, 4], "INT32"))
        tensors[-1].set_data_from_numpy(LEFT)
    client.async_stream_infer("add_sub", tensors[:1], request_id="bad")
    for number in range(5):
        client.async_stream_infer("add_sub", tensors, request_id=str(number))
    got = [answers.get(timeout=20) for _ in range(6)]
    client.stop_stream()
    client.close()
    assert {result.get_response().id for result, error in got if error is None} == set("01234")
    assert ["expected 2 inputs" in error.message() for _, error in got if error is not None] == [True]


def test_grpc_call_that_is_cancelled_leaves_the_connection_usable(server):
    client = triton_grpc.InferenceServerClient(server.grpc)
    tensor = triton_grpc.InferInput("INPUT0", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 4), np.float32))
    done: queue.Queue[Any] = queue.Queue()
    for _ in range(20):
        client.async_infer("echo_fp32", [tensor], lambda result, error: done.put(error)).cancel()
    for _ in range(20):
        done.get(timeout=20)
    assert client.infer("echo_fp32", [tensor], client_timeout=10).as_numpy("OUTPUT0").shape == (1, 4)
    client.close()


def test_metrics_page_counts_under_triton_names(server):
    client = triton_http.InferenceServerClient(server.http)
    tensor = triton_http.InferInput("INPUT0", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 4), np.float32))
    client.infer("echo_fp32", [tensor])
    client.close()
    pages = []
    for address in (server.metrics, server.http):
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            pages.append(answer.read().decode())
    for page in pages:
        values = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
        assert int(values['nv_inference_request_success{model="echo_fp32",version="1"}']) > 0
        assert 'nv_inference_request_failure{model="echo_fp32",version="1",reason="OTHER"}' in values
        for name in ("count", "exec_count", "request_duration_us", "queue_duration_us", "compute_infer_duration_us"):
            assert f'nv_inference_{name}{{model="echo_fp32",version="1"}}' in values


def as_json(module: ModuleType) -> dict[str, bool]:
    return {"as_json": True} if module is triton_grpc else {}


def test_control_over_models(tmp_path: Path):
    write_add_sub(tmp_path)
    write_simulated(tmp_path, "other")
    with running_server(tmp_path, "--model-control-mode", "explicit", "--load-model", "other") as server:
        assert server.models == 1
        for module, address in ((triton_http, server.http), (triton_grpc, server.grpc)):
            client = module.InferenceServerClient(address)
            assert not client.is_model_ready("add_sub")
            client.load_model("add_sub")
            assert client.is_model_ready("add_sub")
            config = client.get_model_config("add_sub", **as_json(module))
            config = config.get("config", config) | {"max_batch_size": 2}
            client.load_model("add_sub", config=json.dumps(config))
            changed = client.get_model_config("add_sub", **as_json(module))
            assert changed.get("config", changed)["max_batch_size"] == 2
            client.unload_model("add_sub")
            assert not client.is_model_ready("add_sub")
            with pytest.raises(InferenceServerException, match="gone"):
                client.load_model("gone")
            client.close()
        assert server.end() == 0

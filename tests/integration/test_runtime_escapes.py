"""Names and paths in requests to a real server that try to reach what lies beside its repository."""

import base64
import http.client
import json
from collections.abc import Iterator
from urllib.parse import quote

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.fakes import repositories
from tests.fakes.running_server import RunningServer, running_server

NAMES = [
    "..",
    "../other",
    "../other/secret",
    "m/../../other",
    "/etc",
    "nul\0name",
    ".hidden",
    "%2e%2e",
    "m\n",
    "x" * 9000,
]
CONFIG = {
    "backend": "simulated",
    "max_batch_size": 3,
    "input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [4]}],
    "output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [4]}],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("served")
    repositories.write_simulated(folder / "other", "secret")
    repositories.write_simulated(folder / "models", "m")
    repositories.write_simulated(folder / "models", ".hidden")
    with running_server(folder / "models", "--model-control-mode", "explicit", "--load-model", "m") as running:
        yield running


def ask(server: RunningServer, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(server.http, timeout=30)
    try:
        connection.putrequest(method, path, skip_accept_encoding=True)  # http.client checks nothing of it
        data = b"" if body is None else json.dumps(body).encode()
        connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:20]))
def test_no_http_path_reaches_a_model_outside_of_the_repository(server: RunningServer, name: str):
    quoted = quote(name, safe="")
    infer = {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "data": [0, 1, 2, 3]}]}
    paths = [("GET", f"/v2/models/{quoted}{rest}", None) for rest in ("", "/config", "/stats", "/versions/1", "/ready")]
    paths += [("GET", f"/v2/models/m/versions/{quoted}", None), ("GET", f"/api/status/{quoted}", None)]
    paths += [("POST", f"/v2/models/{quoted}/{verb}", infer) for verb in ("infer", "generate", "generate_stream")]
    paths += [("POST", f"/v2/repository/models/{quoted}/load", {})]
    paths += [("GET", f"/v2/{kind}sharedmemory/region/{quoted}/status", None) for kind in ("system", "cuda")]
    for method, path, body in paths:
        status, text = ask(server, method, path, body)
        assert 400 <= status < 500, (path, status, text)
        assert b"secret" not in text.replace(name.encode(), b"")
    assert ask(server, "GET", "/v2/models/m/ready")[0] == 200


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:20]))
def test_no_grpc_name_reaches_a_model_outside_of_the_repository(server: RunningServer, name: str):
    with grpc.insecure_channel(server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        calls = [
            lambda: stub.ModelMetadata(service_pb2.ModelMetadataRequest(name=name)),
            lambda: stub.ModelConfig(service_pb2.ModelConfigRequest(name=name)),
            lambda: stub.ModelStatistics(service_pb2.ModelStatisticsRequest(name=name)),
            lambda: stub.ModelMetadata(service_pb2.ModelMetadataRequest(name="m", version=name)),
            lambda: stub.ModelInfer(service_pb2.ModelInferRequest(model_name=name)),
            lambda: stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name=name)),
        ]
        for call in calls:
            with pytest.raises(grpc.RpcError) as caught:
                call()
            assert caught.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize(
    "path",
    [
        "1/../../../gone",
        "../gone",
        "/tmp/gone",
        "..",
        ".",
        "",
        "1",
        "1/nul\0",
        "a/" * 3000 + "x",
        "config.pbtxt/x",
        "1/" + "n" * 300,
    ],
    ids=lambda path: repr(path[:20]),
)
def test_no_file_of_a_load_request_is_written_elsewhere(server: RunningServer, path: str):
    content = base64.b64encode(b"escaped").decode()
    parameters = {
        "config": json.dumps(CONFIG),
        f"file:{path}": content,
        "file:1/a": content,
        "file:config.pbtxt": content,
    }
    status, text = ask(server, "POST", "/v2/repository/models/sent/load", {"parameters": parameters})
    assert status == 400, text
    assert json.loads(text)["error"].startswith("failed to load 'sent'")
    assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("model", ["..", "a/b", "", "nul\0", "n" * 400, ".x"], ids=lambda name: repr(name[:20]))
def test_no_model_of_a_clients_files_has_a_name_that_leads_elsewhere(server: RunningServer, model: str):
    parameters = {"config": json.dumps(CONFIG), "file:1/a": base64.b64encode(b"x").decode()}
    status, text = ask(
        server, "POST", f"/v2/repository/models/{quote(model, safe='')}/load", {"parameters": parameters}
    )
    assert status == 404, text


@pytest.mark.parametrize("field", ["default_model_filename", "label_filename"])
@pytest.mark.parametrize(
    "name", ["../../other/secret/config.pbtxt", "/etc/hostname", "nul\0", "1/../../../x", "n" * 5000]
)
def test_no_file_name_of_a_configuration_leads_out(server: RunningServer, field: str, name: str):
    config = json.loads(json.dumps(CONFIG))
    if field == "label_filename":
        config["output"][0]["label_filename"] = name
    else:
        config |= {"default_model_filename": name, "backend": "onnxruntime"}
    parameters = {"config": json.dumps(config)}
    status, text = ask(server, "POST", "/v2/repository/models/m/load", {"parameters": parameters})
    assert status == 400, text
    assert "Traceback" not in server.log.read_text()
    assert ask(server, "GET", "/v2/models/m/ready")[0] == 200, "the old one goes on serving"


@pytest.mark.parametrize("key", ["/../etc/hostname", "../../etc/hostname", "/..", "", "/", "a/b", "/nul\0", "k" * 400])
def test_no_key_of_shared_memory_leads_out(server: RunningServer, key: str):
    body = {"key": key, "offset": 0, "byte_size": 1}
    status, text = ask(server, "POST", "/v2/systemsharedmemory/region/r/register", body)
    assert (status, b"Unable to open shared memory region" in text) in ((400, True), (500, True)), text

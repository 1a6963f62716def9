"""Log and trace settings and request parameters with unmodified tritonclient, and the first generation's probes."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tests.fakes.repositories import write_python, write_simulated
from tests.fakes.running_server import RunningServer, running_server

# Answers with what it was told of its request besides the tensor.
TELLS = """\
import json
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            told = {"timeout": request.timeout(), "own": json.loads(request.parameters()), "id": request.request_id()}
            array = np.array([[json.dumps(told).encode()]], np.object_)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)]))
        return answers
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("models")
    write_simulated(repository, "one")
    queue = """dynamic_batching {
      priority_levels: 2 default_priority_level: 2 default_queue_policy { allow_timeout_override: true }
    }"""
    write_python(repository, "tells", TELLS, type_name="TYPE_STRING", dims=(1,), max_batch_size=1, extra=queue)
    with running_server(repository) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def client(request, server):
    module = {"http": triton_http, "grpc": triton_grpc}[request.param]
    opened = module.InferenceServerClient(getattr(server, request.param))
    yield opened
    opened.close()


def told(settings: object, name: str) -> object:
    if isinstance(settings, dict):
        return settings[name]
    value = settings.settings[name]
    if hasattr(value, "value"):
        values = list(value.value)
        return values if name == "trace_level" else values[0]
    return getattr(value, value.WhichOneof("parameter_choice"))


def test_log_settings_are_read_and_changed(client):
    changed = client.update_log_settings({"log_verbose_level": 1, "log_info": False})
    assert (told(changed, "log_verbose_level"), told(changed, "log_info")) == (1, False)
    client.update_log_settings({"log_verbose_level": 0, "log_info": True})
    assert told(client.get_log_settings(), "log_info") is True
    assert told(client.get_log_settings(), "log_format") == "default"
    assert told(client.update_log_settings({"log_format": "ISO8601"}), "log_format") == "ISO8601"
    client.update_log_settings({"log_format": "default"})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"log_file": "/tmp/elsewhere"}, "can not be updated through network protocol"),
        ({"log_noise": True}, "not known"),
        ({"log_format": "xml"}, "invalid argument for log_format, got: xml"),
    ],
)
def test_wrong_log_settings_are_refused(client, settings, words):
    with pytest.raises(InferenceServerException, match=words):
        client.update_log_settings(settings)


def test_trace_settings_without_a_file_can_be_read_but_not_switched_on(client):
    assert told(client.get_trace_settings(), "trace_level") == ["OFF"]
    assert told(client.get_trace_settings("one"), "trace_rate") == "1000"
    assert told(client.update_trace_settings(settings={"trace_level": ["OFF"]}), "trace_level") == ["OFF"]
    with pytest.raises(InferenceServerException, match="trace file name is not given"):
        client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"]})


def get(server: RunningServer, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://{server.http}{path}", timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_first_generation_probes(server):
    assert get(server, "/api/health/live") == (200, b"")
    assert get(server, "/api/health/ready") == (200, b"")
    status, body = get(server, "/api/status")
    assert status == 200
    assert json.loads(body)["ready_state"] == "SERVER_READY"
    entry = json.loads(get(server, "/api/status/one")[1])["model_status"]["one"]
    assert entry["version_status"] == {"1": {"ready_state": "MODEL_READY"}}
    assert entry["config"]["name"] == "one"
    assert get(server, "/api/status/nowhere")[0] == 404


def test_priority_timeout_and_parameters_reach_the_server(client):
    module = triton_http if isinstance(client, triton_http.InferenceServerClient) else triton_grpc
    tensor = module.InferInput("INPUT0", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"x"]], np.object_))
    own = {"flag": True, "count": 7, "word": "x"}
    answer = client.infer("tells", [tensor], request_id="r", priority=1, timeout=30_000_000, parameters=own)
    assert json.loads(answer.as_numpy("OUTPUT0").item()) == {"timeout": 30_000_000, "own": own, "id": "r"}
    with pytest.raises(InferenceServerException, match="whole number"):
        client.infer("tells", [tensor], timeout=-1)

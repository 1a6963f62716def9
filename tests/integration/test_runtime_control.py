"""Model control, the rate limiter and the metrics page of a real server, as unmodified clients use them."""

import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from perf_client.prometheus import parse
from tests.fakes import repositories
from tests.fakes.running_server import RunningServer, running_server, server_command

CONFIG = {
    "backend": "simulated",
    "max_batch_size": 3,
    "input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [4]}],
    "output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [4]}],
}
LIMITED = 'instance_group { count: 2 rate_limiter { priority: 2 resources { name: "slots" count: 1 } } }'


def ask(module, client, model: str) -> np.ndarray:
    tensor = module.InferInput("INPUT0", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.arange(4, dtype=np.float32).reshape(1, 4))
    return client.infer(model, [tensor]).as_numpy("OUTPUT0")


@pytest.fixture(scope="module")
def explicit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("models")
    for name in ("m", "n"):
        repositories.write_simulated(repository, name, extra=LIMITED)
    repositories.write_simulated(repository, "greedy", extra=LIMITED.replace("count: 1", "count: 5"))
    flags = ["--model-control-mode", "explicit", "--load-model", "m"]
    limits = ["--rate-limit", "execution_count", "--rate-limit-resource", "slots:1", "--metrics-interval-ms", "20"]
    with running_server(repository, *flags, *limits) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def api(request, explicit: RunningServer):
    module = {"http": triton_http, "grpc": triton_grpc}[request.param]
    client = module.InferenceServerClient(getattr(explicit, request.param))
    yield module, client
    client.close()


def test_a_model_is_loaded_from_files_that_the_client_sends(api):
    module, client = api
    client.load_model("sent", config=json.dumps(CONFIG), files={"file:4/weights.bin": b"\0\1\2"})
    assert ask(module, client, "sent").tolist() == [[0, 1, 2, 3]]
    metadata = client.get_model_metadata("sent")
    assert list(metadata["versions"] if isinstance(metadata, dict) else metadata.versions) == ["4"]
    client.unload_model("sent", unload_dependents=True)
    assert not client.is_model_ready("sent")


def test_files_without_a_configuration_are_refused(api):
    with pytest.raises(InferenceServerException, match="need the parameter 'config'"):
        api[1].load_model("sent", files={"file:1/a": b"x"})


def test_models_share_a_resource_and_one_that_asks_for_too_much_is_not_loaded(api):
    module, client = api
    client.load_model("n")
    for _ in range(20):
        for name in ("m", "n"):
            assert ask(module, client, name).tolist() == [[0, 1, 2, 3]]
    with pytest.raises(InferenceServerException, match="needs 5 of the resource 'slots', of which there are 1"):
        client.load_model("greedy")
    client.unload_model("n")


def page(server: RunningServer) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=10) as answer:
        return {series.name: value for series, value in parse(answer.read()).items()}


def wait_for(found: Callable[[], bool]) -> None:
    """Asks again and again, of a server in another process."""
    given_up_s = time.monotonic() + 60
    while not found():
        assert time.monotonic() < given_up_s


def test_the_page_has_figures_of_the_machine(explicit: RunningServer):
    wait_for(lambda: "nv_cpu_utilization" in page(explicit))
    found = page(explicit)
    assert 0 <= found["nv_cpu_utilization"] <= 1
    assert 0 < found["nv_cpu_memory_used_bytes"] < found["nv_cpu_memory_total_bytes"]


def test_a_polled_repository_is_followed(tmp_path: Path):
    repositories.write_simulated(tmp_path, "first")
    with running_server(tmp_path, "--model-control-mode", "poll", "--repository-poll-secs", "0.02") as server:
        client = triton_http.InferenceServerClient(server.http)
        repositories.write_simulated(tmp_path, "second")
        wait_for(lambda: client.is_model_ready("second"))
        assert ask(triton_http, client, "second").tolist() == [[0, 1, 2, 3]]
        shutil.rmtree(tmp_path / "first")
        wait_for(lambda: not client.is_model_ready("first"))
        with pytest.raises(InferenceServerException, match="--model-control-mode explicit"):
            client.load_model("second")
        client.close()
        assert server.end() == 0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--model-control-mode", "poll", "--load-model", "m"], "--load-model can't go with --model-control-mode poll"),
    ],
)
def test_flags_that_contradict_each_other(tmp_path: Path, flags: list[str], sentence: str):
    done = subprocess.run(server_command(tmp_path, *flags), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, sentence in done.stderr) == (2, True)

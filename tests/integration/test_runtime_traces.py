"""Trace files beside those of a real Triton, where TRITONSERVER names one: the same requests, the same entries."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from tests.fakes.real_triton import TRITON, real_triton
from tests.fakes.repositories import write_model, write_python
from tests.fakes.running_server import running_server

COMMON = {"REQUEST_START", "REQUEST_END"}
COMPUTE = {"QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"}
FRONT = {
    "http": {"HTTP_RECV_START", "HTTP_RECV_END", "INFER_RESPONSE_COMPLETE", "HTTP_SEND_START", "HTTP_SEND_END"},
    "grpc": {"GRPC_WAITREAD_START", "GRPC_WAITREAD_END", "INFER_RESPONSE_COMPLETE", "GRPC_SEND_START", "GRPC_SEND_END"},
}
STEPS = """\
platform: "ensemble"
ensemble_scheduling {
  step {
    model_name: "one" model_version: -1
    input_map { key: "INPUT0" value: "INPUT0" } output_map { key: "OUTPUT0" value: "between" }
  }
  step {
    model_name: "two" model_version: -1
    input_map { key: "INPUT0" value: "between" } output_map { key: "OUTPUT0" value: "OUTPUT0" }
  }
}"""
ENSEMBLE_EXTRA = {"QUEUE_START"}
"""Triton stamps a queue for ensembles, too; ours have none."""


@pytest.fixture(scope="module", params=["ours", "triton"])
def server(request, tmp_path_factory) -> Iterator[tuple[str, str, Path]]:
    folder = tmp_path_factory.mktemp("traced")
    repository = folder / "models"
    write_python(repository, "one", dims=(-1, 4))
    write_python(repository, "two", dims=(-1, 4))
    tensors = [("INPUT0", "TYPE_FP32", (-1, 4))], [("OUTPUT0", "TYPE_FP32", (-1, 4))]
    write_model(repository, "both", backend="", inputs=tensors[0], outputs=tensors[1], extra=STEPS)
    flags = ["--trace-config", f"triton,file={folder / 'trace.json'}", "--trace-config", "triton,log-frequency=1"]
    if request.param == "triton":
        if TRITON is None:
            pytest.skip("no real Triton; name one with TRITONSERVER")
        with real_triton(repository, *flags) as (http, grpc, _):
            yield http, grpc, folder
    else:
        with running_server(repository, *flags) as running:
            yield running.http, running.grpc, folder


@pytest.fixture(params=["http", "grpc"])
def traced(request, server):
    """A client of one protocol, and what reads the entries of the traces since."""
    module = {"http": triton_http, "grpc": triton_grpc}[request.param]
    client = module.InferenceServerClient(server[0] if request.param == "http" else server[1])
    folder = server[2]
    seen = set(folder.glob("trace.json.*"))

    def entries(count: int) -> list[list[dict]]:
        """Those of each new file, once there are so many."""
        deadline_s = time.monotonic() + 20
        while len(new := sorted(set(folder.glob("trace.json.*")) - seen)) < count and time.monotonic() < deadline_s:
            time.sleep(0.05)
        return [json.loads(path.read_bytes()) for path in new]

    client.update_trace_settings(settings={"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_count": None})
    yield client, module, request.param, entries
    client.update_trace_settings(settings={"trace_level": ["OFF"]})
    client.close()


def infer(client, module, model: str, request_id: str = "") -> None:
    tensor = module.InferInput("INPUT0", [1, 4], "FP32")
    tensor.set_data_from_numpy(np.array([[1, 2.5, -3, 0]], np.float32))
    client.infer(model, [tensor], request_id=request_id)


def stamps(entries: list[dict], number: int) -> set[str]:
    return {entry["timestamps"][0]["name"] for entry in entries if entry["id"] == number and "timestamps" in entry}


def test_a_request_leaves_the_stamps_of_its_way(traced):
    client, module, protocol, entries = traced
    infer(client, module, "one", "mine")
    (trace,) = entries(1)
    (head,) = [entry for entry in trace if "model_name" in entry]
    assert {**head, "id": 0} == {"id": 0, "model_name": "one", "model_version": 1, "request_id": "mine"}
    assert stamps(trace, head["id"]) == COMMON | COMPUTE | FRONT[protocol]
    times = {entry["timestamps"][0]["name"]: entry["timestamps"][0]["ns"] for entry in trace if "timestamps" in entry}
    order = ["REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START"]
    assert sorted(order, key=lambda name: (times[name], order.index(name))) == order


def test_an_ensemble_has_a_child_for_each_step(traced):
    client, module, protocol, entries = traced
    infer(client, module, "both")
    (trace,) = entries(1)
    heads = {entry["model_name"]: entry for entry in trace if "model_name" in entry}
    parent = heads["both"]["id"]
    assert stamps(trace, parent) - ENSEMBLE_EXTRA == COMMON | FRONT[protocol]
    for name in ("one", "two"):
        assert heads[name]["parent_id"] == parent
        assert stamps(trace, heads[name]["id"]) == COMMON | COMPUTE


def test_tensors_are_told_where_they_are_asked_for(traced):
    client, module, _, entries = traced
    client.update_trace_settings(settings={"trace_level": ["TENSORS"]})
    infer(client, module, "one")
    (trace,) = entries(1)
    told = {entry["activity"]: entry["tensor"] for entry in trace if "activity" in entry}
    data = {"data": "1,2.5,-3,0", "shape": "1,4", "dtype": "FP32"}
    assert told == {
        "TENSOR_QUEUE_INPUT": {"name": "INPUT0", **data},
        "TENSOR_BACKEND_OUTPUT": {"name": "OUTPUT0", **data},
    }


def test_a_model_may_be_traced_by_itself(traced):
    client, module, _, entries = traced
    client.update_trace_settings(settings={"trace_level": ["OFF"]})
    client.update_trace_settings("two", {"trace_level": ["TIMESTAMPS"], "trace_count": "1"})
    for model in ("one", "two", "two"):
        infer(client, module, model)
    (trace,) = entries(1)
    assert [entry["model_name"] for entry in trace if "model_name" in entry] == ["two"]
    client.update_trace_settings("two", {"trace_level": None, "trace_count": None})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trace_file": "x"}, "trace file location can not be updated through network protocol"),
        ({"trace_level": ["OFF", "TENSORS"]}, "Expect only one trace level 'OFF' is specified"),
        ({"trace_count": "-2"}, "trace_count"),
        ({"trace_rate": "0"}, "rate"),
    ],
)
def test_wrong_settings_are_refused(traced, settings, words):
    with pytest.raises(InferenceServerException, match=words):
        traced[0].update_trace_settings(settings=settings)


def test_settings_of_an_unknown_model_are_refused(traced):
    with pytest.raises(InferenceServerException, match="Request for unknown model : nobody"):
        traced[0].get_trace_settings("nobody")

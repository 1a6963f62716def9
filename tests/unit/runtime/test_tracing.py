import json
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from tritonclient.grpc import model_config_pb2

from analyzer.runtime.durations import Durations
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, InferResponse
from analyzer.runtime.signature import make_signature
from analyzer.runtime.trace_file import TraceFile
from analyzer.runtime.trace_settings import TraceSetting, read_changes, read_start
from analyzer.runtime.traces import Trace, tensor_text
from analyzer.runtime.tracing import Tracing

ON = {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"}


def signature(*_):
    config = model_config_pb2.ModelConfig(name="m")
    for field, name in ((config.input, "A"), (config.output, "B")):
        field.add(name=name, data_type=model_config_pb2.TYPE_FP32, dims=[-1])
    return make_signature(config)


class Stage:
    """A tracing server whose model answers at once, or when told."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "trace.json"
        self.tracing = Tracing(signature, lambda name: name in ("m", "n"), file=str(self.file))
        self.waiting = []

    def ask(self, model: str = "m", *, wait: bool = False, fault: InferError | None = None) -> None:
        def submit(request, reply):
            if fault is not None:
                raise fault
            if request.account is not None:
                request.account.executed(2, Stamps())
            self.waiting.append(lambda: reply(InferResponse(model, "3", "", {"B": np.ones(1, np.float32)})))

        request = InferRequest(model, {"A": np.zeros(1, np.float32)}, 1, id="r")
        self.tracing.submit(submit, "HTTP", request, lambda _: None)
        if not wait:
            self.waiting.pop()()

    def files(self) -> dict[str, list[int]]:
        """The ids of the requests in each file."""
        paths = sorted(self.file.parent.iterdir())
        return {path.name.removeprefix("trace.json"): [entry["id"] for entry in heads(path)] for path in paths}


def heads(path: Path) -> list[dict]:
    return [entry for entry in json.loads(path.read_bytes()) if "model_name" in entry]


class Stamps:
    start_ns, input_end_ns, infer_end_ns, end_ns = 3, 4, 5, 0


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"trace_level": ["OFF", "TIMESTAMPS"]}, "only one trace level 'OFF'"),
        ({"trace_level": ["LOUD"]}, "trace level 'LOUD' is not known"),
        ({"trace_level": "TIMESTAMPS"}, "must be a list of levels"),
        ({"trace_level": []}, "must be a list of levels"),
        ({"trace_rate": "0"}, "'trace_rate' must be a whole number from 1"),
        ({"trace_rate": "-1"}, "'trace_rate' must be a whole number"),
        ({"trace_rate": 5}, "as a string, not 5"),
        ({"trace_rate": "99999999999999999999"}, "to 4294967295"),
        ({"trace_rate": "²"}, "'trace_rate' must be a whole number"),
        ({"trace_count": "-2"}, "'trace_count' must be a whole number from -1"),
        ({"log_frequency": "often"}, "'log_frequency' must be a whole number"),
        ({"trace_mode": "opentelemetry"}, "traces in mode 'triton' only"),
        ({"trace_noise": "1"}, "known are trace_level, trace_rate"),
        ({"trace_file": "x"}, "can not be updated through network protocol"),
    ],
)
def test_wrong_settings_are_refused_and_change_nothing(tmp_path, wanted, words):
    stage = Stage(tmp_path)
    before = stage.tracing.settings()
    with pytest.raises(InferError, match=words):
        stage.tracing.change({"trace_count": "5"} | wanted)
    assert stage.tracing.settings() == before


def test_settings_of_models_stand_over_those_of_the_server_until_they_are_taken_back(tmp_path):
    tracing = Stage(tmp_path).tracing
    tracing.change({"trace_rate": "10"})
    tracing.change({"trace_rate": "2", "trace_count": "3"}, "m")
    tracing.change({"trace_rate": "20", "log_frequency": "4"})
    of_m, of_n = tracing.settings("m"), tracing.settings("n")
    assert (of_m["trace_rate"], of_m["trace_count"], of_m["log_frequency"]) == ("2", "3", "4")
    assert (of_n["trace_rate"], of_n["trace_count"]) == ("20", "-1")
    tracing.change({"trace_rate": None, "trace_count": None}, "m")
    assert tracing.settings("m") == tracing.settings()
    tracing.change({"trace_rate": None, "log_frequency": None})
    assert tracing.settings()["trace_rate"] == "1000"


def test_settings_of_a_model_that_is_not_served_are_refused(tmp_path):
    tracing = Stage(tmp_path).tracing
    for ask in (lambda: tracing.settings("x"), lambda: tracing.change(ON, "x")):
        with pytest.raises(InferError, match="Request for unknown model : x") as refusal:
            ask()
        assert refusal.value.kind is ErrorKind.INVALID_ARGUMENT


def test_tracing_is_off_until_a_level_is_set_anywhere(tmp_path):
    tracing = Stage(tmp_path).tracing
    assert not tracing.is_on
    tracing.change(ON, "m")
    assert tracing.is_on
    tracing.change({"trace_level": ["OFF"]}, "m")
    assert not tracing.is_on


def test_every_nth_request_is_traced_and_a_file_holds_as_many_as_asked_for(tmp_path):
    stage = Stage(tmp_path)
    stage.tracing.change(ON | {"trace_rate": "2", "log_frequency": "2"})
    for _ in range(9):
        stage.ask()
    assert stage.files() == {".0": [1, 2], ".1": [3, 4]}
    assert stage.tracing.settings()["trace_count"] == "-1"


def test_count_goes_down_and_the_last_of_it_writes_what_there_is(tmp_path):
    stage = Stage(tmp_path)
    stage.tracing.change(ON | {"trace_count": "2"})
    stage.ask()
    assert (stage.files(), stage.tracing.settings()["trace_count"]) == ({}, "1")
    stage.ask()
    stage.ask()
    assert (stage.files(), stage.tracing.settings()["trace_count"]) == ({".0": [1, 2]}, "0")


def test_refused_requests_leave_no_trace_and_hold_nothing_up(tmp_path):
    stage = Stage(tmp_path)
    stage.tracing.change(ON | {"trace_count": "2"})
    stage.ask()
    with pytest.raises(InferError):
        stage.ask(fault=InferError(ErrorKind.INVALID_ARGUMENT, "no"))
    assert stage.files() == {".0": [1]}


def test_what_is_under_way_when_settings_change_is_written_as_it_ends(tmp_path):
    stage = Stage(tmp_path)
    stage.tracing.change(ON)
    stage.ask()
    stage.ask(wait=True)
    stage.tracing.change({"trace_rate": "7"})
    assert stage.files() == {"": [1]}
    stage.waiting.pop()()
    assert stage.files() == {"": [1, 2]}


def test_a_model_counts_for_itself(tmp_path):
    stage = Stage(tmp_path)
    stage.tracing.change(ON | {"trace_rate": "2"})
    stage.tracing.change(ON, "n")
    for model in ("m", "n", "m"):
        stage.ask(model)
    stage.tracing.close()
    assert [entry["id"] for entry in heads(stage.file)] == [2, 1]


def test_entries_are_those_of_triton(tmp_path):
    stage = Stage(tmp_path)
    stage.tracing.change(ON | {"trace_level": ["TENSORS", "TIMESTAMPS"]})
    stage.ask()
    stage.tracing.close()
    head, *rest = json.loads(stage.file.read_bytes())
    assert head == {"id": 1, "model_name": "m", "model_version": 3, "request_id": "r"}
    stamps = {entry["timestamps"][0]["name"]: entry["timestamps"][0]["ns"] for entry in rest if "timestamps" in entry}
    assert stamps | {"QUEUE_START": 2, "COMPUTE_START": 3, "COMPUTE_INPUT_END": 4, "COMPUTE_OUTPUT_START": 5} == stamps
    assert "COMPUTE_END" not in stamps  # it had not ended
    assert {"HTTP_RECV_START", "HTTP_SEND_END", "REQUEST_START", "REQUEST_END", "INFER_RESPONSE_COMPLETE"} < set(stamps)
    tensors = [(entry["activity"], entry["tensor"]) for entry in rest if "activity" in entry]
    assert tensors == [
        ("TENSOR_QUEUE_INPUT", {"name": "A", "data": "0", "shape": "1", "dtype": "FP32"}),
        ("TENSOR_BACKEND_OUTPUT", {"name": "B", "data": "1", "shape": "1", "dtype": "FP32"}),
    ]


def test_a_step_of_an_ensemble_is_told_and_so_is_the_account_it_stands_in_for():
    spent = Durations()
    outer = Trace(count(1), ("TIMESTAMPS",), signature(), InferRequest("e", {}, 1))
    step = outer.step(signature(), "4", InferRequest("m", {}, 7), spent)
    step.executed(2, Stamps())
    step.add(Durations(queue_ns=10))
    told = [entry for entry in outer.entries() if "model_name" in entry]
    assert told[1] == {"id": 2, "model_name": "m", "model_version": 4, "parent_id": 1}
    assert (spent.queue_ns, spent.input_ns, spent.infer_ns) == (11, 1, 1)


@pytest.mark.parametrize(
    ("array", "datatype", "text"),
    [
        (np.array([1.5, -0.25, 3.0, np.inf], np.float32), "FP32", "1.5,-0.25,3,inf"),
        (np.array([0x3F80, 0xC000], np.uint16), "BF16", "1,-2"),
        (np.array([True, False]), "BOOL", "1,0"),
        (np.array([[b"a", b"\xff"]], np.object_), "BYTES", '"a","\\xff"'),
        (np.zeros((0, 4), np.int64), "INT64", ""),
    ],
)
def test_tensors_are_told_as_text(array, datatype, text):
    assert tensor_text(array, datatype) == text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([("opentelemetry", "url", "x")], "opentelemetry is not supported"),
        ([("", "mode", "opentelemetry")], "opentelemetry is not supported"),
        ([("", "level", "TIMESTAMPS")], "add --trace-config triton,file=FILE"),
        ([("triton", "noise", "1")], "knows no 'noise'; known are file"),
        ([("", "rate", "fast")], "'trace_rate' must be"),
    ],
)
def test_wrong_flags_are_refused(given, words):
    with pytest.raises(InferError, match=words):
        read_start(given)


def test_flags_add_up():
    given = [("triton", "file", "f"), ("", "level", "TENSORS"), ("", "level", "TIMESTAMPS"), ("", "mode", "triton")]
    setting, file = read_start([*given, ("triton", "log-frequency", "3"), ("", "count", "-1"), ("", "rate", "2")])
    assert (setting, file) == (TraceSetting(("TIMESTAMPS", "TENSORS"), 2, -1, 3), "f")


def test_null_takes_a_setting_back():
    assert read_changes({"trace_rate": None, "trace_level": ["OFF"]}) == {"rate": None, "levels": ()}


def test_a_file_that_cannot_be_written_is_told_once_and_loses_its_traces(tmp_path, caplog):
    file = TraceFile(str(tmp_path / "nowhere" / "t.json"))
    file.append(b"1")
    file.write_part(b"2")
    assert [record.getMessage().startswith("traces can't be written to") for record in caplog.records] == [True]


def test_the_whole_file_is_an_array_after_each_addition(tmp_path):
    file = TraceFile(str(tmp_path / "t.json"))
    for number in range(3):
        file.append(b"%d" % number)
        assert json.loads((tmp_path / "t.json").read_bytes()) == list(range(number + 1))

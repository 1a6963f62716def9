"""Traces of PyTorch and ONNX Runtime, whole, zipped and cut off; and captures told apart by their content."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import InputError, MissingExtraError
from analyzer.timeline import archive, import_any, import_kineto, import_onnxruntime
from analyzer.timeline.analyses.launches import launch_rows
from analyzer.timeline.kinds import CopyKind, Kind, MemoryKind
from analyzer.timeline.table import Anchor, Timeline

BASE_NS = 1790857026000000000


def gpu_event(cat: str, name: str, ts: float, dur: float, correlation: int, **args: Any) -> dict[str, Any]:
    args = {"device": 0, "stream": 7, "correlation": correlation, **args}
    return {"ph": "X", "cat": cat, "name": name, "pid": 0, "tid": 7, "ts": ts, "dur": dur, "args": args}


def host_event(cat: str, name: str, ts: float, dur: float, **args: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "pid": 448, "tid": 450, "ts": ts, "dur": dur, "args": args}


EVENTS = [
    {
        "ph": "M",
        "name": "process_name",
        "pid": 448,
        "tid": 0,
        "ts": 0,
        "args": {"name": "/opt/bin/python --key secret"},
    },
    {"ph": "M", "name": "process_name", "pid": 0, "tid": 0, "ts": 0, "args": {"name": "GPU 0"}},
    host_event("user_annotation", "request", 100.5, 900),
    host_event("cpu_op", "aten::conv2d", 110.001, 50.25),
    host_event("cuda_runtime", "cudaLaunchKernel", 120, 5, correlation=31),
    host_event("cuda_runtime", "cudaMemcpyAsync", 130, 9, correlation=32),
    gpu_event("kernel", "gemm", 127.25, 20, 31, grid=[4, 2, 1], block=[128, 1, 1]),
    gpu_event("gpu_memcpy", "Memcpy HtoD (Pageable -> Device)", 150, 7, 32, bytes=4096),
    gpu_event("gpu_memset", "Memset (Device)", 160, 1, 33, bytes=64),
    gpu_event("cuda_sync", "Stream Sync", 161, 2, 34),
    gpu_event("gpu_user_annotation", "request", 127, 40, 0),
    {"ph": "s", "id": 31, "pid": 448, "tid": 450, "ts": 120, "cat": "ac2g", "name": "ac2g"},
    {"ph": "f", "id": 31, "pid": 0, "tid": 7, "ts": 127.25, "cat": "ac2g", "name": "ac2g", "bp": "e"},
    {"ph": "i", "name": "Record Window End", "pid": "", "tid": "", "ts": 2000, "s": "g"},
]
DEVICE = {"id": 0, "name": "H100", "totalGlobalMem": 99, "computeMajor": 9, "computeMinor": 0, "numSms": 132}


def kineto(events: list[dict[str, Any]]) -> dict[str, Any]:
    head = {"schemaVersion": 1, "deviceProperties": [DEVICE], "host_name": "secret-host"}
    return {**head, "baseTimeNanoseconds": BASE_NS, "traceEvents": events, "traceName": "/secret/place.json"}


def read(tmp_path: Path, content: Any, name: str = "trace.json") -> Timeline:
    (tmp_path / name).write_text(json.dumps(content, indent=1))
    return import_any.read(tmp_path / name)


def test_a_kineto_trace_keeps_its_kernels_calls_copies_and_operators(tmp_path):
    timeline = read(tmp_path, kineto(EVENTS))
    events = timeline.events
    kinds = {timeline.name(row): Kind(events.kind[row]) for row in range(len(timeline))}
    assert kinds == {
        "request": Kind.RANGE,
        "aten::conv2d": Kind.OPERATOR,
        "cudaLaunchKernel": Kind.API,
        "cudaMemcpyAsync": Kind.API,
        "gemm": Kind.KERNEL,
        "[CUDA memcpy Host-to-Device]": Kind.MEMCPY,
        "[CUDA memset]": Kind.MEMSET,
        "Stream sync": Kind.SYNC,
        "Record Window End": Kind.MARK,
    }
    (kernel,) = timeline.rows(Kind.KERNEL)
    assert (events.start_ns[kernel], events.end_ns[kernel]) == (127_250, 147_250)
    assert (events.block_count[kernel], events.thread_count[kernel], events.process[kernel]) == (8, 128, 448)
    (copy,) = timeline.rows(Kind.MEMCPY)
    found = (events.copy_kind[copy], events.src_kind[copy], events.dst_kind[copy], events.bytes[copy])
    assert found == (CopyKind.HOST_TO_DEVICE, MemoryKind.PAGEABLE, MemoryKind.DEVICE, 4096)
    assert timeline.devices[0].sm_count == 132
    assert timeline.anchors == (Anchor(clock="utc", offset_ns=BASE_NS),)


def test_kernels_of_a_trace_find_their_calls(tmp_path):
    timeline = read(tmp_path, kineto(EVENTS))
    calls = launch_rows(timeline, timeline.rows(Kind.KERNEL, Kind.MEMCPY))
    assert [timeline.name(row) for row in calls] == ["cudaLaunchKernel", "cudaMemcpyAsync"]


def test_an_arrow_joins_a_kernel_that_lacks_its_correlation(tmp_path):
    events = json.loads(json.dumps(EVENTS))
    del events[6]["args"]["correlation"]
    timeline = read(tmp_path, kineto(events))
    assert [timeline.name(row) for row in launch_rows(timeline, timeline.rows(Kind.KERNEL))] == ["cudaLaunchKernel"]


def test_microseconds_since_1970_keep_their_nanoseconds(tmp_path):
    text = '[{"ph":"X","name":"a","pid":1,"tid":1,"ts":1779630014975716.426,"dur":0.001}]'
    (tmp_path / "a.json").write_text(text)
    timeline = import_any.read(tmp_path / "a.json")
    assert timeline.events.start_ns.tolist() == [1779630014975716426]
    assert timeline.events.end_ns.tolist() == [1779630014975716427]


def test_host_names_paths_and_arguments_are_not_kept(tmp_path):
    timeline = read(tmp_path, kineto(EVENTS))
    archive.save(timeline, tmp_path / "a.timeline")
    assert [track.name for track in timeline.tracks] == ["python"]
    assert "secret" not in repr(timeline)


def test_begin_and_end_events_nest_and_pairs_may_overlap(tmp_path):
    at = {"pid": 1, "tid": 1}
    events = [
        {"ph": "B", "name": "outer", "ts": 1, **at},
        {"ph": "B", "name": "inner", "ts": 2, **at},
        {"ph": "E", "ts": 3, **at},
        {"ph": "E", "ts": 9, **at},
        {"ph": "E", "ts": 10, **at},
        {"ph": "b", "cat": "c", "id": "0x1", "name": "first", "ts": 4, **at},
        {"ph": "b", "cat": "c", "id": "0x2", "name": "second", "ts": 5, **at},
        {"ph": "e", "cat": "c", "id": "0x1", "name": "first", "ts": 6, **at},
        {"ph": "e", "cat": "c", "id": "0x2", "name": "second", "ts": 7, **at},
        {"ph": "b", "cat": "c", "id": "0x3", "name": "open", "ts": 8, **at},
        {"ph": "C", "name": "memory", "ts": 5, "pid": 1, "args": {"used": 3}},
    ]
    timeline = read(tmp_path, events)
    spans = {timeline.name(row): timeline.events.duration_ns[row] for row in range(len(timeline))}
    assert spans == {"outer": 8000, "inner": 1000, "first": 2000, "second": 2000}
    inner = [timeline.name(row) for row in range(len(timeline))].index("inner")
    assert timeline.name(timeline.events.parent[inner]) == "outer"
    assert timeline.counters.series[0].name == "memory used"
    assert timeline.meta.partial
    assert "1 ranges never ended and 1 never began; they are left out" in timeline.meta.warnings


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("content", [kineto(EVENTS), EVENTS])
def test_a_cut_trace_gives_the_events_before_the_cut(tmp_path, content, zipped):
    text = json.dumps(content, indent=1)
    cut = text.index('"gpu_memset"')
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(text.encode())[:-4] if zipped else text[:cut].encode())
    timeline = import_any.read(path)
    assert timeline.meta.partial
    assert timeline.meta.warnings[0].startswith("the file is cut off; ")
    assert len(timeline.rows(Kind.MEMCPY)) == 1
    assert len(timeline.rows(Kind.MEMSET)) == int(zipped)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.json", b"", "is empty; capture again"),
        ("a.json", b"{}", "is JSON, but not of trace events"),
        ("a.json", b'{"traceEvents": []}', "has no trace events; capture again"),
        ("a.json", b'{"traceEvents": 5}', "is JSON, but not of trace events"),
        ("a.json", b'{"trace', "can't be read as JSON"),
        ("a.json", b"[1, 2", "can't be read as JSON|not of trace events"),
        ("a.gz", b"\x1f\x8b\x08\x00junkjunkjunk", "is a damaged gzip file; capture again|is empty"),
        ("a.bin", b"\x7fELF....", "is no capture that is known; give an Nsight"),
        ("a.timeline", b"PK\x03\x04junk", "is not a whole timeline file; import the capture again"),
        ("a.sqlite", b"SQLite format 3\0junk", "is not a whole SQLite file"),
    ],
)
def test_what_is_no_capture_is_told_in_one_sentence(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=sentence) as caught:
        import_any.read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        import_any.read(tmp_path / "none.json")


def test_a_report_without_nsys_says_what_made_it_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.nsys-rep").write_bytes(b"\x00\x01" * 50 + b"2025.3.2.474-253236389321v0" + b"\x00" * 90)
    with pytest.raises(
        MissingExtraError, match=r"made by Nsight Systems 2025\.3\.2\.474, can only .*nsys export --type"
    ):
        import_any.read(tmp_path / "a.nsys-rep")


def test_a_report_is_exported_by_nsys_where_there_is_one(tmp_path, monkeypatch):
    source = Path("tests/data/nsight/dev.sqlite").resolve()
    nsys = tmp_path / "nsys"
    nsys.write_text(f'#!/bin/sh\n/bin/cp {source} "$5"\n')
    nsys.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "a.nsys-rep").write_bytes(b"report")
    assert len(import_any.read(tmp_path / "a.nsys-rep").rows(Kind.KERNEL)) == 200


NODE = {"cat": "Node", "pid": 5, "tid": 6, "ph": "X", "args": {"op_name": "Relu", "output_size": "16"}}
SESSION = {"cat": "Session", "pid": 5, "tid": 6, "ph": "X", "args": {}}
PROFILE = [
    {**SESSION, "dur": 100, "ts": 11, "name": "session_initialization"},
    {**NODE, "dur": 20, "ts": 210, "name": "Relu_0_kernel_time"},
    {**NODE, "dur": 1, "ts": 209, "name": "Relu_0_fence_before"},
    {**SESSION, "dur": 50, "ts": 200, "name": "model_run"},
]


def test_an_onnx_runtime_profile_keeps_runs_and_the_nodes_in_them(tmp_path):
    timeline = read(tmp_path, PROFILE)
    assert timeline.meta.producer == "ONNX Runtime"
    assert [timeline.name(row) for row in range(3)] == ["session_initialization", "model_run", "Relu_0"]
    assert timeline.events.parent.tolist() == [-1, -1, 1]
    assert timeline.events.bytes.tolist() == [-1, -1, 16]
    assert timeline.events.duration_ns.tolist() == [100_000, 50_000, 20_000]


def test_a_profile_is_tied_to_the_wall_clock_by_its_begin(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(PROFILE))
    timeline = import_onnxruntime.read(tmp_path / "a.json", begin_utc_ns=BASE_NS)
    assert timeline.anchors == (Anchor(clock="utc", offset_ns=BASE_NS, residual_ns=1000),)


def test_a_profile_that_was_not_ended_is_read_to_its_cut(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(PROFILE, indent=1)[:-150])
    timeline = import_any.read(tmp_path / "a.json")
    assert timeline.meta.partial
    assert timeline.meta.producer == "ONNX Runtime"
    assert len(timeline) >= 1


def test_a_trace_without_events_of_onnx_runtime_is_refused(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(EVENTS))
    with pytest.raises(InputError, match="has no events of ONNX Runtime"):
        import_onnxruntime.read(tmp_path / "a.json")
    assert len(import_kineto.read(tmp_path / "a.json")) > 0


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**70, 1e300, -1e300, 0.5, "", "7", "GPU 0"]),
    st.lists(st.integers(-(2**40), 2**40), max_size=3),
    st.dictionaries(st.sampled_from(["name", "stream", "device"]), st.integers(-(2**65), 2**65), max_size=2),
)
FIELDS = st.fixed_dictionaries(
    {
        "ph": st.sampled_from(list("XBEbeiCMsf")),
        "cat": st.sampled_from(["kernel", "gpu_memcpy", "cuda_runtime", "ac2g"]),
    },
    optional=dict.fromkeys(("pid", "tid", "ts", "dur", "id", "args", "name"), ODD),
)
NUMBERS = ("correlation", "device", "stream", "bytes", "grid", "block", "batch", "size")
ARGS = st.fixed_dictionaries({}, optional=dict.fromkeys(NUMBERS, ODD))


@settings(deadline=None)
@given(st.lists(FIELDS, max_size=6), ARGS)
def test_odd_values_in_a_trace_are_no_traceback(tmp_path_factory, events, args):
    path = tmp_path_factory.mktemp("odd") / "a.json"
    whole = {"ph": "X", "cat": "kernel", "name": "gemm", "pid": 1, "tid": 1, "ts": 1, "dur": 2, "args": args}
    path.write_text(json.dumps([*events, whole]))
    try:
        timeline = import_any.read(path)
    except InputError:
        return
    assert "gemm" in timeline.names
    assert (timeline.events.end_ns >= timeline.events.start_ns).all()

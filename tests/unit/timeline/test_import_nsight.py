"""Captures of all schemas, whole and damaged, with nothing of the environment taken along."""

import json
import shutil
import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import InputError
from analyzer.timeline import archive, export_nsight, import_any, import_nsight
from analyzer.timeline.analyses import projection, sums
from analyzer.timeline.analyses.launches import launch_rows
from analyzer.timeline.kinds import Kind
from analyzer.timeline.table import DTYPES, Anchor, Device, Timeline
from tests.fakes.nsight_capture import call, global_id, kernel, strings, version, write
from tests.fakes.timelines import Scene

CAPTURE = Path("tests/data/nsight/dev.sqlite")
CUPTI = "CUPTI_ACTIVITY_KIND_"


@pytest.fixture(scope="module")
def capture() -> Timeline:
    return import_nsight.read(CAPTURE)


def held_text(timeline: Timeline, folder: Path) -> str:
    """Everything that the timeline's file holds, as text."""
    path = folder / "held.timeline"
    archive.save(timeline, path)
    with zipfile.ZipFile(path) as file:
        return "\n".join(file.read(name).decode("utf-8", "replace") for name in file.namelist())


def test_the_capture_says_its_producer_device_and_clock(capture):
    assert (capture.meta.producer_version, capture.meta.schema_version) == ("2025.3.2.0", "3.20.3")
    assert capture.devices[0].name == "NVIDIA H100 80GB HBM3"
    assert (capture.devices[0].sm_count, capture.devices[0].compute_capability) == (132, (9, 0))
    assert capture.anchors == (Anchor(clock="utc", offset_ns=1795304415988212631),)
    assert (capture.meta.partial, capture.meta.warnings) == (False, ())


def test_every_device_operation_of_the_capture_finds_its_call(capture):
    work = capture.rows(Kind.KERNEL, Kind.MEMCPY, Kind.MEMSET)
    calls = launch_rows(capture, work)
    assert len(work) == 256
    assert (calls >= 0).all()
    assert (capture.events.start_ns[calls] <= capture.events.start_ns[work]).all()


def test_ranges_lie_in_the_one_that_was_pushed_before(capture):
    for row in capture.rows(Kind.RANGE).tolist():
        parent = int(capture.events.parent[row])
        assert (capture.name(row) == "serving:request") == (parent < 0)
        if parent >= 0:
            assert capture.name(parent) == "serving:request"


def test_no_setting_or_fact_of_the_machine_is_kept(capture, tmp_path):
    db = sqlite3.connect(f"file:{CAPTURE}?mode=ro", uri=True)
    told = {str(value) for (value,) in db.execute("SELECT value FROM META_DATA_CAPTURE")}
    told |= {str(value) for (value,) in db.execute("SELECT value FROM TARGET_INFO_SYSTEM_ENV")}
    db.close()
    held = held_text(capture, tmp_path)
    long = {value for value in told if len(value) > 6 and value not in ("python3", "x86_64")}
    assert len(long) > 5
    assert not [value for value in long if value in held]


def test_secrets_that_a_capture_holds_stay_in_it(tmp_path):
    secret = "TOKEN=hunter2"
    path = tmp_path / "a.sqlite"
    shutil.copyfile(CAPTURE, path)
    path.chmod(0o600)
    db = sqlite3.connect(path)
    db.execute("INSERT INTO META_DATA_CAPTURE VALUES ('PROCESS_0:ENVIRONMENT_VARIABLE', ?)", (secret,))
    db.execute("INSERT INTO META_DATA_CAPTURE VALUES ('PROCESS_0:COMMAND', ?)", (secret,))
    db.execute("INSERT INTO TARGET_INFO_SYSTEM_ENV VALUES (0, '', 'x', 1, ?)", (secret,))
    db.execute("INSERT INTO StringIds VALUES (987654, ?)", (secret,))
    db.execute("DROP TABLE ProcessStreams")
    db.execute("CREATE TABLE ProcessStreams (globalPid, contentId)")
    db.execute("INSERT INTO ProcessStreams VALUES (1, 987654)")
    db.execute("INSERT INTO DIAGNOSTIC_EVENT VALUES (0, 1, 1, 3, ?, 0)", (secret,))
    db.execute("UPDATE PROCESSES SET name = ?", (f"/opt/secret-place/python3 --key {secret}",))
    db.commit()
    db.close()
    timeline = import_nsight.read(path)
    held = held_text(timeline, tmp_path)
    assert "hunter2" not in held
    assert "secret-place" not in held
    assert timeline.meta.warnings == ("the profiler left 0 warnings and 1 errors in the capture; see its own viewer",)


def test_correlation_ids_are_joined_within_their_process(tmp_path):
    tables = {
        "StringIds": strings("gemm", "cudaLaunchKernel"),
        f"{CUPTI}KERNEL": [kernel(20, 30, process=1), kernel(120, 130, process=2)],
        f"{CUPTI}RUNTIME": [call(110, 115, process=2), call(10, 15, process=1)],
        **version("3.25.0"),
    }
    timeline = import_nsight.read(write(tmp_path / "a.sqlite", tables))
    work = timeline.rows(Kind.KERNEL)
    calls = launch_rows(timeline, work)
    assert timeline.events.start_ns[calls].tolist() == [10, 110]
    assert timeline.events.process[calls].tolist() == timeline.events.process[work].tolist() == [1, 2]


def test_the_oldest_schema_with_few_tables_and_columns_is_read(tmp_path):
    bare = {"start": 5, "end": 9, "deviceId": 1, "streamId": 7, "shortName": 1}
    tables = {"StringIds": strings("gemm"), f"{CUPTI}KERNEL": [bare], **version("2.9.1", "EXPORT_META_DATA")}
    timeline = import_nsight.read(write(tmp_path / "a.sqlite", tables))
    assert [timeline.name(row) for row in timeline.rows(Kind.KERNEL)] == ["gemm"]
    assert timeline.events.process.tolist() == [-1]
    assert timeline.meta.schema_version == "2.9.1"
    assert timeline.meta.warnings == ("1 of 1 device operations have no launching call in the capture",)


@pytest.mark.parametrize("schema", ["2.8.0", "4.0.0", "odd"])
def test_an_unknown_schema_is_read_with_a_warning(tmp_path, schema):
    tables = {"StringIds": strings("gemm", "f"), f"{CUPTI}KERNEL": [kernel(1, 2)], f"{CUPTI}RUNTIME": [call(0, 1)]}
    timeline = import_nsight.read(write(tmp_path / "a.sqlite", {**tables, **version(schema)}))
    assert timeline.meta.warnings == (f"the export has schema {schema}; 2.9 to 3.25 are known, check the counts",)


def test_a_capture_without_kernels_says_so(tmp_path):
    tables = {"StringIds": strings("x", "cudaFree"), f"{CUPTI}RUNTIME": [call(1, 2)], **version("3.25.0")}
    timeline = import_nsight.read(write(tmp_path / "a.sqlite", tables))
    assert "no GPU activity in the capture" in timeline.meta.warnings
    assert not timeline.has_gpu_activity


def test_cuda_numbers_of_a_process_become_those_of_the_devices(tmp_path):
    tables = {
        "StringIds": strings("gemm"),
        f"{CUPTI}KERNEL": [kernel(1, 2, process=1), kernel(3, 4, process=2)],
        "TARGET_INFO_CUDA_DEVICE": [{"pid": 1, "cudaId": 0, "gpuId": 3}, {"pid": 2, "cudaId": 0, "gpuId": 5}],
        "TARGET_INFO_GPU": [{"id": 3, "name": "A"}, {"id": 5, "name": "B", "uuid": "u", "totalMemory": 8}],
        **version("3.25.0"),
    }
    timeline = import_nsight.read(write(tmp_path / "a.sqlite", tables))
    assert timeline.events.device.tolist() == [3, 5]
    assert timeline.devices == (Device(id=3, name="A"), Device(id=5, name="B", uuid="u", memory_bytes=8))


def ranges() -> dict[str, list[dict[str, object]]]:
    thread, other = global_id(9, 9), global_id(9, 10)
    return {
        "StringIds": strings("gemm", "cudaLaunchKernel", "registered"),
        "NVTX_EVENTS": [
            {"start": 0, "end": None, "eventType": 75, "text": "serving", "globalTid": thread, "domainId": 1},
            {"start": 1, "end": 90, "eventType": 59, "textId": 3, "globalTid": thread, "domainId": 1, "int64Value": 8},
            {"start": 2, "end": 95, "eventType": 60, "text": "moved", "globalTid": thread, "endGlobalTid": other},
            {"start": 3, "end": None, "eventType": 59, "text": "open", "globalTid": other, "domainId": 0},
            {"start": 4, "end": None, "eventType": 34, "text": "mark", "globalTid": thread},
            {"start": 5, "end": None, "eventType": 33, "text": "category", "globalTid": thread},
        ],
        f"{CUPTI}KERNEL": [kernel(50, 200)],
        f"{CUPTI}RUNTIME": [call(20, 30)],
        **version("3.25.0"),
    }


def test_ranges_have_their_domain_style_thread_and_payload(tmp_path):
    timeline = import_nsight.read(write(tmp_path / "a.sqlite", ranges()))
    rows = timeline.rows(Kind.RANGE, Kind.SPAN, Kind.MARK).tolist()
    assert [timeline.name(row) for row in rows] == ["serving:registered", "moved", "open", "mark"]
    assert [Kind(timeline.events.kind[row]) for row in rows] == [Kind.RANGE, Kind.SPAN, Kind.RANGE, Kind.MARK]
    assert timeline.events.size[rows].tolist() == [8, -1, -1, -1]
    assert timeline.events.end_thread[rows].tolist() == [-1, 10, -1, -1]
    assert timeline.events.end_ns[rows].tolist() == [90, 95, 200, 4]
    assert timeline.meta.warnings == ("1 ranges never ended; they are taken to last to the end of the capture",)


def test_a_range_that_ends_on_another_thread_projects_nothing(tmp_path):
    timeline = import_nsight.read(write(tmp_path / "a.sqlite", ranges()))
    assert [each.name for each in projection.projected_sums(timeline)] == ["serving:registered"]


def test_hardware_counters_become_series_of_their_device(tmp_path):
    tables = {
        "GPU_METRICS": [
            {"timestamp": 20, "typeId": 0x1000001, "metricId": 4, "value": 70},
            {"timestamp": 10, "typeId": 0x1000001, "metricId": 4, "value": 30},
        ],
        "TARGET_INFO_GPU_METRICS": [{"typeId": 0x1000001, "metricId": 4, "metricName": "SMs Active [Throughput %]"}],
        "StringIds": strings("x"),
        **version("3.25.0"),
    }
    timeline = import_nsight.read(write(tmp_path / "a.sqlite", tables))
    (series,) = timeline.counters.series
    assert (series.name, series.unit, series.device) == ("SMs Active [Throughput %]", "%", 1)
    assert timeline.counters.value.tolist() == [30.0, 70.0]


def test_json_lines_give_the_same_timeline(capture, tmp_path):
    assert_same(as_json_lines(CAPTURE, tmp_path), capture)


def test_json_lines_of_what_we_export_keep_batches_and_requests(tmp_path):
    scene = Scene().request(1, 10, 90).queue(1, 10, 20).batch(5, [1], 20, 80).work(30, 40, called=22, batch=5)
    export_nsight.write(scene.timeline(), tmp_path / "a.sqlite")
    assert_same(as_json_lines(tmp_path / "a.sqlite", tmp_path), import_any.read(tmp_path / "a.sqlite"))


def test_a_line_with_a_number_that_no_column_holds_keeps_the_rest_of_its_row(tmp_path):
    row = {"table": "NVTX_EVENTS", "start": 1, "end": 2, "eventType": 59, "text": "a", "globalTid": 1 << 48}
    lines = [row | {"uint64Value": (1 << 64) - 1}, row | {"text": ["a list"]}, row]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"table": "NVTX_EV')
    timeline = import_any.read(tmp_path / "a.jsonl")
    assert len(timeline.rows(Kind.RANGE)) == 3
    assert timeline.meta.partial


def assert_same(timeline, other):
    assert sums.kernel_sums(timeline) == sums.kernel_sums(other)
    assert sums.range_sums(timeline) == sums.range_sums(other)
    for name in DTYPES.keys() - {"name_id", "model_id"}:
        assert getattr(timeline.events, name).tolist() == getattr(other.events, name).tolist(), name
    assert [timeline.model(row) for row in range(len(timeline))] == [other.model(row) for row in range(len(other))]
    assert (timeline.devices, timeline.tracks, timeline.anchors) == (other.devices, other.tracks, other.anchors)


def as_json_lines(database, tmp_path):
    path = tmp_path / "dev.jsonl"
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    db.row_factory = sqlite3.Row
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    with path.open("w") as file:
        for name in tables:
            for row in db.execute(f"SELECT * FROM {name}"):
                file.write(json.dumps({"table": name, **{k: v for k, v in dict(row).items() if v is not None}}) + "\n")
    db.close()
    return import_any.read(path)


def test_rows_with_something_else_than_numbers_are_left_out(tmp_path):
    tables = {"StringIds": strings("gemm"), f"{CUPTI}KERNEL": [kernel(1, 2), kernel("x", 4), kernel(5, 6)]}
    timeline = import_nsight.read(write(tmp_path / "a.sqlite", {**tables, **version("3.25.0")}))
    assert timeline.events.start_ns.tolist() == [1, 5]
    assert timeline.meta.partial
    assert f"the file is damaged; what could be read of {CUPTI}KERNEL is kept" in timeline.meta.warnings


def test_a_foreign_database_is_refused(tmp_path):
    path = write(tmp_path / "a.sqlite", {"moz_places": [{"url": "x"}]})
    with pytest.raises(InputError, match="is an SQLite file, but not one of Nsight Systems; give one made by"):
        import_nsight.read(path)


@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.0, 0.999))
def test_a_cut_capture_gives_what_can_be_read_or_a_sentence(tmp_path_factory, share):
    path = tmp_path_factory.mktemp("cut") / "a.sqlite"
    raw = CAPTURE.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    try:
        timeline = import_any.read(path)
    except InputError:
        return
    assert timeline.meta.partial
    assert any("damaged" in warning for warning in timeline.meta.warnings)


@settings(max_examples=20, deadline=None)
@given(at=st.integers(100, 370_000), noise=st.binary(min_size=2000, max_size=4000))
def test_noise_in_a_capture_is_no_traceback(tmp_path_factory, at, noise):
    path = tmp_path_factory.mktemp("noise") / "a.sqlite"
    raw = bytearray(CAPTURE.read_bytes())
    raw[at : at + len(noise)] = noise
    path.write_bytes(raw)
    try:
        timeline = import_nsight.read(path)
    except InputError:
        return
    assert (timeline.events.end_ns >= timeline.events.start_ns).all()
    assert np.all(np.diff(timeline.events.start_ns) >= 0)


@pytest.mark.parametrize("damaged", [None, "x", 1.5])
def test_a_name_whose_number_is_damaged_names_nothing(tmp_path, damaged):
    names = [*strings("gemm", "cudaLaunchKernel"), {"id": damaged, "value": "lost"}]
    processes = [{"pid": damaged, "name": "lost"}, {"pid": 9.0, "name": "server"}]
    tables = {"StringIds": names, "PROCESSES": processes, f"{CUPTI}KERNEL": [kernel(20, 30)], **version("3.25.0")}
    timeline = import_nsight.read(write(tmp_path / "a.sqlite", tables))
    assert [timeline.name(row) for row in timeline.rows(Kind.KERNEL)] == ["gemm"]

"""Captures of every format, cut at any byte or with bytes changed: what could be read, or a sentence; no traceback."""

import gzip
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from analyzer.errors import InputError
from analyzer.timeline import archive, export_chrome, export_nsight, import_any
from analyzer.timeline.kinds import Kind
from analyzer.timeline.rules.case import Case
from analyzer.timeline.rules.diagnose import diagnose
from analyzer.timeline.summary import summarize
from analyzer.timeline.table import Series, Timeline
from analyzer.timeline.text import summary_lines
from tests.fakes.timelines import Scene

NODE = {"cat": "Node", "pid": 5, "tid": 6, "ph": "X", "dur": 5, "args": {"op_name": "Relu", "output_size": "16"}}
FORMATS = ("timeline", "sqlite", "jsonl", "kineto", "gzip", "onnx", "triton")
TRITON_TRACE = Path(__file__).parents[2] / "data" / "triton_trace" / "triton_2.51.json"


class Captures(dict[str, bytes]):
    def __repr__(self) -> str:
        return "captures"  # not all of their bytes with every failure


@pytest.fixture(scope="module")
def captures(tmp_path_factory) -> Captures:
    folder = tmp_path_factory.mktemp("whole")
    scene = Scene()
    for number in range(12):
        at = number * 100
        scene.request(number, at, at + 90).queue(number, at, at + 20).batch(number, [number], at + 20, at + 80)
        scene.work(at + 40, at + 70, called=at + 30, batch=number)
    scene.build.sample(Series(name="power", unit="W", device=0), [5, 6], [70.5, 71.25])
    timeline = scene.timeline()
    archive.save(timeline, folder / "a.timeline")
    export_nsight.write(timeline, folder / "a.sqlite")
    export_chrome.write(timeline, folder / "a.json")
    profile = [NODE | {"ts": 10 * number, "name": f"node_{number}_kernel_time"} for number in range(20)]
    trace = (folder / "a.json").read_bytes()
    return Captures(
        {
            "timeline": (folder / "a.timeline").read_bytes(),
            "sqlite": (folder / "a.sqlite").read_bytes(),
            "jsonl": as_lines(folder / "a.sqlite"),
            "kineto": trace,
            "gzip": gzip.compress(trace),
            "onnx": json.dumps(profile, indent=1).encode(),
            "triton": TRITON_TRACE.read_bytes(),
        }
    )


def as_lines(path: Path) -> bytes:
    db = sqlite3.connect(path)
    db.row_factory = sqlite3.Row
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = [{"table": name, **dict(row)} for name in tables for row in db.execute(f"SELECT * FROM {name}")]
    db.close()
    return "\n".join(map(json.dumps, rows)).encode()


def told(raw: bytes, folder: Path) -> None:
    path = folder / "capture.any"
    path.write_bytes(raw)
    try:
        timeline = import_any.read(path)
    except InputError as error:
        sentence = str(error)
    else:
        check(timeline)
        return
    assert "\n" not in sentence


def check(timeline: Timeline) -> None:
    assert (timeline.events.end_ns >= timeline.events.start_ns).all()
    assert (np.diff(timeline.events.start_ns) >= 0).all()
    assert (timeline.events.parent < len(timeline)).all()
    assert (timeline.events.name_id >= 0).all()
    assert (timeline.events.name_id < len(timeline.names)).all()
    if len(timeline):
        lines = summary_lines(summarize(timeline, "capture", 50_000), 5)
        diagnose(Case(timeline=timeline))
        assert timeline.has_gpu_activity or any("no GPU activity" in line for line in lines)


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 1))
def test_a_capture_that_was_cut_is_read_to_the_cut_or_told(captures, tmp_path, name, part):
    raw = captures[name]
    told(raw[: int(part * len(raw))], tmp_path)


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=8))
@example(changes=[(0.8543550036754143, 128)])  # SQLite's own message is no UTF-8 then
def test_changed_bytes_are_no_traceback(captures, tmp_path, name, changes):
    raw = bytearray(captures[name])
    for part, byte in changes:
        raw[int(part * len(raw))] = byte
    told(bytes(raw), tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_the_whole_captures_are_read(captures, tmp_path, name):
    (tmp_path / "capture.any").write_bytes(captures[name])
    timeline = import_any.read(tmp_path / "capture.any")
    assert not timeline.meta.partial
    counts = {kind: len(timeline.rows(kind)) for kind in (Kind.OPERATOR, Kind.KERNEL, Kind.REQUEST)}
    assert counts[Kind.OPERATOR] == 20 or counts[Kind.KERNEL] == 12 or (name, counts[Kind.REQUEST]) == ("triton", 8)

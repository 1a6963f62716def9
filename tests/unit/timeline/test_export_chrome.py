"""The Chrome trace reads back as what it was, and nothing in it overlaps where a viewer would drop it."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings

from analyzer.timeline import export_chrome, import_any, import_kineto
from analyzer.timeline.kinds import GPU_KINDS, Kind, MemoryKind
from analyzer.timeline.table import ABSENT, Series, Timeline
from tests.fakes.any_timeline import timelines
from tests.fakes.timelines import Scene

CAPTURE = Path("tests/data/nsight/dev.sqlite")
KEPT = (
    *("start_ns", "end_ns", "process", "thread", "device", "stream", "correlation", "instance", "request", "batch"),
    *("step", "bytes", "copy_kind", "size", "block_count", "thread_count"),
)


def told(timeline: Timeline, moved_ns: int = 0) -> Counter[tuple[object, ...]]:
    """Rows as values, without what the format has no place for; overlapping ranges of a thread are spans there."""
    columns = [getattr(timeline.events, name).tolist() for name in KEPT]
    found: Counter[tuple[object, ...]] = Counter()
    for row, (start, end, *values) in enumerate(zip(*columns)):
        kind = int(timeline.events.kind[row])
        memories = (timeline.events.src_kind[row], timeline.events.dst_kind[row]) if kind == Kind.MEMCPY else ()
        key = (Kind.SPAN if kind == Kind.RANGE else kind, timeline.name(row), timeline.model(row))
        found[(*key, start + moved_ns, end + moved_ns, *map(known_memory, memories), *values)] += 1
    return found


def known_memory(kind: int) -> int:
    return int(MemoryKind.UNKNOWN if kind == ABSENT else kind)


def rewritten(timeline: Timeline, folder: Path) -> Timeline:
    export_chrome.write(timeline, folder / "trace.json")
    return import_kineto.read(folder / "trace.json")


@settings(deadline=None, max_examples=60)
@given(timeline=timelines())
def test_a_trace_reads_back_as_it_was(timeline, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chrome")
    again = rewritten(timeline, folder)
    moved = timeline.start_ns - again.start_ns
    assert (moved == 0) == bool(timeline.anchors)
    assert told(again, moved) == told(timeline)
    assert again.devices == tuple(_without_uuid(each) for each in timeline.devices)
    assert again.counters.value.tolist() == timeline.counters.value.tolist()
    assert _wall_clock(again) == _wall_clock(timeline)


def _without_uuid(device):
    return type(device)(device.id, device.name, "", device.memory_bytes, device.sm_count, device.compute_capability)


def _wall_clock(timeline):
    return [each.offset_ns for each in timeline.anchors if each.clock == "utc"]


@settings(deadline=None, max_examples=40)
@given(timeline=timelines())
def test_complete_events_of_a_line_nest(timeline, tmp_path_factory):
    path = tmp_path_factory.mktemp("chrome") / "trace.json"
    export_chrome.write(timeline, path)
    lines = defaultdict(list)
    for event in json.loads(path.read_text())["traceEvents"]:
        if event["ph"] == "X":
            start = round(event["ts"] * 1000)
            lines[(event["pid"], event["tid"])].append((start, start + round(event["dur"] * 1000)))
    for rows in lines.values():
        for one, (start, end) in enumerate(rows):
            for other_start, other_end in rows[one + 1 :]:
                assert other_start >= start
                assert other_start >= end or other_end <= end


def test_the_sample_capture_keeps_its_sums(tmp_path):
    timeline = import_any.read(CAPTURE)
    again = rewritten(timeline, tmp_path)
    for kind in Kind:
        ours, theirs = again.rows(kind), timeline.rows(kind)
        assert len(ours) == len(theirs)
        assert again.events.duration_ns[ours].sum() == timeline.events.duration_ns[theirs].sum()
    assert again.devices[0].sm_count == timeline.devices[0].sm_count


def test_calls_are_joined_to_their_kernels_by_arrows(tmp_path):
    timeline = Scene().work(30, 40, called=22).work(50, 60).timeline()
    export_chrome.write(timeline, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    arrows = [(event["ph"], event["ts"], event["tid"]) for event in events if event.get("cat") == "ac2g"]
    assert arrows == [("s", 0.022, 7), ("f", 0.03, 7)]
    assert sum(event.get("cat") == "kernel" for event in events) == len(timeline.rows(*GPU_KINDS))


def test_a_unit_joins_the_name_of_its_counter(tmp_path):
    scene = Scene().work(1, 2)
    scene.build.sample(Series(name="power", unit="W", device=0), [5, 6], [70.5, 71.25])
    again = rewritten(scene.timeline(), tmp_path)
    assert [series.name for series in again.counters.series] == ["GPU 0 power W"], "two GPUs have two counters"


@pytest.mark.parametrize("copy_kind", [11, 12])
def test_page_migrations_keep_their_name(copy_kind, tmp_path):
    scene = Scene().work(1, 2, kind=Kind.MEMCPY, name="[CUDA memcpy Unified]", copy_kind=copy_kind)
    assert rewritten(scene.timeline(), tmp_path).name(0) == "[CUDA memcpy Unified]"

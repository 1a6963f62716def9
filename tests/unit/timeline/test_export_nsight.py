"""The SQLite file reads back as what Nsight can hold; the rest stands in tables of our own."""

import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings

from analyzer.timeline import export_nsight, import_any, import_nsight
from analyzer.timeline.analyses.projection import projected_sums
from analyzer.timeline.analyses.sums import api_sums, copy_size_sums, copy_time_sums, kernel_sums, range_sums
from analyzer.timeline.export_nsight_own import OWN_KINDS
from analyzer.timeline.kernel_names import demangled, short_name
from analyzer.timeline.kinds import GPU_KINDS, Kind
from analyzer.timeline.table import DTYPES, Timeline
from tests.fakes.any_timeline import timelines
from tests.fakes.timelines import Scene

CAPTURE = Path("tests/data/nsight/dev.sqlite")
CALLS = (Kind.API, Kind.OS_CALL, Kind.OVERHEAD)
WORK = (*GPU_KINDS, Kind.SYNC)
RANGES = (Kind.RANGE, Kind.SPAN, Kind.MARK)
TIMES = ("start_ns", "end_ns", "process")
NAMED_WORK = (
    "device",
    "stream",
    "correlation",
    "bytes",
    "copy_kind",
    "src_kind",
    "dst_kind",
    "block_count",
    "thread_count",
)


def told(timeline: Timeline, kinds: tuple[Kind, ...], *columns: str) -> Counter[tuple[object, ...]]:
    rows = timeline.rows(*kinds).tolist()
    return Counter(
        (
            int(timeline.events.kind[row]),
            timeline.name(row),
            *(int(getattr(timeline.events, name)[row]) for name in (*TIMES, *columns)),
        )
        for row in rows
    )


EVERY_COLUMN = tuple(DTYPES.keys() - {"kind", "name_id", "model_id", "parent", "start_ns", "end_ns", "process"})


@settings(deadline=None, max_examples=60)
@given(timeline=timelines())
def test_nothing_that_a_timeline_of_ours_has_is_lost_on_the_way_and_back(timeline, tmp_path_factory):
    path = tmp_path_factory.mktemp("nsight") / "capture.sqlite"
    export_nsight.write(timeline, path)
    again = import_nsight.read(path)
    assert whole(again) == whole(timeline)
    assert Counter(zip(*edges(again))) == Counter(zip(*edges(timeline)))
    assert samples(again) == samples(timeline)
    assert (again.tracks, again.anchors, again.devices) == (timeline.tracks, timeline.anchors, timeline.devices)
    assert (again.meta.producer, again.meta.partial) == (timeline.meta.producer, timeline.meta.partial)


def whole(timeline):
    rows = told(timeline, tuple(Kind), *EVERY_COLUMN)
    models = Counter((timeline.model(row), int(timeline.events.start_ns[row])) for row in range(len(timeline)))
    return rows, models


def edges(timeline):
    return [column.tolist() for column in (timeline.edges.relation, timeline.edges.source, timeline.edges.target)]


def samples(timeline):
    counters = timeline.counters
    names = [counters.series[each] for each in counters.series_id.tolist()]
    return Counter(zip(names, counters.time_ns.tolist(), counters.value.tolist()))


@settings(deadline=None, max_examples=60)
@given(timeline=timelines())
def test_a_file_reads_back_as_it_was(timeline, tmp_path_factory):
    path = tmp_path_factory.mktemp("nsight") / "capture.sqlite"
    export_nsight.write(timeline, path)
    again = import_nsight.read(path)
    assert told(again, WORK, *NAMED_WORK) == told(timeline, WORK, *NAMED_WORK)
    assert told(again, (Kind.API,), "thread", "correlation") == told(timeline, (Kind.API,), "thread", "correlation")
    assert told(again, CALLS, "thread") == told(timeline, CALLS, "thread")
    ours = {kind: count for kind, count in told(again, RANGES, "thread", "size").items() if ":" not in str(kind[1])}
    plain = told(timeline, RANGES, "thread", "size")
    assert ours == {kind: count for kind, count in plain.items() if ":" not in str(kind[1])}
    assert again.devices == timeline.devices
    assert [each.offset_ns for each in again.anchors] == [each.offset_ns for each in timeline.anchors]
    with closing(sqlite3.connect(path)) as db:
        assert own_events(db) == expected_own_events(timeline)
        assert db.execute("SELECT COUNT(*) FROM ANALYZER_EDGES").fetchone() == (len(timeline.edges),)
        assert db.execute("SELECT SUM(value) FROM ANALYZER_COUNTERS").fetchone() == (timeline.counters.value.sum(),)


def own_events(db):
    numbers = ("processId", "threadId", "instance", "request", "batch", "step", "size")
    wanted = ", ".join(f'COALESCE("{name}", -1)' for name in numbers)
    rows = db.execute(f"SELECT kind, name, COALESCE(model, ''), start, end, {wanted} FROM ANALYZER_EVENTS").fetchall()
    return Counter(rows)


def expected_own_events(timeline):
    numbers = ("start_ns", "end_ns", "process", "thread", "instance", "request", "batch", "step", "size")
    found = Counter()
    for row in timeline.rows(*OWN_KINDS).tolist():
        values = (int(getattr(timeline.events, name)[row]) for name in numbers)
        found[(Kind(timeline.events.kind[row]).name.lower(), timeline.name(row), timeline.model(row), *values)] += 1
    return found


def test_the_sample_capture_keeps_its_summary_tables(tmp_path):
    timeline = import_any.read(CAPTURE)
    export_nsight.write(timeline, tmp_path / "again.sqlite")
    again = import_any.read(tmp_path / "again.sqlite")
    for summary in (kernel_sums, copy_time_sums, copy_size_sums, api_sums, range_sums, projected_sums):
        assert summary(again) == summary(timeline)
    assert again.tracks[:3] == timeline.tracks[:3]


def test_nothing_of_the_environment_is_written(tmp_path):
    export_nsight.write(import_any.read(CAPTURE), tmp_path / "again.sqlite")
    with closing(sqlite3.connect(tmp_path / "again.sqlite")) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert not tables & {"META_DATA_CAPTURE", "ProcessStreams", "TARGET_INFO_SYSTEM_ENV"}
    raw = (tmp_path / "again.sqlite").read_bytes()
    assert b"ENVIRONMENT" not in raw
    assert b"PATH=" not in raw


def test_columns_of_kernels_stand_where_nsight_has_them(tmp_path):
    export_nsight.write(Scene().work(1, 2, called=0).timeline(), tmp_path / "a.sqlite")
    for table in ("CUPTI_ACTIVITY_KIND_KERNEL", "CUPTI_ACTIVITY_KIND_RUNTIME"):
        with closing(sqlite3.connect(tmp_path / "a.sqlite")) as ours, closing(sqlite3.connect(CAPTURE)) as theirs:
            ask = f"PRAGMA table_info({table})"
            assert [row[1:4] for row in ours.execute(ask)] == [row[1:4] for row in theirs.execute(ask)]


def test_batches_are_ranges_to_other_tools_and_keep_their_ids_for_sql(tmp_path):
    scene = Scene().batch(5, [1], 20, 80, model="resnet", instance=1).work(30, 40, called=22, batch=5)
    export_nsight.write(scene.timeline(), tmp_path / "a.sqlite")
    again = import_nsight.read(tmp_path / "a.sqlite")
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as db:
        assert dict(db.execute("SELECT text, eventType FROM NVTX_EVENTS WHERE domainId > 0 AND eventType = 60")) == {
            "execute resnet": 60,
            "compute_infer resnet": 60,
        }
        assert db.execute("SELECT batch, instance, size FROM ANALYZER_EVENTS WHERE kind = 'batch'").fetchall() == [
            (5, 1, 1)
        ]
        assert db.execute("SELECT kind, batch, correlationId FROM ANALYZER_WORK").fetchall() == [("kernel", 5, 1)]
    assert [again.name(row) for row in again.rows(Kind.BATCH)] == ["execute"]


def test_kernels_have_the_three_names_that_nsight_gives_them(tmp_path):
    scene = Scene().work(1, 2, name="void n::relu<float>(float*)").work(3, 4, name="_Z4reluPfi").work(5, 6, name="gemm")
    export_nsight.write(scene.timeline(), tmp_path / "a.sqlite")
    columns = ("demangledName", "shortName", "mangledName")
    ask = ", ".join(f"(SELECT value FROM StringIds WHERE id = {column})" for column in columns)
    with closing(sqlite3.connect(tmp_path / "a.sqlite")) as db:
        found = db.execute(f"SELECT {ask} FROM CUPTI_ACTIVITY_KIND_KERNEL ORDER BY start").fetchall()
    assert found == [
        ("void n::relu<float>(float*)", "relu", None),
        (demangled("_Z4reluPfi"), short_name("_Z4reluPfi"), "_Z4reluPfi"),
        ("gemm", "gemm", "gemm"),
    ]

"""The table's own file keeps everything, and a damaged one is told in a sentence."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import InputError
from analyzer.timeline import archive
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kinds import Kind, Relation
from analyzer.timeline.table import DTYPES, Anchor, Counters, Device, Edges, Events, Meta, Series, Timeline, Track


def small() -> Timeline:
    build = TimelineBuilder()
    first = build.add(Kind.RANGE, [100, 300], [200, 400], build.name_ids(["a", "b"]), process=1, thread=7)
    build.add(Kind.API, 120, 150, build.name_id("cudaLaunchKernel"), process=1, thread=7, correlation=5, parent=first)
    build.add(Kind.KERNEL, [90], [170], build.name_id("gemm"), process=1, device=0, stream=7, correlation=5)
    build.link(Relation.REQUEST_BATCH, [1, 2], 9)
    build.sample(Series(name="SM", unit="%", device=0), [50, 10], [3.5, 4.5])
    meta = Meta(producer="test", collected=("kernel",), dropped={"kernel": 3}, warnings=("one",), partial=True)
    return build.build(
        meta,
        [Track(name="main", process=1, thread=7)],
        [Device(id=0, name="H100", compute_capability=(9, 0))],
        [Anchor(clock="utc", offset_ns=1_795_304_415_988_212_631, residual_ns=12)],
    )


def assert_equal(one: Timeline, other: Timeline) -> None:
    for part in (Events, Edges):
        for column in fields(part):
            attribute = "events" if part is Events else "edges"
            left, right = getattr(getattr(one, attribute), column.name), getattr(getattr(other, attribute), column.name)
            assert left.dtype == right.dtype, column.name
            assert np.array_equal(left, right), column.name
    for column in fields(Counters):
        assert np.array_equal(getattr(one.counters, column.name), getattr(other.counters, column.name))
    assert (one.names, one.meta, one.tracks, one.devices, one.anchors, one.counters.series) == (
        other.names,
        other.meta,
        other.tracks,
        other.devices,
        other.anchors,
        other.counters.series,
    )


def test_rows_are_in_order_and_parents_follow_their_rows():
    timeline = small()
    assert [timeline.name(row) for row in range(4)] == ["gemm", "a", "cudaLaunchKernel", "b"]
    assert timeline.events.parent.tolist() == [-1, -1, 1, -1]
    assert timeline.counters.value.tolist() == [4.5, 3.5]
    assert (timeline.start_ns, timeline.end_ns) == (90, 400)


def test_an_absent_column_is_minus_one_and_a_negative_length_is_none():
    build = TimelineBuilder()
    build.add(Kind.MARK, 5, 3, build.name_id("x"))
    timeline = build.build(Meta(producer="test"))
    assert timeline.events.end_ns.tolist() == [5]
    assert timeline.events.request.tolist() == [-1]


def test_a_column_that_the_table_lacks_is_refused():
    with pytest.raises(TypeError, match="no column 'colour'"):
        TimelineBuilder().add(Kind.MARK, 1, 1, 0, colour=3)


def test_what_is_saved_comes_back(tmp_path: Path):
    archive.save(small(), tmp_path / "a.timeline")
    assert_equal(archive.load(tmp_path / "a.timeline"), small())


def test_a_timeline_without_events_comes_back(tmp_path: Path):
    empty = TimelineBuilder().build(Meta(producer="test"))
    archive.save(empty, tmp_path / "a.timeline")
    assert_equal(archive.load(tmp_path / "a.timeline"), empty)


COLUMN = st.sampled_from(sorted(DTYPES.keys() - {"kind", "start_ns", "end_ns", "parent", "name_id"}))


@given(st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**40)), max_size=5), COLUMN, st.integers(-1, 100))
def test_any_column_comes_back(tmp_path_factory, rows, column, value):
    path = tmp_path_factory.mktemp("archive") / "a.timeline"
    build = TimelineBuilder()
    for start, length in rows:
        build.add(Kind.SPAN, start, start + length, build.name_id(str(length)), **{column: value})
    timeline = build.build(Meta(producer="test"))
    archive.save(timeline, path)
    assert_equal(archive.load(path), timeline)


@pytest.mark.parametrize("keep", [0, 10, 500, -30])
def test_a_torn_file_is_told_in_a_sentence(tmp_path: Path, keep: int):
    path = tmp_path / "a.timeline"
    archive.save(small(), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="not a whole timeline file; import the capture again"):
        archive.load(path)


def test_a_missing_file_is_told_in_a_sentence(tmp_path: Path):
    with pytest.raises(InputError, match=r"can't read .*No such file"):
        archive.load(tmp_path / "a.timeline")


def test_no_half_written_file_stays_where_writing_fails(tmp_path: Path):
    with pytest.raises(InputError, match="can't write"):
        archive.save(small(), tmp_path / "missing" / "a.timeline")
    assert list(tmp_path.iterdir()) == []

"""Busy, idle by cause, gaps, copies, overlap, launches: on timelines made by hand, and on a real capture."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.timeline import import_nsight
from analyzer.timeline.analyses import copies, idle, overlap
from analyzer.timeline.analyses.busy import busy
from analyzer.timeline.analyses.depth import depth
from analyzer.timeline.analyses.idle import Cause
from analyzer.timeline.analyses.launches import device_queues, launch_delays
from analyzer.timeline.analyses.spread import spreads
from analyzer.timeline.kinds import GPU_KINDS, CopyKind, Kind, MemoryKind
from analyzer.timeline.table import Timeline
from tests.fakes.timelines import Scene

HTOD = {"copy_kind": CopyKind.HOST_TO_DEVICE, "dst_kind": MemoryKind.DEVICE}


@pytest.fixture(scope="module")
def capture() -> Timeline:
    return import_nsight.read(Path("tests/data/nsight/dev.sqlite"))


def test_busy_counts_overlap_once_and_copies_apart():
    scene = Scene().work(0, 10).work(5, 20, stream=8).work(20, 30, kind=Kind.MEMCPY).work(90, 100)
    (found,) = busy(scene.timeline())
    assert (found.span_ns, found.kernels_ns, found.activity_ns, found.kernel_sum_ns) == (100, 30, 40, 35)
    assert (found.kernels_ratio, found.activity_ratio, found.operation_count) == (0.3, 0.4, 4)


def test_busy_of_a_window_counts_what_is_in_it():
    (found,) = busy(Scene().work(0, 10).work(50, 70).timeline(), (5, 60))
    assert (found.start_ns, found.span_ns, found.kernels_ns, found.kernel_sum_ns) == (5, 55, 15, 15)


def test_a_timeline_without_device_work_has_no_busy_figure():
    assert busy(Scene().request(1, 0, 10).timeline()) == ()


def causes(timeline: Timeline, **how: bool) -> dict[Cause, int]:
    (found,) = idle.idle(timeline, **how)
    assert sum(each.time_ns for each in found.causes) == found.idle_ns
    return {each.cause: each.time_ns for each in found.causes}


def test_idle_is_split_by_when_the_next_operation_was_launched():
    scene = Scene().work(0, 1000, called=0)
    scene.work(6000, 7000, called=5000)  # launched after the end: the host was late
    scene.work(9000, 10_000, called=6500)  # launched in time, a short gap
    scene.work(60_000, 61_000, called=9500)  # launched in time, yet long
    scene.work(62_000, 63_000)  # no call in the capture
    timeline = scene.timeline()
    assert causes(timeline) == {
        Cause.HOST_WAIT: 5000,
        Cause.KERNEL_WAIT: 2000,
        Cause.OTHER: 50_000,
        Cause.UNKNOWN: 1000,
    }


def test_a_host_wait_without_any_request_is_not_the_hosts_fault():
    scene = Scene().work(0, 10, called=0).work(100, 110, called=95)
    scene.request(1, 0, 20).request(2, 90, 120)
    assert causes(scene.timeline()) == {Cause.NO_REQUEST: 70, Cause.HOST_WAIT: 20}


def test_streams_have_gaps_that_their_device_has_not():
    scene = Scene().work(0, 10, called=0).work(10, 20, called=1, stream=8).work(20, 30, called=2)
    timeline = scene.timeline()
    assert causes(timeline) == {}
    found = {each.stream: each.idle_ns for each in idle.idle(timeline, by_stream=True)}
    assert found == {7: 10, 8: 0}


def test_gaps_name_the_work_and_ranges_on_both_sides():
    scene = Scene().work(0, 10, called=0, name="conv", batch=4).work(460, 470, called=455, name="relu")
    scene.work(475, 480, called=471, name="add")
    scene.add(Kind.RANGE, "step a", 0, 5, thread=7).add(Kind.RANGE, "step b", 450, 475, thread=7)
    (found,) = idle.gaps(scene.timeline(), floor_ns=100)
    assert (found.start_ns, found.duration_ns, found.cause) == (10, 450, Cause.HOST_WAIT)
    assert (found.before.name, found.before.range, found.before.batch) == ("conv", "step a", 4)
    assert (found.after.name, found.after.range) == ("relu", "step b")


def test_gaps_are_the_longest_first_and_no_more_than_asked():
    scene = Scene()
    for start in (0, 20, 60, 90):
        scene.work(start, start + 10, called=start)
    timeline = scene.timeline()
    assert [gap.duration_ns for gap in idle.gaps(timeline, 0)] == [30, 20, 10]
    assert [gap.duration_ns for gap in idle.gaps(timeline, 15, limit=1)] == [30]
    assert idle.gaps(timeline, 31) == ()


WORK = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 30), st.integers(0, 60)), min_size=1, max_size=15)


@given(WORK)
def test_busy_and_idle_fill_the_span(rows):
    scene = Scene()
    for start, length, ahead in rows:
        scene.work(start, start + length, called=start - ahead)
    timeline = scene.timeline()
    (found,), (gaps,) = busy(timeline), idle.idle(timeline)
    assert found.activity_ns + gaps.idle_ns == found.span_ns == gaps.span_ns
    assert sum(each.time_ns for each in gaps.causes) == gaps.idle_ns


def test_the_copy_matrix_keeps_memory_kinds_apart_and_says_what_was_hidden():
    scene = Scene().work(0, 100)
    copy = {"kind": Kind.MEMCPY, "stream": 8, **HTOD}
    scene.work(50, 150, bytes=4000, src_kind=MemoryKind.PAGEABLE, **copy)
    scene.work(160, 170, bytes=500, src_kind=MemoryKind.PINNED, **copy)
    pageable, pinned = copies.copy_matrix(scene.timeline())
    assert (pageable.source, pageable.destination, pageable.is_pageable) == ("pageable", "device", True)
    assert (pageable.bytes, pageable.total_ns, pageable.exposed_ns) == (4000, 100, 50)
    assert pageable.bytes_per_s == 4e10
    assert (pinned.source, pinned.is_pageable, pinned.exposed_ns) == ("pinned", False, 10)


def test_memory_of_an_unknown_kind_is_not_called_pageable():
    (cell,) = copies.copy_matrix(Scene().work(0, 1, kind=Kind.MEMCPY).timeline())
    assert (cell.direction, cell.source, cell.is_pageable) == ("Unknown", "unknown", False)


def test_streams_that_take_turns_share_nothing():
    scene = Scene().work(0, 10).work(10, 20, stream=8).work(20, 30)
    (turns,) = overlap.stream_overlap(scene.timeline())
    assert (turns.union_ns, turns.shared_ns, turns.shared_ratio) == (30, 0, 0.0)
    (shared,) = overlap.stream_overlap(scene.work(25, 35, stream=8).timeline())
    assert (shared.union_ns, shared.shared_ns) == (35, 5)
    assert [(pair.one, pair.other, pair.both_ns) for pair in shared.pairs] == [("stream 7", "stream 8", 5)]


def test_instances_overlap_by_their_batches_or_their_kernels():
    scene = Scene().batch(1, [1], 0, 100, instance=0).batch(2, [2], 50, 150, instance=1)
    model = {"model_id": scene.build.name_id("m")}
    scene.work(10, 20, instance=0, **model).work(60, 70, instance=1, **model)
    timeline = scene.timeline()
    (batches,) = overlap.instance_overlap(timeline)
    assert (batches.group, batches.union_ns, batches.shared_ns) == ("m", 150, 50)
    (kernels,) = overlap.instance_overlap(timeline, Kind.KERNEL)
    assert (kernels.union_ns, kernels.shared_ns) == (20, 0)


def test_launch_delays_count_from_the_call_and_queues_only_what_waited():
    scene = Scene().work(100, 300, called=0).work(1000, 1001, called=1000).work(2000, 2001)
    found = launch_delays(scene.timeline(), long_call_ns=0, long_delay_ns=50)
    assert (found.operation_count, found.without_call_count) == (3, 1)
    assert (found.delay.count, found.delay.total, found.queued.count, found.queued.total) == (2, 100, 1, 99)
    assert (found.long_call_count, found.long_delay_count, found.short_operation_count) == (2, 1, 0)


def test_a_devices_queue_holds_what_was_launched_and_has_not_begun():
    scene = Scene().work(10, 20, called=0).work(20, 30, called=5).work(30, 40, called=6)
    queue = device_queues(scene.timeline())[(0, 7)]
    assert queue.time_ns.tolist() == [0, 5, 6, 10, 20, 30]
    assert queue.count.tolist() == [1, 2, 3, 2, 1, 0]
    assert (queue.largest, queue.mean, queue.quantile(0.5)) == (3, pytest.approx(1.6333333), 1)


PAIRS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), min_size=1, max_size=10)


@given(PAIRS, st.floats(0.01, 1.0))
def test_depth_over_time_is_that_of_each_instant(pairs, share):
    start = np.array([pair[0] for pair in pairs])
    found = depth(start, start + np.array([pair[1] for pair in pairs]))
    first, last = int(found.time_ns[0]), int(found.time_ns[-1])
    counts = [sum(begin <= at < begin + length for begin, length in pairs) for at in range(first, last)]
    assert found.at(np.arange(first, last)).tolist() == counts
    assert found.mean == pytest.approx(np.mean(counts))
    assert found.largest == max(counts)
    quantile = found.quantile(share)
    assert sum(count <= quantile for count in counts) >= share * len(counts) - 1e-9
    assert sum(count < quantile for count in counts) < share * len(counts) + 1e-9


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-100, 10**12)), min_size=1, max_size=30))
def test_spreads_are_those_of_numpy(rows):
    keys, values = (np.array([row[side] for row in rows], np.int64) for side in (0, 1))
    for key, found in spreads(keys, values).items():
        mine = values[keys == key]
        assert (found.count, found.total) == (len(mine), int(mine.sum()))
        assert (found.smallest, found.largest) == (int(mine.min()), int(mine.max()))
        assert found.median == np.median(mine)
        assert found.deviation == pytest.approx(np.std(mine, ddof=1) if len(mine) > 1 else 0.0, abs=1e-3)


def test_the_real_capture_is_mostly_idle_and_its_gaps_are_explained(capture):
    (device,) = busy(capture)
    (gaps,) = idle.idle(capture)
    assert device.name == "NVIDIA H100 80GB HBM3"
    assert 0 < device.kernels_ns < device.activity_ns < device.span_ns
    assert device.operation_count == 256
    assert device.activity_ns + gaps.idle_ns == device.span_ns
    rows = capture.rows(*GPU_KINDS)
    assert device.activity_ns <= int(capture.events.duration_ns[rows].sum())
    assert gaps.causes[0].cause is Cause.HOST_WAIT
    assert sum(cell.count for cell in copies.copy_matrix(capture)) == 54
    assert {cell.is_pageable for cell in copies.copy_matrix(capture)} == {True, False}

"""CUPTI's records to columns in the server, and from its file to events that know their batch."""

import threading
from time import monotonic_ns

import numpy as np
import pytest

from analyzer.collect.cupti import Placed, _on_our_clock, add_gpu, read_gpu
from analyzer.collect.window import timeline_of
from analyzer.errors import ChildError
from analyzer.runtime.cuda_devices import CudaDevice
from analyzer.runtime.cupti_library import BUFFER_BYTES
from analyzer.runtime.gpu_trace import CuptiTracer
from analyzer.runtime.spans import Row, Spans, save
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kernel_names import demangled
from analyzer.timeline.kinds import Kind, MemoryKind
from analyzer.timeline.table import Meta
from tests.fakes.cupti import FakeCupti, Result, call, kernel, mark, memcpy, memset, sync

AHEAD_NS = 1_000_000_000_000
"""How far the fake's clock is ahead of ours."""


def cupti_clock():
    return monotonic_ns() + AHEAD_NS


H100 = CudaDevice(0, "NVIDIA H100 80GB HBM3", "GPU-1", 80 * 2**30, 132, (9, 0))


def traces(fake, spans=None, **more):
    return CuptiTracer(spans, lambda: fake, lambda: fake.library, lambda: (H100,), **more)


def traced(tmp_path, records, **more):
    fake = FakeCupti(cupti_clock, **more)
    tracer = traces(fake)
    assert tracer.start().state == "on"
    fake.records = list(records)
    stats = tracer.stop(tmp_path)
    return stats, fake


def events(tmp_path, batches=None):
    build = TimelineBuilder()
    placed = {number: Placed(build.name_id(model), instance) for number, (model, instance) in (batches or {}).items()}
    add_gpu(build, read_gpu(tmp_path / "cupti.npz"), placed, process=77)
    return build.build(Meta(producer="test"))


def test_kernels_know_the_batch_that_launched_them_by_their_call(tmp_path):
    now = cupti_clock()
    records = [
        mark(1, 42), call(now, now + 5, 1), kernel(now + 10, now + 30, 1, "conv"),
        call(now + 50, now + 55, 2), kernel(now + 60, now + 70, 2, "other"),
    ]  # fmt: skip
    stats, fake = traced(tmp_path, records)
    assert (stats.records, stats.dropped, fake.enabled) == (4, 0, [])
    timeline = events(tmp_path, {42: ("resnet", 1)})
    table = timeline.events
    first, second = timeline.rows(Kind.KERNEL)
    assert (timeline.name(first), timeline.model(first)) == ("conv", "resnet")
    assert (table.batch[first], table.instance[first]) == (42, 1)
    assert (table.device[first], table.stream[first]) == (0, 7)
    assert (table.block_count[first], table.thread_count[first]) == (8, 128)
    assert (table.batch[second], table.instance[second], timeline.model(second)) == (-1, -1, "")
    calls = timeline.rows(Kind.API)
    assert [timeline.name(row) for row in calls] == ["cudaLaunchKernel_v7000"] * 2
    assert table.thread[calls].tolist() == [99, 99]
    assert table.correlation[calls].tolist() == table.correlation[[first, second]].tolist()


def test_a_thread_whose_number_has_its_highest_bit_set_is_one_thread_and_not_absent(tmp_path):
    now = cupti_clock()
    traced(tmp_path, [call(now, now + 5, 1, thread=-2368), call(now + 9, now + 12, 2, thread=0xFFFFF6C0)])
    timeline = events(tmp_path)
    assert timeline.events.thread[timeline.rows(Kind.API)].tolist() == [0x7FFFF6C0] * 2


def test_calls_stand_on_the_thread_whose_batches_they_were_made_for(tmp_path):
    now = cupti_clock()
    pthread = 0x5E7F9000
    traced(tmp_path, [
        mark(1, 42), call(now, now + 5, 1, thread=pthread), call(now + 9, now + 12, 2, thread=pthread),
        call(now + 20, now + 22, 3, thread=pthread + 8),
    ])  # fmt: skip
    build = TimelineBuilder()
    add_gpu(build, read_gpu(tmp_path / "cupti.npz"), {42: Placed(build.name_id("m"), 0, thread=1258)}, process=77)
    timeline = build.build(Meta(producer="test"))
    threads = timeline.events.thread[timeline.rows(Kind.API)].tolist()
    assert threads == [1258, 1258, pthread + 8], "one that launched for no batch keeps CUPTI's number"


def test_times_are_put_on_our_clock(tmp_path):
    before = monotonic_ns()
    now = cupti_clock()
    traced(tmp_path, [kernel(now, now + 1000, 1)])
    table = events(tmp_path).events
    residual = read_gpu(tmp_path / "cupti.npz").clock_residual_ns
    assert before - residual <= table.start_ns[0] <= monotonic_ns() + residual
    assert abs(int(table.end_ns[0] - table.start_ns[0]) - 1000) <= 1


@pytest.mark.parametrize(
    ("first", "last", "time", "expected"),
    [((0, 100), (1000, 1100), 500, 600), ((0, 0), (1000, 1010), 500, 505), ((7, 3), (7, 3), 9, 5)],
)
def test_a_clock_that_drifts_is_fitted_by_a_line(first, last, time, expected):
    assert _on_our_clock(np.array([time]), first, last).tolist() == [expected]


def test_copies_carry_their_size_and_the_kinds_of_memory_in_the_tables_numbers(tmp_path):
    now = cupti_clock()
    traced(tmp_path, [memcpy(now, now + 5, 3), memcpy(now + 9, now + 12, 4, copy_kind=2, src_kind=3, dst_kind=2)])
    timeline = events(tmp_path)
    rows = timeline.rows(Kind.MEMCPY)
    assert [timeline.name(row) for row in rows] == ["[CUDA memcpy Host-to-Device]", "[CUDA memcpy Device-to-Host]"]
    assert timeline.events.bytes[rows].tolist() == [4096, 4096]
    assert timeline.events.src_kind[rows].tolist() == [MemoryKind.PAGEABLE, MemoryKind.DEVICE]
    assert timeline.events.dst_kind[rows].tolist() == [MemoryKind.DEVICE, MemoryKind.PINNED]


def test_a_call_of_the_runtime_is_not_told_again_as_one_of_the_driver(tmp_path):
    now = cupti_clock()
    nested, own = call(now + 1, now + 4, 1, 307, kind=4), call(now + 9, now + 11, 2, 307, kind=4)
    stats, _ = traced(tmp_path, [call(now, now + 5, 1), nested, own])
    timeline = events(tmp_path)
    assert [timeline.name(row) for row in timeline.rows(Kind.API)] == ["cudaLaunchKernel_v7000", "cuLaunchKernel"]
    assert (stats.records, stats.dropped) == (2, 0)


def test_waits_have_their_names_and_no_stream_where_there_is_none(tmp_path):
    now = cupti_clock()
    traced(tmp_path, [sync(now, now + 5, 1)])
    timeline = events(tmp_path)
    (row,) = timeline.rows(Kind.SYNC)
    assert (timeline.name(row), timeline.events.stream[row]) == ("Stream sync", -1)


def test_what_the_library_dropped_is_counted(tmp_path):
    stats, _ = traced(tmp_path, [], drops=5)
    assert stats.dropped == 5
    assert read_gpu(tmp_path / "cupti.npz").dropped == 5
    assert len(events(tmp_path)) == 0


def test_records_beyond_the_limit_are_counted_not_kept(tmp_path):
    now = cupti_clock()
    fake = FakeCupti(cupti_clock, [kernel(now, now + 1, 1), kernel(now, now + 1, 2)])
    tracer = traces(fake, most_records=1)
    tracer.start()
    stats = tracer.stop(tmp_path)
    assert (stats.records, stats.dropped) == (1, 1)
    assert "beyond the limit" in stats.warnings[0]


def test_calls_that_only_ask_are_switched_off_for_each_window_and_left_out_where_they_can_not_be(tmp_path):
    now = cupti_clock()
    asks, waits = call(now, now + 5, 1, cbid=17), call(now + 6, now + 8, 2, cbid=131)
    for can_select in (True, False):
        fake = FakeCupti(cupti_clock, can_select=can_select)
        tracer = traces(fake)
        for _ in range(2):
            tracer.start()
            fake.write(asks, waits)
            stats = tracer.stop(tmp_path)
            assert (stats.records, stats.dropped) == (1, 0)
        timeline = events(tmp_path)
        assert [timeline.name(row) for row in timeline.rows(Kind.API)] == ["cudaStreamSynchronize_v3020"]


def test_a_kernel_that_could_not_be_timed_is_left_out_and_told(tmp_path):
    now = cupti_clock()
    stats, _ = traced(tmp_path, [kernel(0, 0, 1), kernel(now, now + 5, 2)])
    assert (stats.records, stats.dropped) == (1, 1)
    assert "left out: 1" in stats.warnings[0]


def test_marks_of_other_users_of_cupti_are_not_taken_for_batches(tmp_path):
    now = cupti_clock()
    traced(
        tmp_path,
        [mark(1, 9, kind=4), mark(1, 42), call(now, now + 5, 1), mark(2, 7, kind=1), kernel(now + 1, now + 5, 2)],
    )
    assert events(tmp_path).events.batch.tolist() == [42, -1]


def test_memsets_and_copies_between_devices_are_there_too(tmp_path):
    now = cupti_clock()
    peer = memcpy(now + 7, now + 9, 2, copy_kind=10, src_kind=3, dst_kind=3, kind=22)
    traced(tmp_path, [memset(now, now + 5, 1), peer])
    timeline = events(tmp_path)
    assert [timeline.name(row) for row in range(2)] == ["[CUDA memset]", "[CUDA memcpy Peer-to-Peer]"]
    assert timeline.events.bytes.tolist() == [512, 4096]
    assert timeline.events.correlation.tolist() == [1, 2]


def test_kernels_have_the_names_that_people_gave_them(tmp_path):
    now = cupti_clock()
    traced(tmp_path, [kernel(now, now + 5, 1, "_Z4reluPfi"), kernel(now + 7, now + 9, 2, "sm80_gemm")])
    timeline = events(tmp_path)
    assert [timeline.name(row) for row in range(2)] == [demangled("_Z4reluPfi"), "sm80_gemm"]


def test_the_device_is_told_with_its_name_and_capability(tmp_path):
    now = cupti_clock()
    traced(tmp_path, [kernel(now, now + 5, 1)])
    (device,) = read_gpu(tmp_path / "cupti.npz").devices
    assert (device.id, device.name, device.compute_capability) == (0, "NVIDIA H100 80GB HBM3", (9, 0))


def test_a_window_holds_nothing_of_the_one_before(tmp_path):
    fake = FakeCupti(cupti_clock)
    tracer = traces(fake)
    counts = []
    for launches in (3, 2):
        tracer.start()
        for _ in range(launches):
            fake.launch()
        counts.append(tracer.stop(tmp_path).records)
        fake.launch()  # between the windows
    assert counts == [6, 4]


def test_marks_of_two_threads_that_launch_at_the_same_time_do_not_mix(tmp_path):
    fake, rounds = FakeCupti(cupti_clock), 200
    tracer = traces(fake)
    tracer.start()
    meet = threading.Barrier(2)

    def instance(first):
        meet.wait()
        for number in range(first, first + rounds):
            tracer.push(number)
            fake.launch(f"of {number}")
            fake.launch(f"of {number}")
            tracer.pop()

    threads = [threading.Thread(target=instance, args=(first,)) for first in (1, 10_001)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracer.stop(tmp_path)
    timeline = events(tmp_path)
    kernels = timeline.rows(Kind.KERNEL)
    assert len(kernels) == 4 * rounds
    assert all(timeline.name(row) == f"of {timeline.events.batch[row]}" for row in kernels)


def test_a_window_ends_when_the_batches_that_are_under_way_have_ended(tmp_path):
    fake = FakeCupti(cupti_clock)
    tracer = traces(fake, most_wait_s=30.0)
    tracer.start()
    begun, ended = threading.Event(), threading.Event()

    def instance():
        tracer.push(1)
        fake.launch("first")
        begun.set()
        ended.wait()
        fake.launch("second")
        tracer.pop()

    threads = [threading.Thread(target=instance), threading.Thread(target=tracer.stop, args=(tmp_path,))]
    threads[0].start()
    begun.wait()
    threads[1].start()
    ended.set()
    for thread in threads:
        thread.join()
    timeline = events(tmp_path)
    assert [timeline.name(row) for row in timeline.rows(Kind.KERNEL)] == ["first", "second"]


def test_a_batch_without_end_does_not_keep_a_window_open(tmp_path):
    fake = FakeCupti(cupti_clock)
    tracer = traces(fake, most_wait_s=0.0)
    tracer.start()
    tracer.push(1)
    fake.launch("first")
    assert tracer.stop(tmp_path).records > 0


def test_memory_that_is_full_drops_records_which_are_counted_and_told(tmp_path):
    fake = FakeCupti(cupti_clock)
    tracer = traces(fake, most_bytes=BUFFER_BYTES)
    tracer.start()
    launched = 20_000
    now = cupti_clock()
    fake.write(*(kernel(now, now + 1, number) for number in range(1, launched + 1)))
    stats = tracer.stop(tmp_path)
    assert stats.records == BUFFER_BYTES // 216
    assert stats.dropped == launched - stats.records
    assert "memory for CUPTI's records was full" in stats.warnings[0]
    assert read_gpu(tmp_path / "cupti.npz").warnings == stats.warnings
    tracer.start()
    fake.launch()
    assert tracer.stop(tmp_path).dropped == 0


def test_a_library_that_does_not_hand_over_its_records_is_told_of(tmp_path):
    stats, _ = traced(tmp_path, [], flush_status=999)
    assert "did not hand over all" in stats.warnings[0]


def test_a_second_profiler_is_said_to_be_busy():
    fake = FakeCupti(cupti_clock, refuses=Result.ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED)
    found = traces(fake).start()
    assert (found.state, "another profiler" in found.reason) == ("busy", True)
    assert fake.enabled == []


def test_any_other_refusal_and_a_missing_package_are_absent_with_the_reason():
    refused = traces(FakeCupti(cupti_clock, refuses=Result.ERROR_UNKNOWN)).start()
    assert (refused.state, "ERROR_UNKNOWN" in refused.reason) == ("absent", True)

    def missing():
        raise ImportError("No module named 'cupti'")

    absent = CuptiTracer(None, missing).probe()
    assert (absent.state, "serving-analyzer[cupti]" in absent.reason) == ("absent", True)


def test_without_a_driver_the_probe_says_so():
    def broken():
        raise RuntimeError("libcupti.so.13 not found")

    found = traces(FakeCupti(broken)).probe()
    assert (found.state, "libcupti.so.13" in found.reason) == ("absent", True)


def test_batches_are_marked_only_while_it_runs(tmp_path):
    spans, fake = Spans(4), FakeCupti(cupti_clock)
    tracer = traces(fake, spans)
    tracer.start()
    assert spans.correlator is tracer
    tracer.push(7)
    assert fake.marks == [7]
    tracer.pop()
    tracer.pop()  # one too many is no fault of the model
    tracer.stop(tmp_path)
    assert spans.correlator is None


def test_spans_and_device_work_stand_in_one_timeline(tmp_path):
    ring = Spans(8)
    ring.model_id("resnet", "1")
    ring.worker_id(("resnet_0", 5))
    ring.start()
    now = monotonic_ns()
    ring.write(Row.BATCH, 0, 42, 1, 0, 0, now, now + 1, now + 9, now + 10, 1, 0)
    ring.stop()
    save(tmp_path / "spans.npz", ring.rows(), ring.header())
    traced(tmp_path, [mark(1, 42), kernel(now + AHEAD_NS, now + AHEAD_NS + 5, 1), kernel(0, 0, 2)], drops=2)
    timeline = timeline_of(tmp_path, 77, [], with_gpu=True)
    (row,) = timeline.rows(Kind.KERNEL)
    assert (timeline.model(row), timeline.events.instance[row]) == ("resnet", 0)
    assert (timeline.meta.partial, timeline.meta.dropped) == (True, {"cupti": 3})
    assert timeline.meta.warnings == ("CUPTI had no times for some records, which are left out: 1",)
    assert timeline.collected(Kind.MEMCPY)
    assert [device.name for device in timeline.devices] == ["NVIDIA H100 80GB HBM3"]


@pytest.mark.parametrize("content", [b"", b"none"])
def test_a_torn_file_is_told_in_a_sentence(tmp_path, content):
    (tmp_path / "cupti.npz").write_bytes(content)
    with pytest.raises(ChildError, match="can't be read"):
        read_gpu(tmp_path / "cupti.npz")

"""Rules that need a GPU's events or counters: copies, launches, waits, precision, throttling."""

from dataclasses import replace

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.domain.finding import Abstained, Finding, Quiet
from analyzer.domain.thresholds import DEFAULTS, thresholds
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kinds import CopyKind, Kind, MemoryKind, Relation
from analyzer.timeline.rules.case import Case, DeviceWatch, ModelFacts
from analyzer.timeline.rules.copying import host_to_device, pageable
from analyzer.timeline.rules.device import contended, low_use, precision
from analyzer.timeline.rules.diagnose import diagnose
from analyzer.timeline.rules.host import launch_bound, sync_stall
from analyzer.timeline.rules.steps import copy_churn
from analyzer.timeline.table import Device, Meta, Timeline, Track
from tests.fakes.outcomes import measurement, run_config, server_config
from tests.fakes.timelines import PROCESS, Scene

MS = 1_000_000
HTOD = {"kind": Kind.MEMCPY, "name": "HtoD", "copy_kind": CopyKind.HOST_TO_DEVICE, "dst_kind": MemoryKind.DEVICE}


def copying(copy: int, *, source: int = MemoryKind.PINNED, hidden: bool = False, size: int = 2**20) -> Timeline:
    """Twenty times a copy and a kernel of 1 ms, the kernel after it or beside it."""
    scene, at = Scene(), 0
    for _ in range(20):
        scene.work(at, at + copy, called=at - 5, src_kind=source, bytes=size, **HTOD)
        begin = at if hidden else at + copy
        scene.work(begin, begin + MS, called=at, stream=8)
        at = max(begin + MS, at + copy)
    return scene.timeline()


def test_copies_that_nothing_hides_are_blamed_with_their_time():
    found = host_to_device(Case(timeline=copying(MS)), DEFAULTS)
    assert isinstance(found, Finding)
    assert found.share_ratio == pytest.approx(0.5)
    assert found.recoverable_ms == pytest.approx(20.0)
    assert found.basis == "capture"


@pytest.mark.parametrize(("copy", "hidden"), [(MS // 10, False), (MS, True)])
def test_short_or_hidden_copies_are_not_blamed(copy: int, hidden: bool):
    assert isinstance(host_to_device(Case(timeline=copying(copy, hidden=hidden)), DEFAULTS), Quiet)


@pytest.mark.parametrize(
    ("source", "size", "expected"),
    [
        (MemoryKind.PAGEABLE, 2**20, Finding),
        (MemoryKind.PINNED, 2**20, Quiet),
        (MemoryKind.PAGEABLE, 1000, Quiet),
    ],
)
def test_pageable_copies_are_blamed_where_they_are_large(source: int, size: int, expected: type):
    assert isinstance(pageable(Case(timeline=copying(MS, source=source, size=size)), DEFAULTS), expected)


def test_copies_of_unknown_memory_are_not_judged():
    unknown = HTOD | {"src_kind": MemoryKind.UNKNOWN, "dst_kind": MemoryKind.UNKNOWN}
    scene = Scene().work(0, MS, bytes=2**20, **unknown).work(MS, 2 * MS)
    found = pageable(Case(timeline=scene.timeline()), DEFAULTS)
    assert isinstance(found, Abstained)
    assert "pinned" in found.missing[0]


def chain(*, second_on: int = 0) -> Timeline:
    """An ensemble whose first step copies its result to the host before the second one computes."""
    scene = Scene()
    for number in range(10):
        at, request = number * 10 * MS, number + 1
        scene.request(request, at, at + 8 * MS, "pipeline")
        for place, device in enumerate((0, second_on)):
            batch = 100 + 2 * number + place
            start = at + 4 * MS * place
            scene.add(Kind.STEP, f"step {place}", start, start + 4 * MS, "m", request=request, step=batch)
            scene.batch(batch, [request], start, start + 4 * MS)
            scene.build.link(Relation.BATCH_STEP, batch, batch)
            scene.work(start, start + 2 * MS, batch=batch, device=device)
            out = {"kind": Kind.MEMCPY, "name": "DtoH", "copy_kind": CopyKind.DEVICE_TO_HOST}
            scene.work(start + 2 * MS, start + 3 * MS, batch=batch, device=device, bytes=2**20, **out)
    return scene.timeline()


def test_copies_to_the_host_between_steps_of_one_device_are_blamed_but_not_the_last_ones():
    found = copy_churn(Case(timeline=chain()), DEFAULTS)
    assert isinstance(found, Finding)
    assert found.numbers["copy_count"] == 10
    assert found.numbers["copy_ms"] == pytest.approx(10.0)


def test_copies_between_devices_are_needed():
    assert isinstance(copy_churn(Case(timeline=chain(second_on=1)), DEFAULTS), Quiet)


def test_a_server_without_ensembles_has_no_copies_between_steps():
    assert isinstance(copy_churn(Case(timeline=served(share=50, in_flight=1)), DEFAULTS), Quiet)


def test_copies_that_belong_to_no_step_are_not_judged():
    assert isinstance(copy_churn(Case(timeline=copying(MS)), DEFAULTS), Abstained)


def launching(kernel: int, late: int, count: int = 200) -> Timeline:
    """Kernels that are launched so long after the one before has ended."""
    scene, at = Scene(), 1000
    for _ in range(count):
        scene.work(at, at + kernel, called=at - 2)
        at += kernel + late
    return scene.timeline()


@pytest.mark.parametrize(
    ("kernel", "late", "count", "expected"),
    [
        (5_000, 5_000, 200, Finding),
        (500_000, 100_000, 200, Finding),
        (5_000, 5_000, 1, Quiet),
        (5_000, 0, 200, Quiet),
    ],
)
def test_late_launches_are_blamed(kernel: int, late: int, count: int, expected: type):
    assert isinstance(launch_bound(Case(timeline=launching(kernel, late, count)), DEFAULTS), expected)


def served(*, share: int, in_flight: int) -> Timeline:
    """Requests of 1 ms; of their execution, which is so many percent of it, a tenth is a kernel launched late."""
    scene = Scene()
    for number in range(20 * in_flight):
        at = number * MS // in_flight
        begin = at + (100 - share) * MS // 100
        scene.request(number, at, at + MS).batch(number, [number], begin, at + MS)
        scene.work(at + MS - share * MS // 1000, at + MS, called=at + MS - share * MS // 1000 - 500, batch=number)
    return scene.timeline()


def test_only_the_time_in_which_a_model_executes_can_be_had_back_from_launches():
    found = launch_bound(Case(timeline=served(share=50, in_flight=1)), DEFAULTS)
    assert isinstance(found, Finding)
    assert found.numbers["host_wait_ms"] == pytest.approx(19 * 0.45, rel=0.01), "the rest is not the model's"
    assert found.recoverable_ms == pytest.approx(0.45, rel=0.06)


def test_of_what_does_not_set_the_pace_a_request_has_its_own_part_back():
    """With four in flight a request has not four times as much back, unless the executions fill the time."""
    free = launch_bound(Case(timeline=served(share=10, in_flight=4)), DEFAULTS)
    full = launch_bound(Case(timeline=served(share=50, in_flight=4)), DEFAULTS)
    assert isinstance(free, Finding)
    assert isinstance(full, Finding)
    assert free.recoverable_ms == pytest.approx(0.09, rel=0.1)
    assert full.share_ratio > 0.5


def test_every_request_of_a_batch_has_back_what_the_batch_has():
    scene = Scene()
    for number in range(10):
        at, pair = 10 * number * MS, [2 * number, 2 * number + 1]
        for request in pair:
            scene.request(request, at, at + 2 * MS)
        scene.batch(number, pair, at, at + 2 * MS)
        scene.work(at, at + MS, called=at - 5, batch=number, src_kind=MemoryKind.PINNED, bytes=2**20, **HTOD)
    found = host_to_device(Case(timeline=scene.timeline()), thresholds({"R4.exposed_ratio": 0.01}))
    assert isinstance(found, Finding)
    assert found.recoverable_ms == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("backends", "wanted"),
    [
        (("onnxruntime", "onnxruntime_onnx"), "trt_cuda_graph_enable"),
        (("pytorch",), "cuda_graph_batch_sizes"),
        (("tensorrt_plan",), "cuda { graphs: true }"),
        (("pytorch", "onnxruntime"), "cuda { graphs: true }"),
        ((), "cuda { graphs: true }"),
    ],
)
def test_graphs_are_asked_for_as_the_backend_wants_it(backends: tuple[str, ...], wanted: str):
    models = {f"m{place}": ModelFacts(backend=backend) for place, backend in enumerate(backends)}
    found = launch_bound(Case(timeline=launching(5_000, 5_000), models=models), DEFAULTS)
    assert isinstance(found, Finding)
    assert wanted in found.change
    text_format.Parse(found.change, ModelConfig())


def test_launches_are_not_judged_without_calls():
    scene = Scene().work(0, 10).work(20, 30)
    assert isinstance(launch_bound(Case(timeline=scene.timeline()), DEFAULTS), Abstained)


def synchronizing(wait: int, *, gpu_busy: bool) -> Timeline:
    """A thread that executes for 1 ms each and waits for so long in it."""
    scene = Scene()
    for number in range(10):
        at = number * 2 * MS
        scene.add(Kind.BATCH, "execute", at, at + MS, "m", batch=number, instance=0, thread=4)
        scene.add(Kind.API, "cudaStreamSynchronize_v3020", at, at + wait, thread=4)
        scene.work(at, at + (wait if gpu_busy else 1_000))
    return scene.timeline()


def test_waits_for_an_idle_device_are_blamed_on_their_thread():
    found = sync_stall(Case(timeline=synchronizing(MS // 2, gpu_busy=False)), DEFAULTS)
    assert isinstance(found, Finding)
    assert found.numbers["stall_share_ratio"] == pytest.approx(0.5, abs=0.01)
    assert found.evidence.startswith("Thread 4 waits")
    named = replace(synchronizing(MS // 2, gpu_busy=False), tracks=(Track("m_0", PROCESS, 4),))
    assert sync_stall(Case(timeline=named), DEFAULTS).evidence.startswith("Thread m_0 waits")


@pytest.mark.parametrize(("wait", "gpu_busy"), [(MS // 2, True), (MS // 10, False)])
def test_waits_for_work_or_short_ones_are_not_blamed(wait: int, gpu_busy: bool):
    assert isinstance(sync_stall(Case(timeline=synchronizing(wait, gpu_busy=gpu_busy)), DEFAULTS), Quiet)


def test_a_thread_that_is_known_by_another_number_executes_the_batches_that_it_calls_for():
    scene = Scene()
    for number in range(10):
        at = number * 2 * MS
        scene.add(Kind.BATCH, "execute", at, at + MS, "m", batch=number, instance=0, thread=4)
        scene.add(Kind.API, "cudaStreamSynchronize", at, at + MS // 10, thread=9999, batch=number)
        scene.work(at, at + 1_000)
    found = sync_stall(Case(timeline=scene.timeline()), DEFAULTS)
    assert isinstance(found, Quiet)
    assert "9.9%" in found.evidence


def test_threads_are_never_added_up():
    scene = Scene().work(0, 10)
    for thread in range(8):
        scene.add(Kind.BATCH, "execute", 0, MS, "m", batch=thread, instance=thread, thread=thread)
        scene.add(Kind.API, "cudaDeviceSynchronize", 0, MS // 2, thread=thread)
    found = sync_stall(Case(timeline=scene.timeline()), DEFAULTS)
    assert isinstance(found, Finding)
    assert found.share_ratio <= 0.5


def test_an_idle_device_is_blamed_only_where_nothing_else_explains_it():
    scene = Scene().work(0, MS).work(9 * MS, 10 * MS)
    case = Case(timeline=scene.timeline())
    found = low_use(case, DEFAULTS, False)
    assert isinstance(found, Finding)
    assert found.numbers["unused_ratio"] == pytest.approx(0.8)
    assert isinstance(low_use(case, DEFAULTS, True), Quiet)


def test_an_overloaded_run_says_nothing_of_usual_use():
    overloaded = measurement(run_config(server_config(1), 1), verdict="overloaded")
    case = Case(measurement=overloaded, devices=(DeviceWatch("GPU", sm_ratio=0.1),))
    assert isinstance(low_use(case, DEFAULTS, False), Quiet)


def test_thin_kernels_are_told_by_the_multiprocessors():
    case = Case(measurement=measurement(run_config(server_config(1), 1)), devices=(DeviceWatch("GPU", sm_ratio=0.1),))
    found = low_use(case, DEFAULTS, False)
    assert isinstance(found, Finding)
    assert found.numbers["sm_ratio"] == 0.1


def computing(name: str, capability: tuple[int, int] | None = (9, 0)) -> Timeline:
    build = TimelineBuilder()
    build.add(Kind.KERNEL, 0, MS, build.name_id(name), device=0, stream=7, process=PROCESS)
    return build.build(Meta(producer="test"), devices=[Device(id=0, name="GPU", compute_capability=capability)])


@pytest.mark.parametrize(
    ("name", "capability", "expected"),
    [
        ("ampere_sgemm_128x64_tn", (9, 0), Finding),
        ("void cudnn::winograd_nonfused::winogradForwardData4x4<float, float>", (8, 0), Finding),
        ("sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32", (9, 0), Quiet),
        ("cutlass_80_tensorop_s1688gemm_128x128", (9, 0), Quiet),
        ("void relu_kernel", (9, 0), Quiet),
        ("ampere_sgemm_128x64_tn", (6, 1), Quiet),
        ("ampere_sgemm_128x64_tn", None, Abstained),
    ],
)
def test_full_precision_is_told_by_the_kernels_names(name: str, capability: tuple[int, int] | None, expected: type):
    assert isinstance(precision(Case(timeline=computing(name, capability)), DEFAULTS), expected)


def test_the_tensor_cores_counter_goes_before_names():
    case = Case(timeline=computing("ampere_sgemm_128x64_tn"), devices=(DeviceWatch("GPU", tensor_ratio=0.4),))
    assert isinstance(precision(case, DEFAULTS), Quiet)


@pytest.mark.parametrize(
    ("watch", "expected"),
    [
        ({"throttled_ratio": 0.2}, Finding),
        ({"throttled_ratio": 0.0, "other_process_count": 1}, Finding),
        ({"throttled_ratio": 0.0, "memory_used_ratio": 0.95}, Finding),
        ({"throttled_ratio": 0.01, "other_process_count": 0, "memory_used_ratio": 0.5}, Quiet),
        ({}, Abstained),
        ({"throttled_ratio": 0.5, "is_too_short": True}, Abstained),
    ],
)
def test_a_throttled_or_shared_device_is_told(watch: dict[str, object], expected: type):
    found = contended(Case(devices=(DeviceWatch("GPU 0", **watch),)), DEFAULTS)
    assert isinstance(found, expected)


def test_findings_are_ranked_by_what_could_be_had_back():
    found = diagnose(Case(timeline=copying(MS, source=MemoryKind.PAGEABLE))).findings
    assert [each.id for each in found][:2] == ["R4", "R5"]
    assert [each.recoverable_ms for each in found] == sorted((each.recoverable_ms for each in found), reverse=True)


@settings(deadline=None)
@given(st.integers(1000, 3 * MS), st.integers(1000, 3 * MS))
def test_longer_copies_never_cost_a_smaller_share(one: int, other: int):
    shares = [
        found.share_ratio if isinstance(found, Finding) else 0.0
        for copy in sorted((one, other))
        for found in [host_to_device(Case(timeline=copying(copy)), DEFAULTS)]
    ]
    assert shares[0] <= shares[1]


@settings(deadline=None)
@given(st.integers(0, 100_000), st.floats(0.01, 0.9), st.floats(0.01, 0.9))
def test_a_higher_limit_on_host_waits_never_finds_more(late: int, one: float, other: float):
    case = Case(timeline=launching(20_000, late, 10))
    low, high = sorted((one, other))
    fires = [
        isinstance(launch_bound(case, thresholds({"R7.host_wait_ratio": limit})), Finding) for limit in (low, high)
    ]
    assert fires[0] >= fires[1]

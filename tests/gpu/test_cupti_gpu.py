"""Our CUPTI tracer in a bare process, against known numbers of launches and PyTorch's own profiler. By hand."""

import time

import numpy as np
import pytest

from analyzer.collect.cupti import Placed, add_gpu, read_gpu
from analyzer.runtime.devices import gpu_count
from analyzer.runtime.gpu_trace import CuptiTracer
from analyzer.timeline import import_any
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kinds import Kind
from analyzer.timeline.table import Meta

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(gpu_count() == 0, reason="no NVIDIA GPU")]
BATCH = 7


def traced(tmp_path, work):
    """``work`` under the tracer: its timeline, what the end said, and how long the window took."""
    pytest.importorskip("cupti")
    tracer = CuptiTracer(None)
    found = tracer.start()
    if found.state != "on":
        pytest.skip(f"{found.state}: {found.reason}")
    begun_ns = time.monotonic_ns()
    try:
        work(tracer)
    finally:
        window_ns = time.monotonic_ns() - begun_ns
        stats = tracer.stop(tmp_path)
    build = TimelineBuilder()
    gpu = read_gpu(tmp_path / "cupti.npz")
    add_gpu(build, gpu, {BATCH: Placed(build.name_id("adds"), 0)}, process=1)
    print(f"\n{stats.records:,} records; window {window_ns / 1e6:.0f} ms, its end {stats.overhead_ns / 1e6:.0f} ms")
    return build.build(Meta(producer="test"), devices=gpu.devices), stats, window_ns


def adds(torch, amount):
    """One kernel each, and nothing else once the tensors are there."""
    left, right = torch.ones(1024, device="cuda"), torch.ones(1024, device="cuda")
    out = torch.empty_like(left)
    torch.add(left, right, out=out)
    torch.cuda.synchronize()

    def launches():
        for _ in range(amount):
            torch.add(left, right, out=out)
        torch.cuda.synchronize()

    return launches


def test_a_thousand_launches_are_a_thousand_kernels_with_their_calls_and_batch(tmp_path):
    torch = pytest.importorskip("torch")
    launches = adds(torch, 1000)

    def work(tracer):
        tracer.push(BATCH)
        launches()
        tracer.pop()

    timeline, stats, _window_ns = traced(tmp_path, work)
    table, kernels, calls = timeline.events, timeline.rows(Kind.KERNEL), timeline.rows(Kind.API)
    assert len(kernels) == 1000
    assert (stats.dropped, stats.warnings) == (0, ())
    assert (table.batch[kernels] == BATCH).all()
    assert {timeline.model(row) for row in kernels} == {"adds"}
    assert (table.end_ns[kernels] > table.start_ns[kernels]).all()
    assert len(np.unique(table.correlation[kernels])) == 1000
    launched = calls[np.isin(table.correlation[calls], table.correlation[kernels])]
    assert len(launched) == 1000
    assert all(timeline.name(row).startswith("cudaLaunchKernel") for row in launched)
    begun = dict(zip(table.correlation[launched].tolist(), table.start_ns[launched].tolist()))
    assert all(table.start_ns[row] > begun[int(table.correlation[row])] for row in kernels)
    others = {timeline.name(row).split("_v")[0] for row in np.setdiff1d(calls, launched)}
    assert others <= {"cudaDeviceSynchronize"}, "calls that only ask are not kept"


def test_kernels_have_readable_names_and_the_device_its_name_and_capability(tmp_path):
    torch = pytest.importorskip("torch")
    launches = adds(torch, 10)
    timeline, _stats, _window_ns = traced(tmp_path, lambda tracer: launches())
    kernels = timeline.rows(Kind.KERNEL)
    (name,) = {timeline.name(row) for row in kernels}
    assert not name.startswith("_Z")
    assert "elementwise" in name
    (device,) = (each for each in timeline.devices if each.id == timeline.events.device[kernels[0]])
    assert device.compute_capability == torch.cuda.get_device_capability(0)
    assert device.name == torch.cuda.get_device_name(0)


def test_kernels_are_those_that_pytorchs_own_profiler_sees(tmp_path):
    torch = pytest.importorskip("torch")
    layers = torch.nn.Sequential(*(torch.nn.Linear(256, 256) for _ in range(8)), torch.nn.Softmax(1)).cuda()
    batch = torch.randn(32, 256, device="cuda")

    def work(tracer=None):
        with torch.no_grad():
            for _ in range(50):
                layers(batch)
        torch.cuda.synchronize()

    work()
    ours, stats, _window_ns = traced(tmp_path, work)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True) as theirs:
        work()
    theirs.export_chrome_trace(str(tmp_path / "torch.json"))
    other = import_any.read(tmp_path / "torch.json")
    counts = [len(each.rows(Kind.KERNEL)) for each in (ours, other)]
    names = [{each.name(row) for row in each.rows(Kind.KERNEL)} for each in (ours, other)]
    assert stats.dropped == 0
    assert counts[0] == counts[1]
    assert names[0] == names[1]


def test_the_end_of_a_window_of_small_kernels_takes_less_time_than_the_window(tmp_path):
    torch = pytest.importorskip("torch")
    launches = adds(torch, 5000)

    def work(tracer):
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            launches()

    timeline, stats, window_ns = traced(tmp_path, work)
    assert len(timeline.rows(Kind.KERNEL)) % 5000 == 0
    assert (stats.dropped, stats.warnings) == (0, ())
    assert stats.overhead_ns < window_ns


def test_a_second_window_after_pytorchs_profiler_holds_its_own_kernels_only(tmp_path):
    torch = pytest.importorskip("torch")
    launches = adds(torch, 100)
    traced(tmp_path, lambda tracer: launches())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True):
        launches()
    launches()
    timeline, stats, _window_ns = traced(tmp_path, lambda tracer: launches())
    assert len(timeline.rows(Kind.KERNEL)) == 100
    assert stats.dropped == 0

"""PyTorch's profiler in the server, and the window that Nsight Systems is told."""

from types import SimpleNamespace

import pytest

from analyzer.runtime.library_traces import CudaRange, TorchTracer
from analyzer.timeline import import_any
from analyzer.timeline.table import Kind


def test_the_profiler_of_pytorch_leaves_a_trace_with_the_operators_of_other_threads(tmp_path):
    torch = pytest.importorskip("torch")
    tracer = TorchTracer()
    assert tracer.start().state == "on"
    torch.ones(8, 8) @ torch.ones(8, 8)
    stats = tracer.stop(tmp_path)
    assert stats.files == ("torch.json",)
    timeline = import_any.read(tmp_path / "torch.json")
    assert "aten::matmul" in {timeline.name(row) for row in timeline.rows(Kind.OPERATOR)}


def test_without_pytorch_in_the_server_there_is_nothing_to_profile():
    found = TorchTracer(dict).probe()
    assert (found.state, "PyTorch" in found.reason) == ("absent", True)


def test_the_window_is_told_by_the_cuda_runtime(tmp_path):
    told = []
    library = SimpleNamespace(
        cudaProfilerStart=lambda: told.append("start"), cudaProfilerStop=lambda: told.append("stop")
    )
    window = CudaRange(lambda path: library)
    assert window.start().state == "on"
    window.stop(tmp_path)
    assert told == ["start", "stop"]


def test_without_a_cuda_runtime_the_window_is_absent():
    def missing(path):
        raise OSError(path)

    assert CudaRange(missing).start().state == "absent"

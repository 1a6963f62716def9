"""PyTorch's profiler in the server."""

import pytest

from analyzer.runtime.library_traces import TorchTracer
from analyzer.timeline import import_any
from analyzer.timeline.kinds import Kind


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

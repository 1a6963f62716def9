"""The pipeline on a real GPU. Run by hand: pytest -m gpu tests/gpu."""

import subprocess
import sys
from pathlib import Path

import pytest

from analyzer.collect.nvml import nvml
from analyzer.domain.measurement import Measurement
from analyzer.runtime.devices import gpu_count
from analyzer.store import RunFolder

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(gpu_count() == 0, reason="no NVIDIA GPU here")]


def test_nvml_reads_every_device():
    found = nvml()
    assert len(found.devices) == gpu_count()
    assert all(reading.memory_bytes for reading in found.read())
    found.close()


def test_a_convolution_is_profiled_on_the_gpu_with_its_counters(tmp_path: Path):
    def analyzer(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "analyzer", *arguments], check=True, cwd=tmp_path, timeout=500)

    analyzer("zoo", "add", "conv_chain", "--repository", "models")
    loads = ["--concurrency", "1:8", "--instance-counts", "1", "--max-batch-sizes", "4", "--formats", "html,json"]
    times = ["--duration", "1s", "--screen-duration", "500ms"]
    analyzer("profile", "-m", "models", "--profile-models", "conv_1", "--run", "run", *loads, *times)
    outcomes = RunFolder.open(tmp_path / "run").outcomes()
    assert outcomes
    for outcome in outcomes:
        assert isinstance(outcome, Measurement), outcome
        (gpu,) = outcome.gpus
        assert gpu.memory_peak_bytes
        assert gpu.utilization_mean_ratio is not None

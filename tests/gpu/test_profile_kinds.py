"""Kinds of instances as axes, figures of the device as objectives and limits. By hand: pytest -m gpu tests/gpu."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from analyzer.domain.measurement import Measurement
from analyzer.domain.metrics import METRICS
from analyzer.runtime.devices import gpu_count
from analyzer.store import RunFolder

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(gpu_count() == 0, reason="no NVIDIA GPU here")]

QUICK = "--duration 1s --concurrency 1:4 --instance-counts 1 --max-batch-sizes 4 --queue-delays-us 0 --formats json"


def test_a_model_is_tried_on_cpu_and_gpu_and_ranked_by_energy_and_cost(tmp_path: Path):
    def analyzer(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "analyzer", *arguments], check=True, cwd=tmp_path, timeout=500)

    analyzer("zoo", "add", "conv_chain", "--repository", "models")
    wanted = ["--objectives", "energy_per_inference_j:1,cost_per_million:1", "--price-per-hour", "2.5"]
    limits = ["--constraint", "gpu_utilization<=1", "--constraint", "gpu_power_w<=2000"]
    axes = ["--instance-kinds", "cpu,gpu", "--search", "brute", "--run", "run"]
    analyzer("profile", "-m", "models", "--profile-models", "conv_1", *QUICK.split(), *wanted, *limits, *axes)
    outcomes = [o for o in RunFolder.open(tmp_path / "run").outcomes() if isinstance(o, Measurement)]
    kinds = {edit.value for o in outcomes for edit in o.config.server.variants[0].edits}
    assert kinds == {"KIND_CPU", "KIND_GPU"}
    for name in ("energy_per_inference_j", "cost_per_million", "gpu_power_w", "gpu_utilization"):
        assert all(METRICS[name].read(o) is not None for o in outcomes), name
    told = json.loads((tmp_path / "run" / "report.json").read_text())["recommended"]
    assert told["energy_per_inference_j"] > 0
    assert told["cost_per_million"] > 0

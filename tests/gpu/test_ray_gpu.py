"""A candidate with a GPU and cores of its own, in a cluster of this machine. By hand: pytest -m gpu tests/gpu."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from analyzer.runtime.devices import gpu_count
from tests.fakes.repositories import write_onnx

pytest.importorskip("ray")

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(gpu_count() == 0, reason="no NVIDIA GPU here")]

QUICK = """
--duration 300ms --screen-duration 300ms --warmup 0 --server-warmup 0 --search brute --run run --concurrency 1:2
--instance-counts 1 --max-batch-sizes 8 --queue-delays-us 0 --formats json --executor ray --ray-address local
--ray-cpus 2+1
"""


def test_a_candidate_has_a_gpu_and_cores_of_its_own(tmp_path: Path):
    write_onnx(tmp_path / "models", "m")
    command = [sys.executable, "-m", "analyzer", "profile", "-m", "models", "--profile-models", "m", *QUICK.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert len(environment["gpus"]) == 1
    assert environment["cores"] == 2
    machines = [json.loads(path.read_text()) for path in (tmp_path / "run" / "machines").iterdir()]
    assert machines
    for machine in machines:
        assert len(machine["server_cores"]) == 2
        assert len(machine["client_cores"]) == 1
        assert set(machine["server_cores"]).isdisjoint(machine["client_cores"])

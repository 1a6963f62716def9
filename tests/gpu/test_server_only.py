"""What a GPU shows of a server that has no model loaded yet."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from analyzer.collect.nvml import nvml
from tests.fakes.repositories import write_simulated

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not nvml().devices, reason="no NVIDIA GPU")]


def test_the_table_of_the_server_alone_has_a_row_a_gpu(tmp_path: Path):
    write_simulated(tmp_path / "models", "m", parameters={"service_us": 1000})
    flags = "--search brute --concurrency 1 --instance-counts 1 --automatic-axes none --duration 500ms --run run"
    command = [sys.executable, "-m", "analyzer", "profile", "-m", "models", "--profile-models", "m", *flags.split()]
    command += ["--idle-duration", "1s", "--formats", "model-analyzer"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=300)
    with (tmp_path / "run" / "results" / "metrics-server-only.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert all(row["Model"] == "triton-server" and row["GPU UUID"].startswith("GPU-") for row in rows)
    assert all(float(row["GPU Memory Usage (MB)"]) >= 0 for row in rows)

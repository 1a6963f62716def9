"""GPU figures from a fake libnvidia-ml: on the server's metrics page, and in what `analyzer profile` reports."""

import csv
import os
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from analyzer.collect.metrics_page import MetricsPage
from analyzer.collect.nvml import Nvml
from analyzer.domain.measurement import Measurement
from analyzer.executor.idle import idle_gpus
from analyzer.launchers.runtime import RuntimeLauncher
from analyzer.store import RunFolder
from tests.fakes.json_calls import post_json
from tests.fakes.nvml import FakeNvml, fake_device
from tests.fakes.nvml_library import compiled, state_lines
from tests.fakes.repositories import write_simulated
from tests.fakes.running_server import running_server

GIB = 2**30
DEVICE = {
    "uuid": "GPU-0",
    "name": "A device",
    "utilization": 25,
    "memory": 512_000_000,
    "power_mw": 61_000,
    "processes": {},
}
FIGURES = {
    "utilization": 50,
    "memory": 75 * GIB,
    "memory_total": 80 * GIB,
    "power_mw": 300_000,
    "power_limit_mw": 700_000,
    "energy_mj": 5_000,
    "event_reasons": 0x4,
    "temperature": 61,
}
FAMILIES = {
    "nv_gpu_utilization": 0.5,
    "nv_gpu_memory_total_bytes": 80 * GIB,
    "nv_gpu_memory_used_bytes": 75 * GIB,
    "nv_gpu_power_usage": 300.0,
    "nv_gpu_power_limit": 700.0,
    "nv_energy_consumption": 0.0,
}


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = compiled(tmp_path_factory.mktemp("nvml"))
    if folder is None:
        pytest.skip("no C compiler is here to build the fake libnvidia-ml with")
    return folder


@pytest.fixture
def driver(library, tmp_path):
    """The environment of a process that finds the fake driver, and the file that says what it tells."""
    state = tmp_path / "nvml"
    return {"LD_LIBRARY_PATH": str(library), "NVML_FAKE": str(state)}, state


def page_of(server) -> str:
    with urlopen(f"http://{server.metrics}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def page_with_gpus(server) -> str:
    """Once the first look was taken."""
    until = time.monotonic() + 30
    while "nv_gpu_utilization{" not in (page := page_of(server)):
        assert time.monotonic() < until, page
    return page


def test_the_metrics_page_has_tritons_families_of_each_gpu_under_one_label(driver, tmp_path):
    environment, state = driver
    locked = {**FIGURES, "power_mw": {"error": 4}, "energy_mj": None, "utilization": 7}
    state.write_text(state_lines([fake_device("GPU-a", **FIGURES), fake_device("GPU-b", **locked)]))
    write_simulated(tmp_path / "models")
    with running_server(tmp_path / "models", "--metrics-interval-ms", "50", environment=environment) as server:
        page = page_with_gpus(server)
        remote = MetricsPage(f"http://{server.metrics}/metrics")
        first, second = remote.read()
    for name, value in FAMILIES.items():
        lines = [line for line in page.splitlines() if line.startswith(f'{name}{{gpu_uuid="GPU-a"}}')]
        assert len(lines) == 1, name
        assert float(lines[0].split()[-1]) == value
    told_of_b = [line.split("{")[0] for line in page.splitlines() if 'gpu_uuid="GPU-b"' in line]
    assert sorted(told_of_b) == sorted({*FAMILIES} - {"nv_gpu_power_usage", "nv_energy_consumption"})
    assert (first.power_w, first.memory_total_bytes, second.power_w) == (300.0, 80 * GIB, None)


def test_a_run_reports_the_gpus_figures_and_what_was_not_given(driver, tmp_path):
    environment, state = driver
    state.write_text(state_lines([fake_device("GPU-a", **{**FIGURES, "energy_mj": {"error": 4}})]))
    write_simulated(tmp_path / "models", parameters={"service_us": 500})
    command = [sys.executable, "-m", "analyzer", "profile", "-m", "models", "--profile-models", "simulated"]
    command += ["--concurrency", "2", "--instance-counts", "1", "--max-batch-sizes", "8", "--duration", "2.2s"]
    command += ["--screen-duration", "2.2s", "--server-warmup", "0s", "--latency-budget", "1s", "--run", "run"]
    command += ["--search", "brute", "--dynamic-batching", "on", "--queue-delays-us", "0", "--formats", "csv,json,html"]
    command += ["--instance-kinds", "cpu", "--warmup", "0"]
    whole = {**os.environ, **environment, "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "80"}
    ended = subprocess.run(command, cwd=tmp_path, env=whole, check=False, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    (measured, *_) = RunFolder.open(tmp_path / "run").outcomes()
    assert isinstance(measured, Measurement)
    (gpu,) = measured.gpus
    assert (gpu.utilization_mean_ratio, gpu.temperature_max_c, gpu.energy_j) == (0.5, 61, None)
    assert gpu.refused == {"energy": "Insufficient Permissions"}
    (row, *_) = csv.DictReader((tmp_path / "run" / "measurements.csv").read_text().splitlines())
    assert float(row["gpu_memory_used_ratio"]) == pytest.approx(75 / 80)
    assert (row["gpu_throttled_ratio"], row["energy_per_inference_j"]) == ("1.0", "")
    told = " ".join(ended.stdout.split())
    assert "Fake H100: 50% busy" in told
    assert "did not give energy (Insufficient Permissions)" in told
    page = (tmp_path / "run" / "report.html").read_text()
    assert "94% of its memory is in use" in page, "the rule has what it judges by"
    assert "GPU-a" not in ended.stdout, "a device is told by its name"


def test_devices_are_watched_beside_a_server_of_ours_that_has_no_model(tmp_path: Path):
    write_simulated(tmp_path / "models", "m")
    (record,) = idle_gpus(RuntimeLauncher(tmp_path / "models"), Nvml(FakeNvml([DEVICE])), 0.05, 0.01)
    assert record["uuid"] == "GPU-0"


def test_a_server_that_is_named_no_model_loads_none(tmp_path: Path):
    write_simulated(tmp_path / "models", "m")
    with RuntimeLauncher(tmp_path / "models").as_it_is((), tmp_path / "log") as server:
        index = post_json(server.http_url, "/v2/repository/index")
    assert [model.get("state") for model in index] != ["READY"]

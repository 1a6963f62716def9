"""Searches on the machines of a Ray cluster: two nodes of one, here on this machine; real servers, real load."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from analyzer.domain.measurement import Measurement
from analyzer.store import RunFolder
from tests.fakes.repositories import write_python, write_simulated

cluster_utils = pytest.importorskip("ray.cluster_utils")

QUICK = """
--duration 150ms --screen-duration 100ms --warmup 0 --server-warmup 0 --sample-interval 20ms --search brute --run run
--concurrency 1:1 --instance-counts 1 --max-batch-sizes 4 --queue-delays-us 0 --dynamic-batching true --formats json
--executor ray --ray-cpus 1+1
"""

ENDS_A_PROCESS_ABOVE_IT_ONCE = """
import os, signal
import triton_python_backend_utils as pb_utils

def above(pid):
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])

class TritonPythonModel:
    def execute(self, requests):
        try:
            os.close(os.open("MARK", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            arrays = [request.inputs()[0].as_numpy() for request in requests]
            return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)]) for array in arrays]
        pid = os.getpid()
        while True:
            with open(f"/proc/{pid}/cmdline") as file:
                if "VICTIM" in file.read():
                    break
            pid = above(pid)
        os.kill(pid, signal.SIGKILL)
        return [pb_utils.InferenceResponse([]) for _ in requests]
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Its address. Two nodes that offer the resource `bench`, with room for a candidate each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made = cluster_utils.Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 0,
            "include_dashboard": False,
            "object_store_memory": 2**27,
            "_system_config": {"health_check_initial_delay_ms": 0, "health_check_failure_threshold": 2},
        },
    )
    for _ in range(2):
        made.add_node(num_cpus=2, resources={"bench": 1}, object_store_memory=2**27)
    yield made.address
    made.shutdown()


def command_line(address: str, *flags: str) -> list[str]:
    command = [sys.executable, "-m", "analyzer", "profile", "-m", "models", "--profile-models", "m"]
    return [*command, *QUICK.split(), "--ray-address", address, "--ray-resource", "bench", *flags]


def profile(folder: Path, address: str, *flags: str) -> "subprocess.CompletedProcess[str]":
    command = command_line(address, *flags)
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def left_behind() -> set[Path]:
    """Scratch folders and parcels of runs on nodes, those of runs that were killed earlier included."""
    homes = Path(os.environ.get("TMPDIR", "/tmp")).glob(f"analyzer-node-{os.getuid()}")
    return {path for home in homes for kind in ("work", "parcels") for path in (home / kind).iterdir() if path.is_dir()}


def test_candidates_run_on_several_nodes_at_a_time_and_everything_comes_home(cluster: str, tmp_path: Path):
    earlier = left_behind()
    write_simulated(tmp_path / "models", "m", parameters={"service_us": 2000})
    done = profile(tmp_path, cluster, "--instance-counts", "1,2")
    assert done.returncode == 0, done.stderr
    run = RunFolder.open(tmp_path / "run")
    outcomes = run.outcomes()
    keys = [outcome.config.key for outcome in outcomes]
    assert len(set(keys)) == len(keys) == run.header.effort.grid_point_count
    assert all(isinstance(outcome, Measurement) for outcome in outcomes)
    for outcome in outcomes:
        assert run.latencies_path(outcome.config).is_file()
        assert run.config_text(outcome.config.server, "m")
    machines = [json.loads(path.read_text()) for path in (tmp_path / "run" / "machines").iterdir()]
    assert len(machines) == len(outcomes)
    assert len({machine["ray_node"] for machine in machines}) == 2
    for machine in machines:
        assert set(machine["server_cores"]).isdisjoint(machine["client_cores"])
        assert machine["attempt"] == 1
    assert left_behind() <= earlier


def assert_measured_with_attempts(folder: Path, most: int) -> None:
    """Every point once, and one of them not at the first attempt."""
    run = RunFolder.open(folder)
    outcomes = run.outcomes()
    keys = [outcome.config.key for outcome in outcomes]
    assert len(set(keys)) == len(keys) == run.header.effort.grid_point_count
    assert all(isinstance(outcome, Measurement) for outcome in outcomes)
    machines = [json.loads(path.read_text()) for path in (folder / "machines").iterdir()]
    assert max(machine["attempt"] for machine in machines) == most


def test_a_candidate_whose_worker_dies_is_measured_elsewhere_and_counts_once(cluster: str, tmp_path: Path):
    code = ENDS_A_PROCESS_ABOVE_IT_ONCE.replace("MARK", str(tmp_path / "mark")).replace("VICTIM", "ray::MeasuringNode")
    write_python(tmp_path / "models", "m", code, dims=(4,), max_batch_size=4)
    done = profile(tmp_path, cluster)
    assert done.returncode == 0, done.stderr
    assert_measured_with_attempts(tmp_path / "run", 2)


def test_what_was_measured_is_kept_on_an_interrupt_and_no_server_is_left(cluster: str, tmp_path: Path):
    earlier = left_behind()
    write_simulated(tmp_path / "models", "m", parameters={"service_us": 2000})
    command = command_line(cluster, "--instance-counts", "1,2", "--concurrency", "1:256")
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.split()[:2] == ["1", "+"]:
                process.send_signal(signal.SIGINT)
                break
        words = process.stderr.read()
    assert process.returncode == 130, words
    assert "what was measured is kept" in words
    run = RunFolder.open(tmp_path / "run")
    assert 1 <= len(run.outcomes()) < run.header.effort.grid_point_count
    assert run.ledger()
    assert left_behind() <= earlier


def test_a_candidate_whose_machine_is_lost_is_measured_on_another(cluster: str, tmp_path: Path):
    """The whole of it, with its raylet: the one that is left then has room for one at a time."""
    code = ENDS_A_PROCESS_ABOVE_IT_ONCE.replace("MARK", str(tmp_path / "mark")).replace("VICTIM", "raylet/raylet")
    write_python(tmp_path / "models", "m", code, dims=(4,), max_batch_size=4)
    done = profile(tmp_path, cluster)
    assert done.returncode == 0, done.stderr
    assert_measured_with_attempts(tmp_path / "run", 2)

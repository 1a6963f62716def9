"""`analyzer profile -f ma.yaml`, `analyzer report -n` and remote mode on our own runtime, with real children."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from analyzer.domain.measurement import Measurement
from analyzer.launchers.server import fetch_config
from analyzer.store import RunFolder
from tests.fakes.repositories import write_simulated
from tests.fakes.running_server import running_server

PLAIN = """
model_repository: models
run_config_search_mode: brute
export_path: out
output_model_repository_path: out/variants
override_output_model_repository: true
client_protocol: http
profile_models:
  m:
    parameters: {concurrency: "1,2"}
    model_config_parameters:
      max_batch_size: [2]
      dynamic_batching: {}
      instance_group: [{kind: KIND_CPU, count: [1, 2]}]
    perf_analyzer_flags: {measurement-interval: 100}
    constraints: {perf_latency_p99: {max: 5000}}
formats: html,csv
server_warmup: 50ms
warmup: 0
"""


def analyzer(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "analyzer", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def simulated(tmp_path: Path) -> Path:
    write_simulated(tmp_path / "models", "m", parameters={"service_us": 1000})
    (tmp_path / "ma.yaml").write_text(PLAIN)
    return tmp_path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_file_of_model_analyzer_ends_in_its_tables_reports_and_variants(simulated: Path):
    done = analyzer("--mode", "online", "profile", "-f", "ma.yaml", "-q", cwd=simulated)
    assert done.returncode == 0, done.stderr
    inference, gpu, server = (
        simulated / "out" / "results" / name
        for name in ("metrics-model-inference.csv", "metrics-model-gpu.csv", "metrics-server-only.csv")
    )
    table = rows(inference)
    names = {f"m_config_{name}" for name in ("default", "0", "1")}
    assert {row["Model Config Path"] for row in table} == names
    assert {row["Concurrency"] for row in table} == {"1", "2"}
    assert len(table) == 6
    assert gpu.read_text().startswith("Model,GPU UUID,Batch,Concurrency,Model Config Path,Instance Group")
    assert server.read_text().startswith("Model,GPU UUID,GPU Memory Usage (MB)")
    assert {path.name for path in (simulated / "out" / "variants").iterdir()} == names
    assert (simulated / "out/variants/m_config_0/1").exists()
    assert (simulated / "out/reports/summaries/m/result_summary.html").is_file()
    assert len(list((simulated / "out/reports/detailed").iterdir())) == 3

    named = ("-n", "m_config_0,m_config_default", "-e", "again", "-o", "html")
    again = analyzer("report", *named, cwd=simulated)
    assert again.returncode == 0, again.stderr
    assert (simulated / "again/reports/detailed/m_config_0/detailed_report.html").is_file()
    assert analyzer("report", "-n", "m_config_9", cwd=simulated).returncode == 2

    older = analyzer("analyze", "--analysis-models", "m", "-e", "older", "-o", "html", cwd=simulated)
    assert older.returncode == 0, older.stderr
    assert (simulated / "older/results/metrics-model-inference.csv").read_text() == inference.read_text()


SEVERAL = """
model_repository: models
run_config_search_mode: brute
run_config_search_disable: true
checkpoint_directory: stored
export_path: out
client_protocol: http
profile_models: [m, slow]
concurrency: 1
perf_analyzer_flags: {measurement-interval: 100}
constraints: {perf_latency_p99: {max: 50}}
num_top_model_configs: 2
formats: html,csv
server_warmup: 50ms
warmup: 0
"""


def test_the_best_over_several_models_are_listed_and_come_again_from_what_is_stored(simulated: Path):
    write_simulated(simulated / "models", "slow", parameters={"service_us": 200_000})
    (simulated / "several.yaml").write_text(SEVERAL)
    done = analyzer("profile", "-f", "several.yaml", "-q", cwd=simulated)
    assert done.returncode == 6, done.stderr
    assert done.stderr.count("num_top_model_configs") == 0
    assert "No configuration of slow meets the budget: nearest is" in " ".join(done.stdout.split())
    (first, missed) = rows(simulated / "stored/summary.csv")
    assert (first["Model"], missed["Model"], missed["Satisfies Constraints"]) == ("m", "slow", "No")
    theirs = simulated / "out/reports/summaries/Best Configs Across All Models/result_summary.html"
    assert 'href="../slow/result_summary.html"' in theirs.read_text()
    assert 'href="m/report.html"' in (simulated / "stored/summary.html").read_text()

    again = analyzer("report", "stored", "--latency-budget", "10s", "--formats", "csv", cwd=simulated)
    assert again.returncode == 0, again.stderr
    assert [row["Model"] for row in rows(simulated / "stored/summary.csv")] == ["m", "slow"]


def test_a_running_server_is_driven_and_left_as_it_was(simulated: Path):
    flags = ("--model-control-mode", "explicit", "--load-model", "m")
    with running_server(simulated / "models", *flags) as server:
        before = fetch_config(server.http, "m")
        ends = ("--triton-http-endpoint", server.http, "--triton-grpc-endpoint", server.grpc)
        page = ("--triton-metrics-url", f"http://{server.metrics}/metrics")
        what = ("--profile-models", "m", "--search", "brute", "--max-batch-sizes", "2", "--instance-counts", "2")
        short = ("--concurrency", "2", "--duration", "100ms", "--server-warmup", "0", "--queue-delays-us", "0")
        remote = ("profile", "--triton-launch-mode", "remote", *ends, *page, "--run", "run", "--formats", "csv", "-q")
        done = analyzer(*remote, *what, *short, cwd=simulated)
        assert done.returncode == 0, done.stderr
        assert fetch_config(server.http, "m") == before
    outcomes = RunFolder.open(simulated / "run").outcomes()
    assert len(outcomes) == 2
    for outcome in outcomes:
        assert isinstance(outcome, Measurement)
        assert outcome.host is None
        assert outcome.gpus == ()
        assert "tell of no GPU" in outcome.gpus_unmeasured


def test_a_server_whose_models_may_not_be_loaded_is_measured_as_it_is(simulated: Path):
    with running_server(simulated / "models") as server:
        ends = ("--triton-http-endpoint", server.http, "--triton-grpc-endpoint", server.grpc)
        remote = ("profile", "--triton-launch-mode", "remote", *ends, "--reload-model-disable", "-i", "grpc")
        short = ("--concurrency", "2", "--duration", "100ms", "--screen-duration", "50ms", "--server-warmup", "0")
        done = analyzer(*remote, *short, "--profile-models", "m", "--run", "run", "--formats", "csv", cwd=simulated)
        assert done.returncode == 0, done.stderr
        refused = analyzer(*remote[:-3], *short, "--profile-models", "m", "--run", "again", "-q", cwd=simulated)
    outcomes = RunFolder.open(simulated / "run").outcomes()
    assert all(outcome.config.server.is_default for outcome in outcomes)
    assert refused.returncode in (5, 6)

"""The whole of `analyzer profile` and `analyzer report`: real children, real sockets, a simulated model."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from analyzer.domain.measurement import Failure, Measurement
from analyzer.store import RunFolder
from tests.fakes.repositories import REFUSES_A_SECOND_INSTANCE, write_python, write_simulated

QUICK = [
    "--duration",
    "200ms",
    "--screen-duration",
    "100ms",
    "--warmup",
    "0",
    "--server-warmup",
    "50ms",
    "--concurrency",
    "1:4",
    "--sample-interval",
    "20ms",
]


def analyzer(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "analyzer", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def profile(tmp_path: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    return analyzer("profile", "-m", "models", "--profile-models", "m", "--run", "run", *QUICK, *flags, cwd=tmp_path)


@pytest.fixture
def simulated(tmp_path: Path) -> Path:
    write_simulated(tmp_path / "models", "m", parameters={"service_us": 2000, "service_per_item_us": 100})
    return tmp_path


def test_a_run_measures_reports_and_names_what_to_deploy(simulated: Path):
    done = profile(
        simulated,
        "--latency-budget",
        "500ms",
        "--instance-counts",
        "1,2",
        "--max-batch-sizes",
        "4",
        "--queue-delays-us",
        "0",
        "--formats",
        "html,csv,json",
    )
    assert done.returncode == 0, done.stderr
    run = RunFolder.open(simulated / "run")
    outcomes = run.outcomes()
    assert len(outcomes) >= 4
    assert all(isinstance(outcome, Measurement) for outcome in outcomes)
    assert any(outcome.config.server.is_default for outcome in outcomes)
    assert len({outcome.config.key for outcome in outcomes}) == len(outcomes)
    for outcome in outcomes:
        assert isinstance(outcome, Measurement)
        assert outcome.host is not None
        assert outcome.gpus or outcome.gpus_unmeasured
        assert run.latencies_path(outcome.config).is_file()
        assert run.config_text(outcome.config.server, "m")
    page = (simulated / "run" / "report.html").read_text()
    assert "Deploy" in page
    assert "run/report.html" in done.stdout


def test_a_killed_run_goes_on_without_measuring_a_finished_point_again(simulated: Path):
    flags = ["--instance-counts", "1,2", "--max-batch-sizes", "4,8", "--formats", "json"]
    command = [sys.executable, "-m", "analyzer", "profile", "-m", "models", "--profile-models", "m", "--run", "run"]
    with subprocess.Popen([*command, *QUICK, *flags], cwd=simulated, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(5)]
        process.send_signal(signal.SIGKILL)
    assert lines[-1].startswith("  3 ")
    before = RunFolder.open(simulated / "run").outcomes()
    assert len(before) >= 3
    done = profile(simulated, *flags)
    assert done.returncode == 0, done.stderr
    assert "kept from before" in done.stderr
    after = RunFolder.open(simulated / "run").outcomes()
    assert after[: len(before)] == before
    assert len({outcome.config.key for outcome in after}) == len(after) > len(before)


def test_a_finished_run_given_again_measures_nothing(simulated: Path):
    flags = ["--instance-counts", "1", "--max-batch-sizes", "4", "--formats", "json"]
    assert profile(simulated, *flags).returncode == 0
    before = (simulated / "run" / "measurements.jsonl").read_bytes()
    assert profile(simulated, *flags).returncode == 0
    assert (simulated / "run" / "measurements.jsonl").read_bytes() == before


def test_ctrl_c_keeps_what_was_measured_and_leaves_no_child(simulated: Path):
    command = [sys.executable, "-m", "analyzer", "profile", "-m", "models", "--profile-models", "m", "--run", "run"]
    # A grid: the default search of so small a space may be over before the signal comes.
    with subprocess.Popen(
        [*command, *QUICK, "--search", "brute"], cwd=simulated, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for _ in range(4):
            process.stderr.readline()
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "the same command goes on" in rest
    assert "Traceback" not in rest
    assert len(RunFolder.open(simulated / "run").outcomes()) >= 2
    assert children
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_nothing_that_meets_the_budget_is_still_a_report_with_the_nearest_misses(simulated: Path):
    done = profile(simulated, "--latency-budget", "1ms", "--instance-counts", "1", "--formats", "html,json")
    assert done.returncode == 6
    assert "Traceback" not in done.stderr
    page = (simulated / "run" / "report.html").read_text()
    assert "Nothing meets the budget" in page


def test_a_new_budget_on_an_old_run_needs_no_server(simulated: Path):
    flags = ["--instance-counts", "1", "--max-batch-sizes", "4", "--formats", "json"]
    assert profile(simulated, *flags).returncode == 0
    budget = ["--constraint", "p99_latency_ms<=0.001"]
    again = analyzer("report", "run", *budget, "--formats", "html", "-o", "other", cwd=simulated)
    assert again.returncode == 6
    assert (simulated / "other" / "report.html").is_file()


def test_a_configuration_that_does_not_load_is_recorded_and_the_rest_goes_on(tmp_path: Path):
    write_python(tmp_path / "models", "m", REFUSES_A_SECOND_INSTANCE, dims=(4,), max_batch_size=4)
    done = profile(
        tmp_path,
        "--instance-counts",
        "1,2",
        "--max-batch-sizes",
        "4",
        "--queue-delays-us",
        "0",
        "--formats",
        "html,json",
    )
    assert done.returncode == 0, done.stderr
    outcomes = RunFolder.open(tmp_path / "run").outcomes()
    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert failures
    assert all("no memory for another instance" in failure.reason for failure in failures)
    assert any(isinstance(outcome, Measurement) for outcome in outcomes)


def test_an_input_of_variable_shape_needs_its_sizes_once_not_at_every_point(tmp_path: Path):
    write_python(tmp_path / "models", "m", dims=(-1,))
    done = profile(tmp_path, "--instance-counts", "1", "--formats", "json")
    assert done.returncode == 3
    assert "INPUT0 has the variable shape" in done.stderr
    assert profile(tmp_path, "--instance-counts", "1", "--formats", "json", "--shape", "INPUT0:5").returncode == 0


@pytest.mark.parametrize(
    ("flags", "code", "sentence"),
    [
        (["profile", "-m", "nowhere", "--profile-models", "m"], 3, "nowhere is not a folder"),
        (["profile", "-m", "models", "--profile-models", "x"], 3, "there are m"),
        (["profile", "-m", "models"], 2, "--profile-models is needed"),
        (
            ["profile", "-m", "models", "--profile-models", "m", "--gpu-memory-budget", "4GB"],
            2,
            "can't be checked here",
        ),
        (["profile", "-m", "models", "--profile-models", "m", "--input-data", "no.json"], 3, "no.json does not exist"),
        (["profile", "-m", "models", "--profile-models", "m", "--speed", "9"], 2, "No such option"),
        (["profile", "-m", "models", "--profile-models", "m", "-f", "no.yaml"], 3, "no.yaml can't be read"),
        (["report", "nowhere"], 3, "no run folder"),
    ],
)
def test_bad_input_is_one_sentence_and_a_code(simulated: Path, flags, code, sentence):
    if "--gpu-memory-budget" in flags and Path("/proc/driver/nvidia/version").exists():
        flags = [flag.replace("4GB", "0GB") for flag in flags]
        sentence = "must be above 0"
    done = analyzer(*flags, cwd=simulated)
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == code


def test_a_model_that_cannot_be_read_is_named(tmp_path: Path):
    folder = tmp_path / "models" / "m"
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "model.onnx").write_bytes(b"not an onnx file")
    (folder / "config.pbtxt").write_text('name: "m" backend: "onnxruntime"')
    done = profile(tmp_path)
    assert done.returncode == 3
    assert "m" in done.stderr
    assert "Traceback" not in done.stderr

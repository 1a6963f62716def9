"""`analyzer profile` over spaces of several models, composing models and any field: real children, simulated models."""

import json
import subprocess
import sys
from pathlib import Path

from analyzer.domain.measurement import Failure, Measurement
from analyzer.domain.run import Edit
from analyzer.store import RunFolder
from tests.fakes.repositories import (
    REFUSES_A_SECOND_INSTANCE,
    write_ensemble,
    write_onnx,
    write_python,
    write_simulated,
)

QUICK = """
--duration 150ms --screen-duration 100ms --warmup 0 --server-warmup 0 --sample-interval 20ms --search brute --run run
--instance-counts 1 --concurrency 1:2 --formats json
"""

ENDS_ITS_SERVER = """
import os, signal
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        os.kill(os.getppid(), signal.SIGKILL)
        return [pb_utils.InferenceResponse([]) for _ in requests]
"""

CALLS_ANOTHER = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            array = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            call = pb_utils.InferenceRequest(
                model_name="called",
                requested_output_names=["OUTPUT0"],
                inputs=[pb_utils.Tensor("INPUT0", array)],
            )
            answers.append(pb_utils.InferenceResponse(call.exec().output_tensors()))
        return answers
"""


def profile(folder: Path, models: str, *flags: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "analyzer", "profile", "-m", "models", "--profile-models", models]
    command += [*QUICK.split(), *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_two_models_together_are_driven_at_the_same_time_and_one_that_does_not_load_is_a_failure(tmp_path: Path):
    write_simulated(tmp_path / "models", "a", parameters={"service_us": 2000})
    write_python(tmp_path / "models", "b", REFUSES_A_SECOND_INSTANCE, dims=(4,))
    flags = ("--together", "--load", "b:1:1", "--formats", "html")
    done = profile(tmp_path, "a,b", *flags, "--axis", "b:instance_group.count=2", "--instance-counts", "2")
    assert done.returncode == 0, done.stderr
    assert "4 candidates at 2 loads: 8 points in all." in done.stderr
    run = RunFolder.open(tmp_path / "run")
    outcomes = run.outcomes()
    measured = [o for o in outcomes if isinstance(o, Measurement)]
    failed = [o for o in outcomes if isinstance(o, Failure)]
    assert {o.config.server.variants[1].instance_count for o in failed} == {2}
    assert all("no memory for another instance" in o.reason + o.log_tail for o in failed)
    assert {o.config.server.variants[1].instance_count for o in measured} == {None}
    for outcome in measured:
        assert [load.profile.model for load in outcome.loads] == ["a", "b"]
        assert len({load.start_ns for load in outcome.loads}) == 1
        assert all(load.throughput.per_second > 0 for load in outcome.loads)
        assert all(run.latencies_path(outcome.config, place).is_file() for place in (0, 1))
    assert run.header.effort is not None
    assert run.header.effort.grid_point_count == 8
    assert "Each model" in (tmp_path / "run" / "report.html").read_text()


def test_a_server_that_dies_under_the_load_of_one_of_its_models_is_a_failure_and_the_run_goes_on(tmp_path: Path):
    write_simulated(tmp_path / "models", "a", parameters={"service_us": 1000})
    write_python(tmp_path / "models", "b", ENDS_ITS_SERVER, dims=(4,))
    done = profile(tmp_path, "a,b", "--together", "--concurrency", "1:1", "--dynamic-batching", "false")
    assert done.returncode == 6
    assert "Traceback" not in done.stderr
    outcomes = RunFolder.open(tmp_path / "run").outcomes()
    assert outcomes
    assert all(isinstance(o, Failure) and o.reason == "the server died under this load" for o in outcomes)


def test_the_models_that_an_ensemble_calls_are_varied_and_it_batches_no_more_than_they_do(tmp_path: Path):
    write_ensemble(tmp_path / "models", "chain")
    axes = ("--axis", "doubled:max_batch_size=4")
    done = profile(tmp_path, "chain", *axes)
    assert done.returncode == 0, done.stderr
    run = RunFolder.open(tmp_path / "run")
    outcomes = run.outcomes()
    assert len({o.config.server for o in outcomes}) == 4
    assert [o for o in outcomes if isinstance(o, Failure)] == []
    assert {len(o.load.server) for o in outcomes} == {3}
    for outcome in outcomes:
        variants = {variant.model: variant for variant in outcome.config.server.variants}
        assert variants["chain"].is_default
        size = variants["doubled"].max_batch_size or 8
        assert f"max_batch_size: {size}\n" in run.config_text(outcome.config.server, "chain")
        assert f"max_batch_size: {size}\n" in run.config_text(outcome.config.server, "doubled")


def test_the_models_that_a_python_model_calls_are_varied_where_they_are_named(tmp_path: Path):
    write_python(tmp_path / "models", "caller", CALLS_ANOTHER, dims=(4,))
    write_simulated(tmp_path / "models", "called", parameters={"service_us": 1000}, max_batch_size=0)
    flags = ("--bls-composing-models", "called", "--axis", "called:instance_group.count=2")
    done = profile(tmp_path, "caller", *flags)
    assert done.returncode == 0, done.stderr
    outcomes = RunFolder.open(tmp_path / "run").outcomes()
    assert {o.config.server.variants[1].instance_count for o in outcomes} == {None, 2}
    assert all(isinstance(o, Measurement) and o.load.throughput.per_second > 0 for o in outcomes)


def test_a_parameter_of_the_backend_is_an_axis(tmp_path: Path):
    write_onnx(tmp_path / "models", "m")
    flags = ("--max-batch-sizes", "8", "--queue-delays-us", "0")
    axis = ("--axis", "parameters.intra_op_thread_count=1,2")
    done = profile(tmp_path, "m", *flags, *axis)
    assert done.returncode == 0, done.stderr
    run = RunFolder.open(tmp_path / "run")
    outcomes = run.outcomes()
    edits = {o.config.server.variants[0].edits for o in outcomes}
    assert edits == {(), *((Edit(path="parameters.intra_op_thread_count", value=n),) for n in ("1", "2"))}
    for outcome in outcomes:
        text = run.config_text(outcome.config.server, "m")
        assert all(f'string_value: "{edit.value}"' in text for edit in outcome.config.server.variants[0].edits)
    told = json.loads((tmp_path / "run" / "report.json").read_text())["outcomes"]
    assert any("intra_op_thread_count" in row["variants"] for row in told)


def test_models_in_turn_get_a_folder_each_and_shapes_are_tried(tmp_path: Path):
    for name in ("a", "b"):
        write_simulated(tmp_path / "models", name, dims=(-1,))
    flags = ("--shape", "INPUT0:4|8", "--concurrency", "1:1", "--max-batch-sizes", "8")
    done = profile(tmp_path, "a,b", *flags, "--queue-delays-us", "0", "--run", "runs")
    assert done.returncode == 0, done.stderr
    for name in ("a", "b"):
        outcomes = RunFolder.open(tmp_path / "runs" / name).outcomes()
        assert {(o.config.load.model, o.config.load.shapes["INPUT0"]) for o in outcomes} == {(name, (4,)), (name, (8,))}


def test_a_dry_run_tells_the_size_of_the_space_and_its_candidates_and_writes_nothing(tmp_path: Path):
    write_simulated(tmp_path / "models", "m")
    flags = ("--instance-counts", "1,2", "--max-batch-sizes", "4", "--batch-sizes", "1,8", "--concurrency", "1:8")
    done = profile(tmp_path, "m", *flags, "--queue-delays-us", "0", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "candidates (" in done.stdout
    assert "more are left out) at 4 loads:" in done.stdout
    assert "left out: a client batch of 8" in " ".join(done.stdout.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models"]


def test_a_field_that_is_not_there_is_told_before_anything_starts(tmp_path: Path):
    done = profile(tmp_path, "m", "--axis", "instance_grup.kind=cpu")
    assert done.returncode == 2
    assert "did you mean instance_group.kind?" in done.stderr
    assert "Traceback" not in done.stderr


def test_tensors_may_lie_in_shared_memory(tmp_path):
    write_onnx(tmp_path / "models", "affine")
    flags = "--shared-memory system --output-shared-memory-size 4096 --max-batch-sizes 1"
    done = profile(tmp_path, "affine", *flags.split())
    assert done.returncode == 0, done.stderr
    outcomes = RunFolder.open(tmp_path / "run").outcomes()
    assert all(isinstance(each, Measurement) and not each.load.failures for each in outcomes)
    assert {each.config.load.shared_memory for each in outcomes} == {"system"}
    advice = json.loads((tmp_path / "run" / "report.json").read_text())
    assert "--shared-memory system --output-shared-memory-size 4096" in json.dumps(advice)

"""Model Analyzer's surface, key by key: what becomes of each, shown by a value of it and not by a table's word."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from analyzer.errors import UsageError
from analyzer.model_analyzer.keys import KEYS, Fate
from analyzer.model_analyzer.requested import Requested, profile_requested, report_requested
from analyzer.settings.point_limit import PointLimit

BASE: dict[str, Any] = {
    "model_repository": "repo",
    "profile_models": ["a"],
    "run_config_search_mode": "brute",
    "gpus": "all",
}

HONOURED: dict[str, Any] = {
    "checkpoint_directory": "kept",
    "export_path": "out",
    "model_repository": "other",
    "output_model_repository_path": "variants",
    "override_output_model_repository": True,
    "profile_models": ["b"],
    "bls_composing_models": ["sub"],
    "ensemble_composing_models": [{"sub": {"model_config_parameters": {"max_batch_size": [1, 2]}}}],
    "cpu_only_composing_models": ["sub"],
    "batch_sizes": [1, 2],
    "concurrency": [1, 3],
    "request_rate": [10, 20],
    "request_rate_search_enable": True,
    "cpu_only": True,
    "parameters": {"a": {"parameters": {"concurrency": 2}}},
    "objectives": ["perf_latency_p99"],
    "constraints": {"perf_latency_p99": {"max": 5}},
    "model_config_parameters": {"max_batch_size": [1, 2]},
    "perf_analyzer_flags": {"measurement-interval": 100},
    "triton_server_environment": {"A": 1},
    "run_config_search_mode": "capacity",
    "run_config_search_disable": True,
    "run_config_search_min_concurrency": 2,
    "run_config_search_max_concurrency": 9,
    "run_config_search_min_request_rate": 2,
    "run_config_search_max_request_rate": 99,
    "run_config_search_min_instance_count": 2,
    "run_config_search_max_instance_count": 3,
    "run_config_search_min_model_batch_size": 2,
    "run_config_search_max_model_batch_size": 8,
    "latency_budget": 20,
    "min_throughput": 5,
    "num_configs_per_model": 1,
    "monitoring_interval": 0.5,
    "duration_seconds": 7,
    "gpus": ["GPU-1"],
    "client_protocol": "http",
    "triton_http_endpoint": "h:1",
    "triton_grpc_endpoint": "g:1",
    "triton_metrics_url": "http://m:1/metrics",
    "filename_model_inference": "i.csv",
    "filename_model_gpu": "g.csv",
    "filename_server_only": "s.csv",
    "inference_output_fields": ["model_name"],
    "gpu_output_fields": ["model_name"],
    "server_output_fields": ["model_name"],
    "skip_summary_reports": True,
    "skip_detailed_reports": True,
}
"""Values that change what is run or written."""

WITH_ANOTHER: dict[str, dict[str, Any]] = {
    "weighting": {
        "run_config_profile_models_concurrently_enable": True,
        "profile_models": {"a": {"weighting": 3}, "b": {}},
    },
    "run_config_profile_models_concurrently_enable": {
        "run_config_profile_models_concurrently_enable": True,
        "profile_models": ["a", "b"],
    },
    "reload_model_disable": {"reload_model_disable": True, "triton_launch_mode": "remote"},
    "triton_launch_mode": {"triton_launch_mode": "remote"},
    "num_top_model_configs": {"num_top_model_configs": 2, "latency_budget": 5, "profile_models": ["a", "b"]},
    "triton_server_path": {"triton_server_path": "tritonserver"},
    "triton_server_flags": {"triton_server_flags": {"log-verbose": 1}, "triton_server_path": "tritonserver"},
    "optuna_max_trials": {"optuna_max_trials": 30, "run_config_search_mode": "optuna"},
    "max_percentage_of_search_space": {"max_percentage_of_search_space": 5, "run_config_search_mode": "optuna"},
}
"""Keys that need others beside them."""

ALWAYS = {"collect_cpu_metrics": True, "always_report_gpu_metrics": True, "model_type": "generic"}
"""What they ask for is always done: nothing changes."""

NOTED: dict[str, Any] = {
    "genai_perf_flags": {"x": 1},
    "triton_docker_args": {"x": 1},
    "early_exit_enable": True,
    "concurrency_sweep_disable": True,
    "run_config_search_max_binary_search_steps": 3,
    "min_percentage_of_search_space": 5,
    "optuna_min_trials": 20,
    "optuna_early_exit_threshold": 10,
    "use_concurrency_formula": True,
    "run_config_search_preferred_batch_size_disable": True,
    "dcgm_disable": True,
    "client_max_retries": 3,
    "perf_analyzer_path": "pa",
    "perf_analyzer_cpu_util": 80,
    "perf_output_path": "out",
    "perf_output": True,
    "perf_analyzer_timeout": 600,
    "perf_analyzer_max_auto_adjusts": 10,
    "triton_output_path": "log",
    "triton_docker_image": "image",
    "triton_docker_mounts": ["a:b:rw"],
    "triton_docker_shm_size": "1g",
    "triton_docker_labels": {"x": "y"},
    "triton_install_path": "/opt/tritonserver",
    "plots": {"p": {"title": "t"}},
}
REFUSED: dict[str, Any] = {
    "triton_launch_mode": "c_api",
    "model_type": "LLM",
    "weighting": 2,
    "run_config_search_mode": "random",
}
OF_THE_COMMAND = {"config_file", "report_model_configs", "output_formats", "analysis_models"}


def asked(tmp_path: Path, **changes: Any) -> Requested:
    file = tmp_path / "ma.yaml"
    file.write_text(yaml.safe_dump(BASE | changes))
    return profile_requested(file, {})


def changed(name: str) -> dict[str, Any]:
    if name == "parameters":
        return {"profile_models": HONOURED[name]}
    return WITH_ANOTHER.get(name) or {name: HONOURED[name]}


def test_every_key_stands_in_the_tables():
    told = HONOURED.keys() | WITH_ANOTHER.keys() | ALWAYS.keys() | NOTED.keys() | OF_THE_COMMAND
    assert {key.name for key in KEYS} == told
    assert {key.name for key in KEYS if key.fate is Fate.NOTED} == NOTED.keys()


@pytest.mark.parametrize("name", [*HONOURED, *WITH_ANOTHER])
def test_what_is_honoured_changes_what_is_run_or_written_and_nothing_is_said(tmp_path: Path, name: str):
    usual, made = asked(tmp_path), asked(tmp_path, **changed(name))
    assert (made.runs, made.output) != (usual.runs, usual.output)
    assert made.notes == ()


@pytest.mark.parametrize("name", ALWAYS)
def test_what_is_always_done_may_be_asked_for(tmp_path: Path, name: str):
    assert asked(tmp_path, **{name: ALWAYS[name]}) == asked(tmp_path)


@pytest.mark.parametrize("name", NOTED)
def test_what_is_not_honoured_is_said_once_with_the_reason(tmp_path: Path, name: str):
    made = asked(tmp_path, **{name: NOTED[name]})
    (note,) = made.notes
    assert note.startswith(f"{name} is accepted and not honoured: ")
    assert made.runs == asked(tmp_path).runs


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_give_another_answer_is_refused(tmp_path: Path, name: str):
    with pytest.raises(UsageError, match=name):
        asked(tmp_path, **{name: REFUSED[name]})


@pytest.mark.parametrize("name", ["genai_perf_flags", "triton_docker_args"])
def test_what_a_models_block_says_in_vain_is_said_too(tmp_path: Path, name: str):
    made = asked(tmp_path, profile_models={"a": {name: {"x": 1}}, "b": {name: {"x": 1}}})
    assert len(made.notes) == 1
    assert name in made.notes[0]


SEVERAL = {"num_top_model_configs": 2, "latency_budget": 5}


def test_the_best_over_all_models_are_asked_of_every_run(tmp_path: Path):
    made = asked(tmp_path, **SEVERAL, profile_models=["a", "b"])
    assert [run.num_top_model_configs for run in made.runs] == [2, 2]


def test_one_model_has_nothing_to_be_compared_with_and_that_is_said(tmp_path: Path):
    (note,) = asked(tmp_path, **SEVERAL, profile_models=["a"]).notes
    assert note.startswith("num_top_model_configs compares runs, and this is one")


def test_models_that_are_wanted_for_different_things_have_no_order_between_them(tmp_path: Path):
    blocks = {"a": {"constraints": {"perf_latency_p99": {"max": 9}}}, "b": {}}
    with pytest.raises(UsageError, match="must hold for all of them: leave them out of the blocks of a and b"):
        asked(tmp_path, **SEVERAL, profile_models=blocks)


@pytest.mark.parametrize("limit", ["constraints", "latency_budget", "min_throughput", "server_memory_budget"])
def test_any_limit_for_all_will_do(tmp_path: Path, limit: str):
    value: Any = {"perf_latency_p99": {"max": 9}} if limit == "constraints" else 9
    changes = {limit: value, "num_top_model_configs": 1, "profile_models": ["a", "b"]}
    assert len(asked(tmp_path, **changes).runs) == 2


def test_a_report_takes_the_number_from_its_file_or_its_flag(tmp_path: Path):
    file = tmp_path / "ma.yaml"
    file.write_text("checkpoint_directory: there\nnum_top_model_configs: 4\n")
    assert report_requested(None, file, {}).top_count == 4
    assert report_requested(None, file, {"num_top_model_configs": "0"}).top_count == 0
    assert report_requested(None, None, {"checkpoint_directory": "there"}).top_count is None


def test_plots_of_a_named_configuration_are_said_not_to_be_drawn():
    made = report_requested(None, None, {"report_model_configs": [{"a_config_1": {"plots": {"p": {}}}}]})
    (note,) = made.notes
    assert note.startswith("plots is accepted and not honoured")


def test_bounds_on_trials_bound_the_points_of_optuna_and_of_nothing_else(tmp_path: Path):
    bounds = {"optuna_max_trials": 30, "max_percentage_of_search_space": 5}
    (run,) = asked(tmp_path, run_config_search_mode="optuna", **bounds).runs
    assert run.max_points == PointLimit(count=30, ratio=0.05)
    made = asked(tmp_path, **bounds)
    assert made.runs[0].max_points is None
    assert [note.partition(" ")[0] for note in made.notes] == [
        "optuna_max_trials",
        "max_percentage_of_search_space",
    ]


TOGETHER = {"run_config_profile_models_concurrently_enable": True}


def together(tmp_path: Path, a: dict[str, Any], b: dict[str, Any], **changes: Any) -> Requested:
    return asked(tmp_path, profile_models={"a": a, "b": b}, **TOGETHER, **changes)


def test_flags_of_models_together_are_joined_and_a_contradiction_is_said(tmp_path: Path):
    a = {"measurement-interval": 100, "shape": ["X:3"], "percentile": 95}
    b = {"measurement-interval": 200, "shape": "Y:4", "random-seed": 7}
    made = together(tmp_path, {"perf_analyzer_flags": a}, {"perf_analyzer_flags": b})
    (run,) = made.runs
    assert (run.duration_s, run.seed) == (0.1, 7)
    assert run.shapes == {"X": ((3,),), "Y": ((4,),)}
    assert [note for note in made.notes if "duration 200ms is not honoured" in note and "of b" in note]
    assert [note for note in made.notes if "percentile" in note]


def test_the_server_of_models_together_gets_the_environment_of_all(tmp_path: Path):
    a = {"triton_server_environment": {"A": 1, "C": 1}}
    b = {"triton_server_environment": {"B": 2, "C": 2}}
    made = together(tmp_path, a, b, gpus=["GPU-1"])
    assert made.runs[0].server_environment == {"A": "1", "B": "2", "C": "1", "CUDA_VISIBLE_DEVICES": "GPU-1"}
    assert [note for note in made.notes if "triton_server_environment of b: C 2 is not honoured" in note]


def test_loads_and_client_batches_of_models_together(tmp_path: Path):
    a = {"parameters": {"concurrency": [1, 4, 16], "batch_sizes": [2]}}
    made = together(tmp_path, a, {"parameters": {"batch_sizes": [4]}})
    (run,) = made.runs
    assert run.loads == {"a": (1, 16)}
    assert run.batch_sizes == (2,)
    assert [note for note in made.notes if "1,4,16 of a are taken as a range" in note]
    assert [note for note in made.notes if "parameters of b: batch_sizes 4 is not honoured" in note]
    (listed,) = together(tmp_path, {}, {}, concurrency=[1, 4, 16]).runs
    assert (listed.concurrency, listed.load_values) == ((1, 16), (1, 4, 16))


def test_models_together_that_all_have_rates_are_loaded_by_rate(tmp_path: Path):
    rates = {"parameters": {"request_rate": [10, 50]}}
    (run,) = together(tmp_path, rates, rates).runs
    assert (run.concurrency, run.request_rate, run.loads) == (None, (10, 50), {"a": (10, 50), "b": (10, 50)})
    with pytest.raises(UsageError, match="all the same"):
        together(tmp_path, rates, {"parameters": {"concurrency": 3}})

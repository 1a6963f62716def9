"""Model Analyzer's files and flags as settings of ours."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.domain.budget import Budget, Objective
from analyzer.errors import UsageError
from analyzer.model_analyzer.forms import axes, model_blocks, numbers
from analyzer.model_analyzer.keys import BY_NAME, KEYS, Fate
from analyzer.model_analyzer.output import Output
from analyzer.model_analyzer.requested import Requested, profile_requested, report_requested
from analyzer.settings.declared import ProfileSettings
from analyzer.settings.options import options_of

KEYS_OF_1_58 = [
    "config_file",
    "checkpoint_directory",
    "export_path",
    "model_repository",
    "output_model_repository_path",
    "override_output_model_repository",
    "profile_models",
    "bls_composing_models",
    "ensemble_composing_models",
    "cpu_only_composing_models",
    "batch_sizes",
    "concurrency",
    "request_rate",
    "request_rate_search_enable",
    "cpu_only",
    "parameters",
    "objectives",
    "constraints",
    "weighting",
    "model_config_parameters",
    "perf_analyzer_flags",
    "genai_perf_flags",
    "triton_server_flags",
    "triton_server_environment",
    "triton_docker_args",
    "run_config_search_mode",
    "run_config_search_disable",
    "early_exit_enable",
    "run_config_search_min_concurrency",
    "run_config_search_max_concurrency",
    "run_config_search_min_request_rate",
    "run_config_search_max_request_rate",
    "run_config_search_min_instance_count",
    "run_config_search_max_instance_count",
    "run_config_search_min_model_batch_size",
    "run_config_search_max_model_batch_size",
    "run_config_search_max_binary_search_steps",
    "run_config_profile_models_concurrently_enable",
    "concurrency_sweep_disable",
    "reload_model_disable",
    "min_percentage_of_search_space",
    "max_percentage_of_search_space",
    "optuna_min_trials",
    "optuna_max_trials",
    "optuna_early_exit_threshold",
    "use_concurrency_formula",
    "latency_budget",
    "min_throughput",
    "num_configs_per_model",
    "num_top_model_configs",
    "monitoring_interval",
    "duration_seconds",
    "collect_cpu_metrics",
    "gpus",
    "always_report_gpu_metrics",
    "dcgm_disable",
    "client_protocol",
    "client_max_retries",
    "perf_analyzer_path",
    "perf_analyzer_timeout",
    "perf_analyzer_cpu_util",
    "perf_output",
    "perf_output_path",
    "perf_analyzer_max_auto_adjusts",
    "triton_launch_mode",
    "triton_docker_image",
    "triton_http_endpoint",
    "triton_grpc_endpoint",
    "triton_metrics_url",
    "triton_server_path",
    "triton_output_path",
    "triton_docker_mounts",
    "triton_docker_labels",
    "triton_docker_shm_size",
    "triton_install_path",
    "filename_model_inference",
    "filename_model_gpu",
    "filename_server_only",
    "inference_output_fields",
    "gpu_output_fields",
    "server_output_fields",
    "skip_summary_reports",
    "skip_detailed_reports",
    "model_type",
    "report_model_configs",
    "plots",
    "output_formats",
]


def asked(tmp_path: Path, text: str = "", **flags: Any) -> Requested:
    """A file, if there is a text for it, and flags: ours by field, theirs by key."""
    file = tmp_path / "ma.yaml"
    file.write_text(text)
    return profile_requested(file if text else None, {"model_repository": "repo", **flags})


def one(tmp_path: Path, text: str = "", **flags: Any) -> ProfileSettings:
    (run,) = asked(tmp_path, text, **flags).runs
    return run


@pytest.mark.parametrize("name", KEYS_OF_1_58)
def test_every_key_is_decided(name: str):
    assert name in BY_NAME
    assert BY_NAME[name].fate is not Fate.NOTED or BY_NAME[name].note


def test_a_key_that_is_ours_is_an_option_of_ours():
    keys = {option.key for option in options_of(ProfileSettings)} | {"config_file"}
    assert [key.name for key in KEYS if key.fate is Fate.OURS and key.name not in keys] == []


@pytest.mark.parametrize(
    ("raw", "levels"),
    [
        (4, (4,)),
        ("1,2", (1, 2)),
        ([8, 1], (1, 8)),
        ({"start": 1, "stop": 3}, (1, 2, 3)),
        ({"start": 2, "stop": 8, "step": 3}, (2, 5, 8)),
        ("2:8:2", (2, 4, 6, 8)),
    ],
)
def test_lists_of_numbers_have_five_forms(raw: object, levels: tuple[int, ...]):
    assert numbers(raw) == levels


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(0, 50), st.integers(1, 9))
def test_a_stepped_list_stays_within_its_bounds(start: int, length: int, step: int):
    levels = numbers({"start": start, "stop": start + length, "step": step})
    assert levels == tuple(range(start, start + length + 1, step))


@pytest.mark.parametrize("raw", [{"start": 1}, {"start": 3, "stop": 1}, "a", 0, [], "3:1"])
def test_a_list_of_numbers_that_is_none_is_refused(raw: object):
    with pytest.raises(ValueError, match=r"takes|must be"):
        numbers(raw)


@pytest.mark.parametrize(
    "raw",
    ["a,b", ["a", "b"], ["a", {"b": {"cpu_only": True}}], {"a": None, "b": {"cpu_only": True}}],
)
def test_profile_models_has_three_forms(raw: object):
    assert list(model_blocks(raw)) == ["a", "b"]


@pytest.mark.parametrize(
    ("raw", "paths"),
    [
        ({"max_batch_size": [1, 2]}, {"max_batch_size": [1, 2]}),
        ({"max_batch_size": 4}, {"max_batch_size": [4]}),
        ({"dynamic_batching": {}}, {"dynamic_batching": ["{}"]}),
        (
            {"dynamic_batching": {"max_queue_delay_microseconds": [0, 100], "preferred_batch_size": [[4, 8], [16]]}},
            {
                "dynamic_batching.max_queue_delay_microseconds": [0, 100],
                "dynamic_batching.preferred_batch_size": [[4, 8], [16]],
            },
        ),
        (
            {"instance_group": [{"kind": "KIND_CPU", "count": [1, 2]}]},
            {"instance_group.kind": ["KIND_CPU"], "instance_group.count": [1, 2]},
        ),
        (
            {"instance_group": [[{"count": [1, 2]}, {"kind": "KIND_GPU"}]]},
            {"instance_group": [[{"count": 1}, {"kind": "KIND_GPU"}], [{"count": 2}, {"kind": "KIND_GPU"}]]},
        ),
        (
            {"parameters": {"threads": {"string_value": ["1", "2"]}}},
            {"parameters.threads": ["1", "2"]},
        ),
        (
            {"optimization": {"graph": {"level": [0, 1]}}},
            {"optimization.graph.level": [0, 1]},
        ),
    ],
)
def test_model_config_parameters_become_axes(raw: dict[str, Any], paths: dict[str, list[object]]):
    assert axes(raw) == paths


FULL = """
model_repository: /ignored
checkpoint_directory: kept
client_protocol: http
run_config_search_mode: brute
profile_models:
  a:
    parameters: {batch_sizes: "1,4", concurrency: {start: 2, stop: 6, step: 2}}
    objectives: {perf_throughput: 5, gpu_used_memory: 1}
    constraints:
      perf_latency_p99: {max: 2.5}
      gpu_used_memory: {max: 1048.576}
    model_config_parameters:
      max_batch_size: [4, 8]
      dynamic_batching: {max_queue_delay_microseconds: [100, 200]}
      instance_group: [{kind: KIND_CPU, count: [1, 2]}]
    perf_analyzer_flags: {input-data: d.json, shape: ["X:3,4"], percentile: 95}
  b: {cpu_only: true}
constraints: {perf_throughput: {min: 10}}
"""


def test_each_model_is_a_run_of_its_own_with_its_block(tmp_path: Path):
    made = asked(tmp_path, FULL.replace("model_repository: /ignored\n", ""))
    a, b = made.runs
    assert (a.run, b.run) == ("kept/a", "kept/b")
    assert (a.batch_sizes, a.concurrency, a.load_values) == ((1, 4), (2, 6), (2, 4, 6))
    assert a.objectives == (Objective(metric="throughput", weight=5), Objective(metric="gpu_memory_mb", weight=1))
    assert a.constraints == (
        Budget(metric="p99_latency_ms", limit=2.5),
        Budget(metric="gpu_memory_mb", limit=1000.0),
    )
    assert {axis.axis.path: axis.axis.values for axis in a.axes} == {
        "max_batch_size": (4, 8),
        "dynamic_batching.max_queue_delay_microseconds": (100, 200),
        "instance_group.kind": ("KIND_CPU",),
        "instance_group.count": (1, 2),
    }
    assert (a.search, a.protocol, a.automatic_axes, a.dynamic_batching) == ("brute", "http", "none", (True,))
    assert (a.input_data, a.shapes) == ("d.json", {"X": ((3, 4),)})
    assert [note for note in made.notes if "percentile" in note]
    assert b.cpu_only == ("b",)
    assert (b.automatic_axes, b.concurrency) == ("wide", (1, 1024))
    assert b.constraints == (Budget(metric="throughput", limit=10, at_most=False),)


def test_models_together_are_one_run(tmp_path: Path):
    text = """
run_config_profile_models_concurrently_enable: true
profile_models:
  a: {parameters: {concurrency: 2}, constraints: {perf_latency_p99: {max: 5}}, weighting: 3}
  b: {model_config_parameters: {instance_group: [{count: [1, 2]}]}, objectives: [perf_latency_p99]}
"""
    run = one(tmp_path, text)
    assert run.together
    assert run.profile_models == ("a", "b")
    assert run.loads == {"a": (2, 2)}
    assert [str(budget) for budget in run.constraints] == ["a:p99_latency_ms<=5"]
    assert [(o.figure, o.weight) for o in run.objectives] == [("a:throughput", 30), ("b:p99_latency_ms", 10)]
    assert [(axis.model, axis.axis.path) for axis in run.axes] == [("b", "instance_group.count")]


def test_a_file_without_a_search_mode_uses_ours_and_says_so(tmp_path: Path):
    made = asked(tmp_path, "profile_models: [m]\ncollect_cpu_metrics: true\n")
    assert made.runs[0].search == "capacity"
    assert [note for note in made.notes if "run_config_search_mode" in note]
    assert made.runs[0].protocol == "grpc"
    assert made.output == Output()


def test_bounds_of_the_search_become_axes_and_loads(tmp_path: Path):
    flags = {"profile_models": "m", "run_config_search_max_instance_count": "3"}
    run = one(tmp_path, **flags, run_config_search_max_concurrency="16", run_config_search_max_model_batch_size="8")
    assert (run.instance_counts, run.max_batch_sizes, run.concurrency) == ((1, 2, 3), (1, 2, 4, 8), (1, 16))
    rated = one(tmp_path, **flags, request_rate_search_enable=True)
    assert rated.request_rate == (16, 8192)
    none = one(tmp_path, profile_models="m", run_config_search_disable=True)
    assert none.automatic_axes == "none"


def test_flags_of_theirs_are_taken_on_the_command_line(tmp_path: Path):
    run = one(tmp_path, profile_models="a", concurrency="1,2,4", protocol="0.5", client_protocol="grpc")
    assert (run.concurrency, run.load_values) == ((1, 4), (1, 2, 4))
    assert (run.sample_interval_s, run.protocol) == (0.5, "grpc")
    assert run.run is None
    assert asked(tmp_path, profile_models="a", export_path="out").output == Output(folder="out")


def test_a_file_of_ours_stays_one(tmp_path: Path):
    made = asked(tmp_path, "profile_models: [m]\nconcurrency: 1:8\nlatency_budget: 20ms\n")
    assert made.output is None
    assert made.runs[0].protocol == "http"
    assert made.runs[0].automatic_axes == "usual"


def test_which_gpus_are_seen_is_told_to_the_server(tmp_path: Path):
    text = "profile_models: [m]\ngpus: [GPU-1, GPU-2]\ntriton_server_environment: {A: 1, B: true}\n"
    assert one(tmp_path, text).server_environment == {"A": "1", "B": "true", "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2"}


@pytest.mark.parametrize(
    ("text", "flags", "sentence"),
    [
        ("early_exit_enabled: true\nprofile_models: [m]\ngpus: all\n", {}, "did you mean early_exit_enable?"),
        ("gpus: all\n", {}, "profile_models is needed"),
        ("gpus: all\nprofile_models: [m, m]\n", {}, "profile_models names m twice"),
        ("gpus: all\nprofile_models: [m]\n", {"profile_models": "m"}, "give it once"),
        ("gpus: all\nprofile_models: [m]\nweighting: 2\n", {}, "into the model's block"),
        ("profile_models: [m]\nnum_top_model_configs: 2\n", {}, "needs constraints"),
        ("profile_models: {m: {parameter: {}}}\n", {}, "did you mean parameters?"),
        ("profile_models: {m: {parameters: {concurency: 1}}}\n", {}, "none of batch_sizes, concurrency"),
        ("profile_models: {m: {parameters: {concurrency: 1, request_rate: 2}}}\n", {}, "exclude each other"),
        (
            "profile_models: [m]\nconcurrency: [1, 2]\nrequest_rate_search_enable: true\n",
            {},
            "exclude each other",
        ),
        ("profile_models: [m]\nrun_config_search_mode: quick\nconcurrency: [1]\n", {}, "chooses the loads itself"),
        ("profile_models: {m: {objectives: [perf_thruput]}}\n", {}, "names no known metric"),
        ("profile_models: {m: {constraints: {perf_latency_p99: 5}}}\n", {}, "takes min or max"),
        ("profile_models: {m: {constraints: {gpu_free_memory: {min: 5}}}}\n", {}, "not measured here"),
        ("profile_models: [m]\ngpus: all\nmodel_type: LLM\n", {}, "language models"),
        ("profile_models: [m]\ngpus: all\ntriton_launch_mode: docker\n", {}, "takes local"),
        (
            "profile_models: [m]\nrun_config_search_min_concurrency: 8\nrun_config_search_max_concurrency: 4\n",
            {},
            "no more at least than at most",
        ),
        ("profile_models: {m: {model_config_parameters: {max_batch: [1]}}}\n", {}, "max_batch_size"),
        ("profile_models: {m: {cpu_only: maybe}}\n", {}, "true or false"),
        ("profile_models: [m]\ngpus: all\nnum_configs_per_model: some\n", {}, "num_configs_per_model takes a number"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, flags: dict[str, Any], sentence: str):
    with pytest.raises(UsageError) as caught:
        asked(tmp_path, text, **flags)
    assert sentence in str(caught.value)


def test_zero_and_false_are_said_and_fractions_kept(tmp_path: Path):
    text = "profile_models: {m: {constraints: {perf_latency_avg: {max: 0.5}}}}\nnum_configs_per_model: 0\n"
    made = asked(tmp_path, text)
    assert made.output == Output(configs_per_model=0)
    assert made.runs[0].constraints == (Budget(metric="mean_latency_ms", limit=0.5),)


scalars = st.one_of(st.none(), st.booleans(), st.integers(-3, 300), st.floats(-1, 9), st.text("ab1,:", max_size=5))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["m", "start", "stop", "max", "perf_throughput"]), inner, max_size=3),
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS_OF_1_58), values, max_size=4))
def test_whatever_a_file_holds_is_understood_or_refused_in_a_sentence(tmp_path_factory: Any, raw: dict[str, Any]):
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text(yaml.safe_dump({"gpus": "all"} | raw))
    try:
        made = profile_requested(file, {})
    except UsageError:
        return
    assert made.runs


@pytest.mark.parametrize("raw", ["a_config_default,a_config_1", ["a_config_default", {"a_config_1": {"plots": {}}}]])
def test_a_report_of_configurations_is_asked_for_by_their_names(raw: object):
    made = report_requested(None, None, {"report_model_configs": raw, "export_path": "out", "output": "pdf"})
    assert made.is_theirs
    assert made.configs == ("a_config_default", "a_config_1")
    assert (made.source, made.output.folder, made.formats) == ("checkpoints", "out", ("pdf",))


def test_a_report_of_a_run_folder_is_ours():
    given_flags = {"output": "out", "latency_budget_ms": "20ms"}
    assert not report_requested(Path("run"), None, given_flags).is_theirs
    assert given_flags == {"output": "out", "latency_budget_ms": "20ms"}

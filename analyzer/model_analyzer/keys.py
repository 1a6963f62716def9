"""Every key of Triton Model Analyzer's files and flags, and what becomes of it here: one row a key.

A flag is the key with dashes. ``Fate.OURS``: an option of ours has its name and meaning. ``READ``: it becomes settings
of ours, decides what is written, or asks for what is always done. ``NOTED``: it is said once why nothing comes of it.
"""

from dataclasses import dataclass
from enum import Enum


class Fate(Enum):
    OURS = "an option of ours"
    READ = "read"
    NOTED = "accepted, not honoured"


@dataclass(frozen=True, slots=True)
class Key:
    """``note`` says why it is not honoured, or where what it does differs. ``on`` are the commands with its flag."""

    name: str
    fate: Fate
    note: str = ""
    short: str = ""
    is_switch: bool = False
    in_files_only: bool = False
    on: tuple[str, ...] = ("profile",)

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")


def _ours(*names: str) -> tuple[Key, ...]:
    return tuple(Key(name, Fate.OURS) for name in names)


def _read(*names: str) -> tuple[Key, ...]:
    return tuple(Key(name, Fate.READ) for name in names)


def _switches(*names: str) -> tuple[Key, ...]:
    return tuple(Key(name, Fate.READ, is_switch=True) for name in names)


def _in_files(*names: str) -> tuple[Key, ...]:
    return tuple(Key(name, Fate.READ, in_files_only=True) for name in names)


def _noted(note: str, *names: str, is_switch: bool = False, in_files_only: bool = False) -> tuple[Key, ...]:
    return tuple(Key(name, Fate.NOTED, note, is_switch=is_switch, in_files_only=in_files_only) for name in names)


def _on_both(*names: str) -> tuple[Key, ...]:
    return tuple(Key(name, Fate.READ, on=BOTH) for name in names)


BOTH = ("profile", "report")
_DOCKER = "no container is started: the server runs on this machine"
_CLIENT = "the load generator is perf-client, which is part of this program"
_LOADS = "the load of each configuration is searched within its bounds, and that ends by itself"
_TRIALS = "the search ends when more points can't change the answer, and not before; limit it by --max-points"

KEYS: tuple[Key, ...] = (
    # files
    Key("config_file", Fate.OURS, short="-f", on=BOTH),
    Key("checkpoint_directory", Fate.READ, "the run folders go there", short="-s", on=BOTH),
    Key("export_path", Fate.READ, short="-e", on=BOTH),
    Key("model_repository", Fate.OURS, short="-m"),
    Key("output_model_repository_path", Fate.READ),
    Key("override_output_model_repository", Fate.READ, is_switch=True),
    # models and loads
    *_ours("profile_models"),
    *_read("bls_composing_models", "ensemble_composing_models", "cpu_only_composing_models"),
    Key("batch_sizes", Fate.OURS, short="-b"),
    Key("concurrency", Fate.OURS, short="-c"),
    *_ours("request_rate"),
    *_switches("request_rate_search_enable"),
    # for all models, or in a model's block
    *_in_files("cpu_only", "parameters", "objectives", "constraints", "weighting", "model_config_parameters"),
    *_in_files("perf_analyzer_flags", "triton_server_flags", "triton_server_environment"),
    *_noted("language models are not profiled yet", "genai_perf_flags", in_files_only=True),
    *_noted(_DOCKER, "triton_docker_args", in_files_only=True),
    # search
    *_read("run_config_search_mode"),
    *_switches("run_config_search_disable"),
    *_noted(_LOADS, "early_exit_enable", "concurrency_sweep_disable", is_switch=True),
    *_noted(_LOADS, "run_config_search_max_binary_search_steps"),
    *_read("run_config_search_min_concurrency", "run_config_search_max_concurrency"),
    *_read("run_config_search_min_request_rate", "run_config_search_max_request_rate"),
    *_read("run_config_search_min_instance_count", "run_config_search_max_instance_count"),
    *_read("run_config_search_min_model_batch_size", "run_config_search_max_model_batch_size"),
    *_switches("run_config_profile_models_concurrently_enable"),
    Key("reload_model_disable", Fate.OURS, is_switch=True),
    *_read("max_percentage_of_search_space", "optuna_max_trials"),
    *_noted(_TRIALS, "min_percentage_of_search_space", "optuna_min_trials", "optuna_early_exit_threshold"),
    *_noted(_LOADS, "use_concurrency_formula", is_switch=True),
    Key(
        "run_config_search_preferred_batch_size_disable",
        Fate.NOTED,
        "preferred batch sizes are tried only where they are given",
    ),
    # ranking
    Key("latency_budget", Fate.OURS, on=BOTH),
    Key("min_throughput", Fate.OURS, on=BOTH),
    *_read("num_configs_per_model"),
    Key("num_top_model_configs", Fate.OURS, on=BOTH),
    # measuring
    Key("monitoring_interval", Fate.READ, short="-i"),
    Key("duration_seconds", Fate.READ, "how long the GPU is watched before a model is loaded", short="-d"),
    *_switches("collect_cpu_metrics"),
    *_read("gpus"),
    Key("always_report_gpu_metrics", Fate.READ, is_switch=True, on=BOTH),
    *_noted("DCGM is not used", "dcgm_disable", is_switch=True),
    *_read("client_protocol"),
    Key("client_max_retries", Fate.NOTED, "what is waited for is readiness, up to two minutes", short="-r"),
    # the load generator
    *_noted(_CLIENT, "perf_analyzer_path", "perf_analyzer_cpu_util", "perf_output_path"),
    *_noted(_CLIENT, "perf_output", is_switch=True),
    *_noted("a point has a set length, so it can't run on", "perf_analyzer_timeout"),
    *_noted("warm-up is found in the data, and unsteady points are told", "perf_analyzer_max_auto_adjusts"),
    # the server
    *_ours("triton_launch_mode", "triton_http_endpoint", "triton_grpc_endpoint", "triton_metrics_url"),
    *_ours("triton_server_path"),
    *_noted("a server's last words are kept with the point that failed", "triton_output_path"),
    *_noted(_DOCKER, "triton_docker_image", "triton_docker_mounts", "triton_docker_shm_size"),
    *_noted(_DOCKER, "triton_docker_labels", in_files_only=True),
    *_noted("the library is not loaded in process", "triton_install_path"),
    # what is written
    *_on_both("filename_model_inference", "filename_model_gpu", "filename_server_only"),
    *_on_both("inference_output_fields", "gpu_output_fields", "server_output_fields"),
    *_switches("skip_summary_reports", "skip_detailed_reports"),
    *_read("model_type"),
    Key("report_model_configs", Fate.READ, short="-n", on=("report",)),
    Key("plots", Fate.NOTED, "the report has plots of its own", in_files_only=True),
    Key("output_formats", Fate.READ, "of HTML and PDF, those that are named", on=("report",)),
    # older versions
    Key("analysis_models", Fate.READ, on=("report",)),
)

BY_NAME = {key.name: key for key in KEYS}

BLOCK_KEYS = (
    "cpu_only", "parameters", "objectives", "constraints", "weighting", "model_config_parameters",
    "perf_analyzer_flags", "genai_perf_flags", "triton_server_flags", "triton_server_environment", "triton_docker_args",
)  # fmt: skip
"""What may stand in the block of one model."""

PARAMETERS = ("batch_sizes", "concurrency", "request_rate")
"""What may stand under ``parameters``."""

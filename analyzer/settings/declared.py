"""Every option once: name, type, default and help. Flags, settings file and help text are made from this one place."""

from collections.abc import Iterator
from typing import Annotated

from msgspec import field

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.space import LoadRange
from analyzer.settings.options import Settings, option
from analyzer.settings.values import (
    at_least,
    budget_list,
    choice,
    choices,
    megabytes,
    milliseconds,
    number,
    objective_list,
    positive,
    range_of,
    seconds,
    shape_map,
    switches,
    text,
    texts,
    whole,
    wholes,
)

_FORMATS = ("html", "pdf", "csv", "json")
_ALL_FORMATS = (*_FORMATS, "model-analyzer")
"""``model-analyzer``: the three CSV tables that Triton Model Analyzer writes."""


class WantedSettings(Settings, frozen=True):
    """What is wanted and what is allowed; the same for a new run and for a new look at an old one."""

    latency_budget_ms: Annotated[
        float | None,
        option(
            positive(milliseconds),
            "Upper limit of the p99 latency.",
            "20ms",
            key="latency_budget",
            section="What is wanted",
        ),
    ] = None
    min_throughput_per_s: Annotated[
        float | None, option(positive(number), "Least inferences per second.", "N", key="min_throughput")
    ] = None
    gpu_memory_budget_mb: Annotated[
        float | None,
        option(positive(megabytes), "Upper limit of the GPU memory in use.", "4GB", key="gpu_memory_budget"),
    ] = None
    server_memory_budget_mb: Annotated[
        float | None,
        option(positive(megabytes), "Upper limit of the server's memory.", "2GB", key="server_memory_budget"),
    ] = None
    constraints: Annotated[
        tuple[Budget, ...],
        option(
            budget_list,
            "A limit on any metric, such as 'p99_latency_ms<=20'. May be repeated.",
            "METRIC<=N",
            key="constraint",
            repeated=True,
        ),
    ] = ()
    objectives: Annotated[
        tuple[Objective, ...],
        option(
            objective_list,
            "Metrics to optimize, with weights: throughput or throughput:2,server_memory_mb:1.",
            "METRIC",
        ),
    ] = (Objective(metric="throughput"),)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """All limits. Unless something is said of ``failure_ratio``, no request may fail: a fast error is no answer."""
        named = (
            ("p99_latency_ms", self.latency_budget_ms, True),
            ("throughput", self.min_throughput_per_s, False),
            ("gpu_memory_mb", self.gpu_memory_budget_mb, True),
            ("server_memory_mb", self.server_memory_budget_mb, True),
        )
        short = [
            Budget(metric=metric, limit=limit, at_most=at_most) for metric, limit, at_most in named if limit is not None
        ]
        given = (*short, *self.constraints)
        if any(budget.metric == "failure_ratio" for budget in given):
            return given
        return (*given, Budget(metric="failure_ratio", limit=0.0))


class ProfileSettings(WantedSettings, frozen=True, kw_only=True):
    """All of ``analyzer profile``."""

    model_repository: Annotated[
        str, option(text, "Folder of models in Triton's layout.", "DIR", short="-m", section="What is profiled")
    ]
    profile_models: Annotated[tuple[str, ...], option(texts, "Name of the model to profile.", "NAME")]
    run: Annotated[str | None, option(text, "Folder of this run; taken up again if it exists.  [runs/NAME]", "DIR")] = (
        None
    )

    instance_counts: Annotated[
        tuple[int, ...], option(wholes(1), "Instance counts to try: 1,2,4 or 1:4.", "LIST", section="What is tried")
    ] = ()
    max_batch_sizes: Annotated[
        tuple[int, ...], option(wholes(1), "max_batch_size values to try: 1,8,32 or 1:32.", "LIST")
    ] = ()
    dynamic_batching: Annotated[
        tuple[bool, ...], option(switches, "Dynamic batching on, off or both: true,false.", "LIST")
    ] = ()
    queue_delays_us: Annotated[
        tuple[int, ...], option(wholes(0), "max_queue_delay_microseconds values to try.", "LIST")
    ] = ()
    batch_sizes: Annotated[
        tuple[int, ...], option(wholes(1), "Batch sizes of the client's requests.", "LIST", short="-b")
    ] = (1,)
    concurrency: Annotated[
        tuple[float, float] | None,
        option(range_of(whole, 1), "Requests kept in flight, closed loop.  [1:256]", "LOW:HIGH", short="-c"),
    ] = None
    request_rate: Annotated[
        tuple[float, float] | None,
        option(range_of(number, 0.001), "Requests per second, open loop, instead of --concurrency.", "LOW:HIGH"),
    ] = None
    arrival: Annotated[str, option(choice("poisson", "constant"), "Arrivals of the open loop.", "NAME")] = "poisson"
    protocol: Annotated[str, option(choice("http", "grpc"), "How requests are sent.", "NAME", short="-i")] = "http"
    input_data: Annotated[
        str | None,
        option(text, "random, zero, a JSON file or a folder.  [the model's input_data.json, else random]", "DATA"),
    ] = None
    shapes: Annotated[
        dict[str, tuple[int, ...]],
        option(
            shape_map,
            "Sizes of an input of variable shape. May be repeated.",
            "NAME:3,4",
            key="shape",
            repeated=True,
        ),
    ] = field(default_factory=dict)

    search: Annotated[
        str,
        option(
            choice("capacity", "brute"),
            "How the space is searched: capacity or brute.",
            "NAME",
            section="How it is measured",
        ),
    ] = "capacity"
    time_limit_s: Annotated[
        float | None, option(positive(seconds), "Give the best answer within this time.", "10m", key="time_limit")
    ] = None
    duration_s: Annotated[
        float, option(positive(seconds), "How long a leading point is measured.", "5s", key="duration")
    ] = 5.0
    screen_duration_s: Annotated[
        float, option(positive(seconds), "How long a point is measured at first.", "2s", key="screen_duration")
    ] = 2.0
    warmup_s: Annotated[
        float | None, option(at_least(0, seconds), "Cut from the front.  [found by MSER-5]", "1s", key="warmup")
    ] = None
    server_warmup_s: Annotated[
        float,
        option(at_least(0, seconds), "Load on a fresh server before anything counts.", "1s", key="server_warmup"),
    ] = 0.5
    timeout_s: Annotated[
        float, option(positive(seconds), "A request without an answer by then failed.", "30s", key="timeout")
    ] = 30.0
    sample_interval_s: Annotated[
        float, option(positive(seconds), "Between samples of host and GPU.", "100ms", key="sample_interval")
    ] = 0.1
    seed: Annotated[int, option(at_least(0, whole), "Seed of arrivals and random inputs.", "N")] = 0
    formats: Annotated[
        tuple[str, ...],
        option(
            choices(*_ALL_FORMATS),
            "Reports to write: html,pdf,csv,json,model-analyzer.",
            "LIST",
            section="What is written",
        ),
    ] = _FORMATS

    @property
    def load_range(self) -> LoadRange:
        if self.request_rate is not None:
            return LoadRange(kind="request_rate", minimum=self.request_rate[0], maximum=self.request_rate[1])
        low, high = self.concurrency or (1, 256)
        return LoadRange(kind="concurrency", minimum=low, maximum=high)

    def complaints(self) -> Iterator[str]:
        """What does not fit together, a sentence each."""
        if self.request_rate is not None and self.concurrency is not None:
            yield "--concurrency and --request-rate exclude each other: give one of them"
        if len(self.profile_models) != 1:
            yield "--profile-models takes one model: profile several in one run each"


class ReportSettings(WantedSettings, frozen=True):
    """All of ``analyzer report``. A limit or objective given here replaces those of the run."""

    output: Annotated[
        str | None,
        option(text, "Folder to write into.  [that of RUN]", "DIR", short="-o", section="What is written"),
    ] = None
    formats: Annotated[
        tuple[str, ...],
        option(choices(*_ALL_FORMATS), "Reports to write: html,pdf,csv,json,model-analyzer.", "LIST"),
    ] = _FORMATS

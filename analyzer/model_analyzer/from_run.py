"""A run of ours as Model Analyzer would have kept it, so that its tables can be made of it.

Variants are named as it names them: the unchanged model ``_config_default``, the others by number as they were met.
Repeats of a point stand as one; a point that failed has no row, as with Model Analyzer.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from google.protobuf import json_format, text_format

from analyzer.config_fields import apply_edits
from analyzer.domain.measurement import GpuUsage, Measurement, Outcome
from analyzer.domain.metrics import METRICS
from analyzer.domain.model import ModelSpec
from analyzer.domain.ranking import Ranking
from analyzer.domain.record import Record
from analyzer.domain.run import ModelVariant, ServerConfig
from analyzer.model_analyzer.order import Satisfies
from analyzer.model_analyzer.records import Checkpoint, Configuration, Figures, ModelPoint, Point, Variant
from analyzer.model_analyzer.tags import TAGS
from perf_client.profile import Concurrency, LoadResult, RequestRate, ServerTimes

Specs = Mapping[str, ModelSpec]

SERVER_ONLY = "server_only_gpus"
"""Where the environment record of a run has the devices' figures from before a model was loaded, if they were taken."""


def server_only(environment: Mapping[str, Any]) -> tuple[GpuUsage, ...]:
    return msgspec.convert(environment.get(SERVER_ONLY, []), tuple[GpuUsage, ...])


def as_checkpoint(
    outcomes: Iterable[Outcome], ranking: Ranking, specs: Specs, idle: Iterable[GpuUsage] = ()
) -> tuple[Checkpoint, Satisfies, dict[str, float]]:
    """The points, which of them are within the budgets, and the weights of the objectives by tag.

    ``outcomes`` give the variants their numbers; ``idle`` is of the devices before a model was loaded.
    """
    outcomes = list(outcomes)
    named = named_variants(outcomes)
    configurations = [_configuration(key, names, ranking.points, specs) for key, names in named.items()]
    out = [miss.measurement for miss in ranking.misses] + [left.measurement for left in ranking.excluded]
    outside = {measurement.config.key for measurement in out}

    def satisfies(_configuration: Configuration, point: Point) -> bool:
        return point.key not in outside

    weights = {TAGS[objective.metric]: objective.weight for objective in ranking.objectives if objective.metric in TAGS}
    return (
        Checkpoint(
            configurations=tuple(c for c in configurations if c.points),
            server_only={gpu.uuid: _gpu(gpu) for gpu in idle},
            gpus={},
        ),
        satisfies,
        weights,
    )


class NamedVariants(Record, frozen=True):
    """A server configuration: each driven model with its variant's name, and those that they call with theirs."""

    server: ServerConfig
    driven: tuple[tuple[str, ModelVariant], ...]
    called: tuple[tuple[str, ModelVariant], ...]

    @property
    def name(self) -> str:
        return ",".join(name for name, _ in self.driven)


def named_variants(outcomes: Iterable[Outcome]) -> dict[str, NamedVariants]:
    """By the key of the server configuration, in the order measured.

    A model that calls others is another variant whenever one of theirs is.
    """
    found: dict[str, NamedVariants] = {}
    names: dict[tuple[ModelVariant, ...], str] = {}
    counts: dict[str, int] = {}

    def name_of(variant: ModelVariant, *called: ModelVariant) -> str:
        identity = (variant, *called)
        if identity not in names:
            is_default = all(part.is_default for part in identity)
            number = counts.get(variant.model, 0)
            names[identity] = f"{variant.model}_config_{'default' if is_default else number}"
            counts[variant.model] = number + (not is_default)
        return names[identity]

    for config in (outcome.config for outcome in outcomes):
        loaded = {load.model for load in config.loads}
        called = [variant for variant in config.server.variants if variant.model not in loaded]
        driven = [variant for variant in config.server.variants if variant.model in loaded]
        if config.server.key not in found:
            found[config.server.key] = NamedVariants(
                config.server,
                tuple((name_of(variant, *called), variant) for variant in driven),
                tuple((name_of(variant), variant) for variant in called),
            )
    return found


def _configuration(key: str, names: NamedVariants, points: Iterable[Measurement], specs: Specs) -> Configuration:
    own = [measurement for measurement in points if measurement.config.server.key == key]

    def records(named: Iterable[tuple[str, ModelVariant]]) -> tuple[Variant, ...]:
        return tuple(
            Variant(model=variant.model, name=name, config=_config(variant, specs.get(variant.model)))
            for name, variant in named
        )

    return Configuration(
        model=",".join(variant.model for _, variant in names.driven),
        name=names.name,
        protocol=own[0].config.load.protocol if own else "",
        variants=records(names.driven),
        composing=records(names.called),
        points=tuple(_point(measurement, [variant.model for _, variant in names.driven]) for measurement in own),
    )


def _config(variant: ModelVariant, spec: ModelSpec | None) -> dict[str, Any]:
    """The model's configuration with the settings that the tables show."""
    config: dict[str, Any] = {}
    if spec is not None:
        from tritonclient.grpc.model_config_pb2 import ModelConfig

        message = text_format.Parse(spec.config_text, ModelConfig())
        config = json_format.MessageToDict(message, preserving_proto_field_name=True)
    if variant.max_batch_size is not None:
        config["max_batch_size"] = variant.max_batch_size
    if variant.instance_count is not None:
        first = dict((config.get("instance_group") or [{}])[0])
        config["instance_group"] = [first | {"count": variant.instance_count}]
    if variant.edits:
        config = _edited(config, variant)
    return config


def _edited(config: dict[str, Any], variant: ModelVariant) -> dict[str, Any]:
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    message = json_format.ParseDict(config, ModelConfig())
    apply_edits(message, variant.edits)
    edited: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return edited


def _point(measurement: Measurement, models: Iterable[str]) -> Point:
    """The parts in the order of the models' names."""
    loads = {load.profile.model: load for load in measurement.loads}
    parts = tuple(_part(measurement, loads[model]) for model in models if model in loads)
    return Point(key=measurement.config.key, models=parts, gpus={gpu.uuid: _gpu(gpu) for gpu in measurement.gpus})


def _part(measurement: Measurement, result: LoadResult) -> ModelPoint:
    profile = result.profile
    return ModelPoint(
        batch_size=profile.batch_size,
        concurrency=profile.load.in_flight if isinstance(profile.load, Concurrency) else None,
        request_rate=profile.load.per_second if isinstance(profile.load, RequestRate) else None,
        figures=_figures(measurement, result),
    )


def _figures(measurement: Measurement, result: LoadResult) -> Figures:
    found: Figures = {}
    for metric in ("throughput", "mean_latency_ms", "p90_latency_ms", "p95_latency_ms", "p99_latency_ms"):
        of_load = METRICS[metric].of_load
        estimate = None if of_load is None else of_load(result)
        if estimate is not None:
            found[TAGS[metric]] = estimate.value
    if result.server and result.server[0].success_count:
        found |= _server_figures(result.server[0])
    if measurement.host is not None:
        found["cpu_used_ram"] = measurement.host.memory_peak_bytes / 1e6
    return found


def _server_figures(times: ServerTimes) -> Figures:
    """Milliseconds of a mean request."""
    sums = {
        "perf_server_queue": times.queue_ns,
        "perf_server_compute_infer": times.compute_infer_ns,
        "perf_server_compute_input": times.compute_input_ns,
        "perf_server_compute_output": times.compute_output_ns,
    }
    return {tag: total_ns / times.success_count / 1e6 for tag, total_ns in sums.items()}


def _gpu(gpu: GpuUsage) -> Figures:
    figures = {
        "gpu_used_memory": None if gpu.memory_peak_bytes is None else gpu.memory_peak_bytes / 1e6,
        "gpu_utilization": None if gpu.utilization_mean_ratio is None else 100 * gpu.utilization_mean_ratio,
        "gpu_power_usage": gpu.power_mean_w,
    }
    return {tag: value for tag, value in figures.items() if value is not None}

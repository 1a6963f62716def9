"""A run of ours as Model Analyzer would have kept it, so that its tables can be made of it.

Variants are named as it names them: the unchanged model ``_config_default``, the others by number as they were met.
Repeats of a point stand as one; a point that failed has no row, as with Model Analyzer.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf import json_format, text_format

from analyzer.domain.measurement import GpuUsage, Measurement, Outcome
from analyzer.domain.metrics import METRICS
from analyzer.domain.model import ModelSpec
from analyzer.domain.ranking import Ranking
from analyzer.domain.run import ModelVariant, ServerConfig
from analyzer.model_analyzer.order import Satisfies
from analyzer.model_analyzer.records import Checkpoint, Configuration, Figures, ModelPoint, Point, Variant
from analyzer.model_analyzer.tags import TAGS
from perf_client.profile import Concurrency, RequestRate, ServerTimes

Specs = Mapping[str, ModelSpec]


def as_checkpoint(
    outcomes: Iterable[Outcome], ranking: Ranking, specs: Specs
) -> tuple[Checkpoint, Satisfies, dict[str, float]]:
    """The points, which of them are within the budgets, and the weights of the objectives by tag.

    ``outcomes`` give the variants their numbers.
    """
    servers = {outcome.config.server.key: outcome.config.server for outcome in outcomes}
    names = _names(servers.values())
    configurations = [_configuration(server, ranking.points, names, specs) for server in servers.values()]
    out = [miss.measurement for miss in ranking.misses] + [left.measurement for left in ranking.excluded]
    outside = {measurement.config.key for measurement in out}

    def satisfies(_configuration: Configuration, point: Point) -> bool:
        return point.key not in outside

    weights = {TAGS[objective.metric]: objective.weight for objective in ranking.objectives if objective.metric in TAGS}
    return (
        Checkpoint(configurations=tuple(c for c in configurations if c.points), server_only={}, gpus={}),
        satisfies,
        weights,
    )


def _names(servers: Iterable[ServerConfig]) -> dict[ModelVariant, str]:
    found: dict[ModelVariant, str] = {}
    counts: dict[str, int] = {}
    for variant in (variant for server in servers for variant in server.variants):
        if variant in found:
            continue
        number = counts.get(variant.model, 0)
        found[variant] = f"{variant.model}_config_{'default' if variant.is_default else number}"
        counts[variant.model] = number + (not variant.is_default)
    return found


def _configuration(
    server: ServerConfig, points: Iterable[Measurement], names: Mapping[ModelVariant, str], specs: Specs
) -> Configuration:
    own = [measurement for measurement in points if measurement.config.server.key == server.key]
    return Configuration(
        model=own[0].config.load.model if own else "",
        name=",".join(names[variant] for variant in server.variants),
        protocol=own[0].config.load.protocol if own else "",
        variants=tuple(
            Variant(model=variant.model, name=names[variant], config=_config(variant, specs.get(variant.model)))
            for variant in server.variants
        ),
        composing=(),
        points=tuple(_point(measurement) for measurement in own),
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
    return config


def _point(measurement: Measurement) -> Point:
    profile = measurement.config.load
    part = ModelPoint(
        batch_size=profile.batch_size,
        concurrency=profile.load.in_flight if isinstance(profile.load, Concurrency) else None,
        request_rate=profile.load.per_second if isinstance(profile.load, RequestRate) else None,
        figures=_figures(measurement),
    )
    return Point(key=measurement.config.key, models=(part,), gpus={gpu.uuid: _gpu(gpu) for gpu in measurement.gpus})


def _figures(measurement: Measurement) -> Figures:
    found: Figures = {}
    for metric in ("throughput", "mean_latency_ms", "p90_latency_ms", "p95_latency_ms", "p99_latency_ms"):
        estimate = METRICS[metric].read(measurement)
        if estimate is not None:
            found[TAGS[metric]] = estimate.value
    if measurement.load.server and measurement.load.server[0].success_count:
        found |= _server_figures(measurement.load.server[0])
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

"""A run folder to what the rules say of each of its points: the timeline, the figures and what was served, together."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.domain.finding import Diagnosis
from analyzer.domain.measurement import GpuUsage, Measurement
from analyzer.domain.model import ModelSpec
from analyzer.domain.run import ModelVariant, ServerConfig
from analyzer.domain.thresholds import Thresholds
from analyzer.errors import InputError
from analyzer.store import RunFolder
from analyzer.timeline import archive, window
from analyzer.timeline.rules.case import Alone, Case, DeviceWatch, ModelFacts
from analyzer.timeline.rules.diagnose import diagnose
from analyzer.timeline.table import Timeline

ConfigText = Callable[[ServerConfig, str], str]


def timeline_of(run: RunFolder, measurement: Measurement) -> Timeline | None:
    """The counted part of what was collected at a point; None where there is nothing, or it can't be read."""
    path = run.timeline_path(measurement.config)
    if not path.is_file():
        return None
    try:
        whole = archive.load(path)
    except InputError:
        return None
    load = measurement.load
    offset = next((anchor.offset_ns for anchor in whole.anchors if anchor.clock == "monotonic"), 0)
    counted_ns = (load.start_ns + load.counted_from_ns, load.start_ns + load.counted_to_ns)
    from_ns, to_ns = measurement.captured_ns or counted_ns
    counted = window.within(whole, from_ns - offset, to_ns - offset)
    return counted if len(counted) else None


def diagnoses(
    run: RunFolder, points: Sequence[Measurement], every: Sequence[Measurement], limits: Thresholds
) -> dict[str, Diagnosis]:
    """By the points' keys. ``every`` measurement of the run may tell how a model runs with one instance alone."""
    specs = {spec.name: spec for spec in run.header.model_specs}
    alone = _alone(every, specs, run.config_text)
    return {
        point.config.key: diagnose(_case(point, timeline_of(run, point), specs, run.config_text, alone), limits)
        for point in points
    }


def diagnosis(
    run: RunFolder, point: Measurement, every: Sequence[Measurement], timeline: Timeline, limits: Thresholds
) -> Diagnosis:
    """Of one point, by this timeline: a part of its own, or what another profiler saw of it."""
    specs = {spec.name: spec for spec in run.header.model_specs}
    alone = _alone(every, specs, run.config_text)
    return diagnose(_case(point, timeline, specs, run.config_text, alone), limits)


def _case(
    point: Measurement,
    timeline: Timeline | None,
    specs: Mapping[str, ModelSpec],
    config_text: ConfigText,
    alone: Mapping[str, tuple[Alone, ...]],
) -> Case:
    return Case(
        timeline=timeline,
        models=facts_of(point.config.server, specs, config_text),
        measurement=point,
        devices=tuple(map(_watch, point.gpus)),
        alone=alone,
    )


def facts_of(server: ServerConfig, specs: Mapping[str, ModelSpec], config_text: ConfigText) -> dict[str, ModelFacts]:
    """How each model of a server is served: as its ``config.pbtxt`` says, or else as far as the run knows."""
    variants = {variant.model: variant for variant in server.variants}
    return {
        name: replace(
            _from_text(config_text(server, name)) or _from_spec(spec, variants.get(name)), backend=spec.backend
        )
        for name, spec in specs.items()
        if not spec.composing
    }


def _from_text(text: str) -> ModelFacts | None:
    if not text.strip():
        return None
    try:
        config = text_format.Parse(text, ModelConfig(), allow_unknown_field=True)
    except (text_format.ParseError, ValueError):
        return None
    batcher = config.dynamic_batching
    groups = [max(1, group.count) * max(1, len(group.gpus)) for group in config.instance_group]
    return ModelFacts(
        instance_count=sum(groups) or 1,
        max_batch_size=config.max_batch_size or 1,
        dynamic_batching=config.HasField("dynamic_batching"),
        preferred_batch_sizes=tuple(batcher.preferred_batch_size),
        queue_delay_us=batcher.max_queue_delay_microseconds,
    )


def _from_spec(spec: ModelSpec, variant: ModelVariant | None) -> ModelFacts:
    changed = variant or ModelVariant(model=spec.name)
    batching = changed.dynamic_batching
    return ModelFacts(
        instance_count=changed.instance_count or spec.instance_count,
        max_batch_size=spec.max_batch_size if changed.max_batch_size is None else changed.max_batch_size,
        dynamic_batching=spec.dynamic_batching if batching is None else batching,
        preferred_batch_sizes=changed.preferred_batch_sizes or (),
        queue_delay_us=changed.queue_delay_us,
    )


def _alone(
    every: Iterable[Measurement], specs: Mapping[str, ModelSpec], config_text: ConfigText
) -> dict[str, tuple[Alone, ...]]:
    found: dict[str, list[Alone]] = {}
    for measurement in every:
        facts = facts_of(measurement.config.server, specs, config_text)
        if sum(each.instance_count or 1 for each in facts.values()) > len(facts):
            continue  # others with several instances would be at work beside it
        for times in measurement.load.server:
            if times.model in facts and times.execution_count and times.success_count:
                took = times.compute_input_ns + times.compute_infer_ns + times.compute_output_ns
                alone = Alone(times.inference_count / times.execution_count, took / times.success_count / 1e6)
                found.setdefault(times.model, []).append(alone)
    return {model: tuple(each) for model, each in found.items()}


def _watch(gpu: GpuUsage) -> DeviceWatch:
    used, own = gpu.memory_peak_bytes, gpu.server_memory_peak_bytes
    return DeviceWatch(
        name=gpu.name,
        utilization_ratio=gpu.utilization_mean_ratio,
        sm_ratio=gpu.sm_ratio,
        tensor_ratio=gpu.tensor_ratio,
        throttled_ratio=gpu.throttled_ratio,
        memory_used_ratio=used / gpu.memory_total_bytes if used is not None and gpu.memory_total_bytes else None,
        other_memory_bytes=None if used is None or own is None else max(0, used - own),
        other_process_count=len(gpu.foreign_pids) or None,
        is_too_short=gpu.window_too_short,
    )

"""A model folder to servables: read the configuration, complete it from the model's files, make the instances."""

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path

from tritonclient.grpc import model_config_pb2

from analyzer.runtime import devices
from analyzer.runtime.backends.base import Backend, ModelFiles, make_backend
from analyzer.runtime.backends.python_calls import Calls
from analyzer.runtime.batcher import BatchPolicy
from analyzer.runtime.config_check import ignored_fields, validate
from analyzer.runtime.crews import start_crew, start_crews
from analyzer.runtime.ensemble import Ensemble
from analyzer.runtime.ensemble_steps import Lookup, check_steps, read_steps
from analyzer.runtime.footprint import footprint
from analyzer.runtime.instance_groups import complete_groups
from analyzer.runtime.model_config import CONFIG_NAME, read_config, read_labels, served_versions
from analyzer.runtime.overlay import Overlay
from analyzer.runtime.policy_queue import QueuePolicies, QueuePolicy
from analyzer.runtime.rate_limiter import RateLimiter
from analyzer.runtime.repository_diff import Footprint
from analyzer.runtime.response_cache import CachedModel, ResponseCache
from analyzer.runtime.scheduler import Queueing, ScheduledModel
from analyzer.runtime.seats import DirectPolicy
from analyzer.runtime.sequence_tensors import read_sequence_tensors
from analyzer.runtime.sequences import SequenceModel, SequencePolicy
from analyzer.runtime.servable import Servable
from analyzer.runtime.signature import make_signature
from analyzer.runtime.spans import Spans
from analyzer.runtime.statistics import FIRST_RESPONSE_BOUNDS_NS, Histogram, Statistics

_SEQUENCE_IDLE_US = 1_000_000
"""How long a sequence may be idle where its model's configuration doesn't say; Triton's default."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The versions of a model that are served, by number, ascending, and the configuration they run with."""

    config: model_config_pb2.ModelConfig
    versions: dict[int, Servable] = field(default_factory=dict)
    overlay: Overlay | None = None
    files: Footprint = field(default_factory=dict)
    """Those that it was loaded from, apart from its configuration."""

    async def drain(self) -> None:
        for servable in self.versions.values():
            await servable.drain()

    async def close(self) -> None:
        await asyncio.gather(*(servable.close() for servable in self.versions.values()))
        if self.overlay is not None:
            await asyncio.to_thread(self.overlay.remove)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model as its files and its configuration describe it, before anything is started."""

    config: model_config_pb2.ModelConfig
    backend: Backend | None
    versions: tuple[ModelFiles, ...]
    overlay: Overlay | None = None
    files: Footprint = field(default_factory=dict)


def prepare(model_dir: Path, config_json: str | None = None, gpu_count: int | None = None) -> Prepared:
    """Reads, completes and validates a configuration; warns of what it sets in vain. Blocks. Raises ModelError.

    ``gpu_count`` are the GPUs that instances are spread over, by default those of this machine.
    """
    gpu_count = devices.gpu_count() if gpu_count is None else gpu_count
    found = {path: known for path, known in footprint(model_dir).items() if path != CONFIG_NAME}
    config = read_config(model_dir, config_json)
    ignored = ignored_fields(config)
    if ignored:
        log.warning("model '%s' sets %s, which this runtime ignores", config.name, ", ".join(ignored))
    folders = served_versions(model_dir, config)
    versions = tuple(ModelFiles(config.name, number, model_dir, path, config) for number, path in folders.items())
    backend = None
    if config.backend == "ensemble":
        validate(config)
        read_steps(config)
    else:
        backend = make_backend(config.backend)
        backend.complete(versions[-1])
        validate(config)
    if backend is not None:  # an ensemble has no instances
        complete_groups(config, backend, gpu_count)
    return Prepared(config, backend, versions, files=found)


def composing_models(config: model_config_pb2.ModelConfig) -> set[str]:
    """The models that an ensemble calls; empty for other models."""
    return {step.model_name for step in config.ensemble_scheduling.step}


async def build(
    prepared: Prepared,
    lookup: Lookup,
    loop: asyncio.AbstractEventLoop,
    cache: ResponseCache | None = None,
    limiter: RateLimiter | None = None,
    *,
    calls: Calls | None = None,
    spans: Spans | None = None,
) -> LoadedModel:
    """Starts every version. Raises ModelError; then nothing stays behind."""
    loaded = LoadedModel(prepared.config, overlay=prepared.overlay, files=prepared.files)
    try:
        for files in prepared.versions:
            servable = await _build_version(prepared, files, lookup, loop, limiter=limiter, calls=calls, spans=spans)
            if prepared.config.response_cache.enable and cache is not None:
                servable = CachedModel(servable, cache, loop)
            loaded.versions[files.version] = servable
    except BaseException:
        await loaded.close()
        raise
    return loaded


async def _build_version(
    prepared: Prepared,
    files: ModelFiles,
    lookup: Lookup,
    loop: asyncio.AbstractEventLoop,
    *,
    limiter: RateLimiter | None,
    calls: Calls | None,
    spans: Spans | None,
) -> Servable:
    signature = make_signature(files.config, await asyncio.to_thread(read_labels, files.model_dir, files.config))
    statistics = make_statistics(files)
    own_spans = None if spans is None else spans.model(files.name, str(files.version))
    if prepared.backend is None:
        steps = read_steps(files.config)
        check_steps(files.name, signature, steps, lookup)
        return Ensemble(signature, statistics, steps, lookup, loop, spans=own_spans)
    if files.config.HasField("sequence_batching"):
        tensors = await asyncio.to_thread(read_sequence_tensors, files.config, files.model_dir)
        crews = await start_crews(prepared.backend, files, loop, limiter, calls)
        sequence_policy = make_sequence_policy(files.config)
        return SequenceModel(signature, statistics, sequence_policy, tensors, crews=crews, loop=loop, spans=own_spans)
    crew = await start_crew(prepared.backend, files, loop, limiter, calls)
    decoupled = files.config.model_transaction_policy.decoupled
    policy, queueing = make_policy(files.config), make_queueing(files.config)
    return ScheduledModel(
        signature, statistics, policy, crew, loop, decoupled=decoupled, queueing=queueing, spans=own_spans
    )


def make_statistics(files: ModelFiles) -> Statistics:
    """With the labels, and the histogram of first responses, that a configuration asks for."""
    config = files.config
    statistics = Statistics(files.name, str(files.version), tuple(sorted(config.metric_tags.items())))
    if config.model_transaction_policy.decoupled:
        stated = [
            tuple(control.histogram_options.buckets)
            for control in config.model_metrics.metric_control
            if control.metric_identifier.family == "nv_inference_first_response_histogram_ms"
        ]
        bounds_ns = [bound_ms * 1_000_000 for bound_ms in stated[-1]] if stated else FIRST_RESPONSE_BOUNDS_NS
        statistics.first_responses = Histogram(bounds_ns)
    return statistics


def make_policy(config: model_config_pb2.ModelConfig) -> BatchPolicy:
    """The batching policy that a configuration states."""
    batching = config.dynamic_batching
    return BatchPolicy(
        max_batch_size=max(1, config.max_batch_size),
        dynamic=config.HasField("dynamic_batching"),
        preferred_sizes=tuple(sorted(set(batching.preferred_batch_size))),
        max_delay_ns=batching.max_queue_delay_microseconds * 1_000,
    )


def make_queueing(config: model_config_pb2.ModelConfig) -> Queueing:
    """Priority levels, a policy for each, and whether answers keep the order of their requests."""
    batching = config.dynamic_batching
    levels = max(1, batching.priority_levels)
    own = batching.priority_queue_policy
    policies = QueuePolicies(
        tuple(_queue_policy(own.get(level, batching.default_queue_policy)) for level in range(1, levels + 1)),
        batching.default_priority_level or 1,
    )
    return Queueing(None if policies.is_plain else policies, batching.preserve_ordering)


def _queue_policy(stated: model_config_pb2.ModelQueuePolicy) -> QueuePolicy:
    return QueuePolicy(
        timeout_ns=stated.default_timeout_microseconds * 1_000,
        may_override=stated.allow_timeout_override,
        delays=stated.timeout_action == model_config_pb2.ModelQueuePolicy.DELAY,
        max_size=stated.max_queue_size,
    )


def make_sequence_policy(config: model_config_pb2.ModelConfig) -> SequencePolicy:
    """The sequence batching policy that a configuration states; direct where it names no strategy."""
    batching, rows = config.sequence_batching, max(1, config.max_batch_size)
    idle_ns = (batching.max_sequence_idle_microseconds or _SEQUENCE_IDLE_US) * 1_000
    oldest = batching.oldest
    policy = BatchPolicy(
        max_batch_size=rows,
        dynamic=config.max_batch_size > 0,
        preferred_sizes=tuple(sorted(set(oldest.preferred_batch_size))),
        max_delay_ns=oldest.max_queue_delay_microseconds * 1_000,
    )
    if batching.HasField("oldest"):
        return SequencePolicy(max(1, oldest.max_candidate_sequences), idle_ns, None, policy)
    delay_ns = batching.direct.max_queue_delay_microseconds * 1_000
    return SequencePolicy(rows, idle_ns, DirectPolicy(rows, delay_ns, batching.direct.minimum_slot_utilization), policy)

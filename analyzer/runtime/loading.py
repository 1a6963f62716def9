"""A model folder to servables: read the configuration, complete it from the model's files, make the instances."""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tritonclient.grpc import model_config_pb2

from analyzer.runtime.backends.base import Backend, ModelError, ModelFiles, Placement, make_backend
from analyzer.runtime.batcher import BatchPolicy
from analyzer.runtime.config_check import ignored_fields, validate
from analyzer.runtime.ensemble import Ensemble, Lookup, check_steps, read_steps
from analyzer.runtime.instance import Crew, InlineCrew, ThreadCrew
from analyzer.runtime.model_config import read_config, read_labels, served_versions
from analyzer.runtime.scheduler import ScheduledModel
from analyzer.runtime.servable import Servable
from analyzer.runtime.signature import make_signature
from analyzer.runtime.statistics import Statistics

log = logging.getLogger(__name__)

_KINDS = {
    model_config_pb2.ModelInstanceGroup.KIND_CPU: "KIND_CPU",
    model_config_pb2.ModelInstanceGroup.KIND_GPU: "KIND_GPU",
    model_config_pb2.ModelInstanceGroup.KIND_MODEL: "KIND_CPU",
}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """The versions of a model that are served, by number, ascending, and the configuration they run with."""

    config: model_config_pb2.ModelConfig
    versions: dict[int, Servable] = field(default_factory=dict)

    async def drain(self) -> None:
        for servable in self.versions.values():
            await servable.drain()

    async def close(self) -> None:
        await asyncio.gather(*(servable.close() for servable in self.versions.values()))


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model as its files and its configuration describe it, before anything is started."""

    config: model_config_pb2.ModelConfig
    backend: Backend | None
    versions: tuple[ModelFiles, ...]


def prepare(model_dir: Path, config_json: str | None = None) -> Prepared:
    """Reads, completes and validates a configuration; warns of what it sets in vain. Blocks. Raises ModelError."""
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
    _complete_groups(config, backend)
    return Prepared(config, backend, versions)


def composing_models(config: model_config_pb2.ModelConfig) -> set[str]:
    """The models that an ensemble calls; empty for other models."""
    return {step.model_name for step in config.ensemble_scheduling.step}


async def build(prepared: Prepared, lookup: Lookup, loop: asyncio.AbstractEventLoop) -> LoadedModel:
    """Starts every version. Raises ModelError; then nothing stays behind."""
    loaded = LoadedModel(prepared.config)
    try:
        for files in prepared.versions:
            loaded.versions[files.version] = await _build_version(prepared, files, lookup, loop)
    except BaseException:
        await loaded.close()
        raise
    return loaded


async def _build_version(
    prepared: Prepared, files: ModelFiles, lookup: Lookup, loop: asyncio.AbstractEventLoop
) -> Servable:
    signature = make_signature(files.config, await asyncio.to_thread(read_labels, files.model_dir, files.config))
    statistics = Statistics(files.name, str(files.version))
    if prepared.backend is None:
        steps = read_steps(files.config)
        check_steps(files.name, signature, steps, lookup)
        return Ensemble(signature, statistics, steps, lookup, loop)
    crew = await _start_crew(prepared.backend, files, loop)
    decoupled = files.config.model_transaction_policy.decoupled
    return ScheduledModel(signature, statistics, make_policy(files.config), crew, loop, decoupled=decoupled)


async def _start_crew(backend: Backend, files: ModelFiles, loop: asyncio.AbstractEventLoop) -> Crew:
    wanted = list(placements(files))
    try:
        if backend.runs_inline(files):
            return InlineCrew(wanted[0].name, backend.load(files, wanted[0]))
        crew = ThreadCrew({item.name: partial(backend.load, files, item) for item in wanted}, loop)
        await crew.load()
        return crew
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f"model '{files.name}' failed to load: {type(error).__name__}: {error}") from error


def placements(files: ModelFiles) -> Iterable[Placement]:
    """One for each instance of the completed instance groups, named as Triton names them."""
    total = sum(group.count * max(1, len(group.gpus)) for group in files.config.instance_group)
    index = 0
    for group in files.config.instance_group:
        for device in group.gpus or (0,):
            for _ in range(group.count):
                yield Placement(f"{group.name}_{index}", index, total, _KINDS[group.kind], device)
                index += 1


def make_policy(config: model_config_pb2.ModelConfig) -> BatchPolicy:
    """The batching policy that a configuration states."""
    batching = config.dynamic_batching
    return BatchPolicy(
        max_batch_size=max(1, config.max_batch_size),
        dynamic=config.HasField("dynamic_batching"),
        preferred_sizes=tuple(sorted(set(batching.preferred_batch_size))),
        max_delay_ns=batching.max_queue_delay_microseconds * 1_000,
    )


def _complete_groups(config: model_config_pb2.ModelConfig, backend: Backend | None) -> None:
    """States name, kind and count of every instance group; an ensemble has none."""
    if backend is None:
        return
    if not config.instance_group:
        config.instance_group.add()
    auto = model_config_pb2.ModelInstanceGroup.KIND_AUTO
    for number, group in enumerate(config.instance_group):
        group.name = group.name or f"{config.name}_{number}"
        group.count = group.count or 1
        if group.kind == auto:
            kind = "KIND_GPU" if group.gpus else backend.default_kind()
            group.kind = model_config_pb2.ModelInstanceGroup.Kind.Value(kind)
        if group.kind != model_config_pb2.ModelInstanceGroup.KIND_GPU and group.gpus:
            raise ModelError(f"model '{config.name}' lists gpus in an instance_group that is not KIND_GPU")

"""Settings and a model repository to what a run needs: the models' specs, the space, the header and the planner."""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.collect.nvml import Nvml
from analyzer.domain.budget import Budget
from analyzer.domain.model import ModelSpec
from analyzer.domain.record import content_key
from analyzer.domain.space import ModelSpace, SearchSpace
from analyzer.errors import InputError, UsageError
from analyzer.launch import launch
from analyzer.repository import digest_of, model_folder, model_spec
from analyzer.search.make import make_planner
from analyzer.search.options import SearchOptions, base_variant
from analyzer.search.planner import Planner
from analyzer.settings.declared import ProfileSettings
from analyzer.store import RunFolder, RunHeader
from perf_client.profile import Concurrency, LoadProfile, RequestRate
from perf_client.version import __version__


def check_measurable(budgets: Iterable[Budget], gpus: Nvml) -> None:
    for budget in budgets:
        if budget.metric.startswith(("gpu_", "energy_")) and gpus.absent:
            raise UsageError(f"{budget} can't be checked here: {gpus.absent}; leave it out, or run where the GPU is")


def inspect(repository: Path, name: str) -> dict[str, ModelConfig]:
    """The complete configuration of the model and of those it calls, told by the runtime after it has loaded them."""
    model_folder(repository, name)
    with TemporaryDirectory(prefix="analyzer-") as scratch, launch(repository, [name], Path(scratch) / "log") as server:
        config = server.model_config(name)
        composing = dict.fromkeys(step.model_name for step in config.ensemble_scheduling.step)
        return {name: config} | {model: server.model_config(model) for model in composing}


def header_of(settings: ProfileSettings, command: str, configs: dict[str, ModelConfig], gpus: Nvml) -> RunHeader:
    """What the run is asked for, with everything that was left open filled in."""
    repository = Path(settings.model_repository)
    specs = tuple(model_spec(repository / name, config) for name, config in configs.items())
    space = search_space(settings, specs[0], has_gpu=bool(gpus.devices), cores=len(os.sched_getaffinity(0)))
    input_data = _input_data(settings, repository / specs[0].name)
    files = [Path(input_data)] if input_data not in ("random", "zero") else []
    return RunHeader(
        command=command,
        settings=_as_used(settings, space, input_data),
        model_specs=specs,
        space=space,
        objectives=settings.objectives,
        budgets=settings.budgets,
        content=content_key([spec.digest for spec in specs], digest_of(files)),
        tool_version=__version__,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _as_used(settings: ProfileSettings, space: SearchSpace, input_data: str) -> dict[str, Any]:
    """What was set or chosen; objectives and budgets stand in the header by themselves."""
    filled = msgspec.structs.replace(
        settings,
        input_data=input_data,
        instance_counts=space.models[0].instance_counts,
        max_batch_sizes=space.models[0].max_batch_sizes,
        dynamic_batching=space.models[0].dynamic_batching,
        queue_delays_us=space.models[0].queue_delays_us,
    )
    listed_apart = {"objectives", "constraints"}
    values: dict[str, Any] = msgspec.to_builtins(filled)
    return {name: value for name, value in values.items() if value not in (None, [], {}) and name not in listed_apart}


def _input_data(settings: ProfileSettings, folder: Path) -> str:
    beside = folder / "input_data.json"
    given = settings.input_data or (str(beside) if beside.is_file() else "random")
    if given not in ("random", "zero") and not Path(given).exists():
        raise InputError(f"input data {given} does not exist; give random, zero, a JSON file or a folder")
    return given


def search_space(settings: ProfileSettings, spec: ModelSpec, has_gpu: bool, cores: int) -> SearchSpace:
    """The axes asked for; where nothing was said, values around what serving such a model usually comes to."""
    batches = spec.max_batch_size > 0
    if not batches and (settings.max_batch_sizes or settings.dynamic_batching or settings.queue_delays_us):
        raise UsageError(
            f"{spec.name} does no batching (max_batch_size 0): leave --max-batch-sizes, --dynamic-batching and "
            "--queue-delays-us out"
        )
    instances = (1, 2, 4) if has_gpu else tuple(count for count in (1, 2, 4) if count <= cores)
    model = ModelSpace(
        model=spec.name,
        load=settings.load_range,
        instance_counts=settings.instance_counts or (() if spec.composing else instances),
        max_batch_sizes=settings.max_batch_sizes or ((4, 16, 64) if batches and not spec.composing else ()),
        dynamic_batching=settings.dynamic_batching or ((True,) if batches and not spec.composing else ()),
        queue_delays_us=settings.queue_delays_us or ((0, 500) if batches and not spec.composing else ()),
    )
    shapes = tuple(sorted(settings.shapes.items()))
    return SearchSpace(models=(model,), batch_sizes=settings.batch_sizes, shapes=(shapes,))


def open_run(path: Path, header: RunHeader, machine: dict[str, Any]) -> RunFolder:
    """A new folder, or the earlier one of the same machine. Figures of two machines are never mixed."""
    if RunFolder.exists(path):
        earlier = RunFolder.open(path).environment
        for fact in ("cpu", "cores", "gpus"):
            if earlier.get(fact) != machine[fact]:
                raise UsageError(
                    f"{path} was measured on another machine ({fact}: {earlier.get(fact)}, here: {machine[fact]}); "
                    "name another folder with --run"
                )
    return RunFolder.create(path, header, machine)


def planner_of(settings: ProfileSettings, header: RunHeader) -> Planner:
    load = (
        Concurrency(in_flight=1)
        if settings.request_rate is None
        else RequestRate(per_second=1.0, arrival="constant" if settings.arrival == "constant" else "poisson")
    )
    template = LoadProfile(
        model=header.model_specs[0].name,
        load=load,
        protocol="grpc" if settings.protocol == "grpc" else "http",
        input_data=str(header.settings["input_data"]),
        shapes=settings.shapes,
        warmup_s=settings.warmup_s,
        duration_s=settings.duration_s,
        timeout_s=settings.timeout_s,
        seed=settings.seed,
    )
    options = SearchOptions(
        bases=tuple(base_variant(spec) for spec in header.model_specs),
        screen_duration_s=min(settings.screen_duration_s, settings.duration_s),
        confirm_duration_s=settings.duration_s,
    )
    return make_planner(
        settings.search, header.space, settings.objectives, settings.budgets, template, header.content, options
    )

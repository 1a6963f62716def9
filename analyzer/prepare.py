"""Settings and a model repository to what a run needs: the models' specs, the space, the header and the planner."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import msgspec
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.collect import overhead
from analyzer.domain.effort import Effort
from analyzer.domain.model import ModelSpec
from analyzer.domain.record import content_key
from analyzer.domain.run import ModelVariant
from analyzer.domain.space import SearchSpace
from analyzer.errors import InputError, UsageError
from analyzer.launchers.server import Launcher
from analyzer.measurable import check_models, check_price
from analyzer.repository import digest_of, model_folder, model_spec
from analyzer.search import pace
from analyzer.search.candidates import doublings, roster
from analyzer.search.make import make_planner
from analyzer.search.options import SearchOptions, base_variant
from analyzer.search.planner import Planner
from analyzer.settings.declared import ProfileSettings
from analyzer.settings.wanted import WantedSettings
from analyzer.spaces import search_space, shape_choices
from analyzer.store import RunFolder, RunHeader
from perf_client.loads import VideoStreams
from perf_client.profile import Concurrency, Load, LoadProfile, RequestRate, SharedMemory
from perf_client.version import __version__

POINT_OVERHEAD_S = 0.2
"""What a point costs beyond its load: requests are made up, connections opened, figures summed up."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """Complete configurations by name, the profiled models first, and how long a server took to load them."""

    configs: dict[str, ModelConfig]
    server_start_s: float


def check_measurable(settings: WantedSettings, machine: Mapping[str, Any]) -> None:
    """Refuses what could not be told of any point, before an hour is spent on measuring."""
    named = {budget.metric: str(budget) for budget in settings.budgets}
    named |= {objective.metric: objective.figure for objective in settings.objectives}
    for metric, name in named.items():
        if metric.startswith(("gpu_", "energy_")) and (absent := machine["gpus_unmeasured"]):
            raise UsageError(f"{name} can't be checked here: {absent}; leave it out, or run where the GPU is")
    check_price(settings.objectives, settings.budgets, settings.price_per_hour)


def inspect(repository: Path | None, names: Sequence[str], launcher: Launcher) -> Inspection:
    """The complete configurations of the models and of those they call, told by the server once it has loaded them."""
    if repository is not None:
        for name in names:
            model_folder(repository, name)
    began_s = time.monotonic()
    with TemporaryDirectory(prefix="analyzer-") as scratch, launcher.as_it_is(names, Path(scratch) / "log") as server:
        start_s = time.monotonic() - began_s
        configs = {name: server.model_config(name) for name in names}
        for config in list(configs.values()):
            for model in dict.fromkeys(step.model_name for step in config.ensemble_scheduling.step):
                configs.setdefault(model, server.model_config(model))
        return Inspection(configs, start_s)


def header_of(settings: ProfileSettings, command: str, models: Inspection, machine: Mapping[str, Any]) -> RunHeader:
    """What the run is asked for, with everything that was left open filled in. ``machine`` is what it runs on."""
    repository = Path(settings.model_repository)
    if settings.reload_model_disable:
        settings = msgspec.structs.replace(settings, automatic_axes="none")
    specs = tuple(model_spec(repository / name, config) for name, config in models.configs.items())
    driven = specs[: len(settings.profile_models)]
    has_gpu = bool(machine["gpus"])
    space = search_space(settings, driven, specs[len(driven) :], has_gpu=has_gpu, cores=machine["cores"])
    check_models(settings.objectives, settings.budgets, settings.profile_models)
    _check_shapes(settings, driven)
    data = {spec.name: _input_data(settings, repository / spec.name) for spec in driven}
    files = [Path(each) for each in data_files(settings)]
    return RunHeader(
        command=command,
        settings=_as_used(settings, space, data[space.model]),
        model_specs=specs,
        space=space,
        objectives=settings.objectives,
        budgets=settings.budgets,
        content=content_key([spec.digest for spec in specs], digest_of(files)),
        tool_version=__version__,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _check_shapes(settings: ProfileSettings, driven: Sequence[ModelSpec]) -> None:
    inputs = {tensor.name for spec in driven for tensor in spec.inputs}
    unknown = sorted(settings.shapes.keys() - inputs)
    if unknown:
        raise UsageError(f"--shape names {unknown[0]}, which is no input here; those are: {', '.join(sorted(inputs))}")


def _as_used(settings: ProfileSettings, space: SearchSpace, input_data: str) -> dict[str, Any]:
    """What was set or chosen; objectives and budgets stand in the header by themselves, as does a space of several."""
    filled = msgspec.structs.replace(settings, input_data=input_data)
    if len(space.models) == 1:
        axes = ("instance_counts", "max_batch_sizes", "dynamic_batching", "queue_delays_us", "preferred_batch_sizes")
        filled = msgspec.structs.replace(filled, **{name: getattr(space.models[0], name) for name in axes})
    listed_apart = {"objectives", "constraints"}
    values: dict[str, Any] = msgspec.to_builtins(filled)
    return {name: value for name, value in values.items() if _says(value) and name not in listed_apart}


def _says(value: object) -> bool:
    return value is not None and value is not False and value not in ([], {}, ())


def _input_data(settings: ProfileSettings, folder: Path) -> str:
    beside = folder / "input_data.json"
    given = settings.input_data or (str(beside) if beside.is_file() else "random")
    if given not in ("random", "zero") and not Path(given).exists():
        raise InputError(f"input data {given} does not exist; give random, zero, a JSON file or a folder")
    if settings.together and given not in ("random", "zero", str(beside)):
        raise UsageError(
            "--input-data can't fit several models: put an input_data.json into the folder of each, or give random"
        )
    return given


def data_files(settings: ProfileSettings) -> list[str]:
    """Files and folders of input data, as profiles name them."""
    repository = Path(settings.model_repository)
    named = dict.fromkeys(_input_data(settings, repository / name) for name in settings.profile_models)
    return [each for each in named if each not in ("random", "zero")]


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


def planner_of(settings: ProfileSettings, header: RunHeader, server_start_s: float) -> Planner:
    specs = {spec.name: spec for spec in header.model_specs}
    first, *others = (_template(settings, specs[model.model], header.space) for model in header.space.driven)
    options = _options_of(settings, header, server_start_s)
    return make_planner(
        settings.search,
        header.space,
        settings.objectives,
        settings.budgets,
        first,
        header.content,
        options,
        tuple(others),
    )


def _options_of(settings: ProfileSettings, header: RunHeader, server_start_s: float) -> SearchOptions:
    return SearchOptions(
        bases=bases_of(header),
        screen_duration_s=min(settings.screen_duration_s, settings.duration_s),
        confirm_duration_s=settings.duration_s,
        max_points=_most_points(settings, header),
        restart_s=pace.coarse_s(server_start_s + settings.server_warmup_s),
    )


def _most_points(settings: ProfileSettings, header: RunHeader) -> int | None:
    limit = settings.max_points
    return None if limit is None else limit.of(len(roster(header.space, bases_of(header)).kept) * _load_count(header))


def _load_count(header: RunHeader) -> int:
    """Of the grid, for each candidate."""
    return prod(len(doublings(model.load)) for model in header.space.driven if model.load is not None)


def bases_of(header: RunHeader) -> tuple[ModelVariant, ...]:
    """What each model of the repository has, without gaps."""
    return tuple(base_variant(spec) for spec in header.model_specs)


def _template(settings: ProfileSettings, spec: ModelSpec, space: SearchSpace) -> LoadProfile:
    shapes = space.shapes[0] if spec.name == space.model else shape_choices(settings, spec, alone=False)[0]
    return LoadProfile(
        model=spec.name,
        load=_first_load(settings),
        protocol="grpc" if settings.protocol == "grpc" else "http",
        shared_memory=_shared_memory(settings),
        output_shared_memory_bytes=settings.output_shared_memory_bytes,
        input_data=_input_data(settings, Path(settings.model_repository) / spec.name),
        shapes=dict(shapes),
        warmup_s=settings.warmup_s,
        duration_s=settings.duration_s,
        timeout_s=settings.timeout_s,
        seed=settings.seed,
    )


def _shared_memory(settings: ProfileSettings) -> SharedMemory:
    return next(each for each in get_args(SharedMemory) if each == settings.shared_memory)


def _first_load(settings: ProfileSettings) -> Load:
    """The kind of load that is asked for; its level is the planner's."""
    if settings.streams is not None:
        frames = settings.frames_per_second
        return VideoStreams(streams=1, frames_per_second=frames, deadline_ms=settings.deadline_ms)
    if settings.request_rate is not None:
        return RequestRate(per_second=1.0, arrival="constant" if settings.arrival == "constant" else "poisson")
    return Concurrency(in_flight=1)


def effort_of(settings: ProfileSettings, header: RunHeader, expected_point_count: int, server_start_s: float) -> Effort:
    """What is ahead, with as many long points and server starts as such a search usually needs."""
    space = header.space
    candidates = roster(space, bases_of(header))
    left_out = len(candidates.skipped)
    load_count = _load_count(header)
    kept = space.candidate_count - left_out
    options = _options_of(settings, header, server_start_s)
    point_s = pace.expected_load_s(settings.search, options, settings.duration_s)
    if settings.has_capture_windows:
        point_s += settings.capture_duration_s + POINT_OVERHEAD_S
    servers = len({candidate.server for candidate in candidates.kept})
    fresh = pace.expected_starts(settings.search, options, expected_point_count, servers)
    expected_s = expected_point_count * (point_s + POINT_OVERHEAD_S) + fresh * (
        server_start_s + settings.server_warmup_s
    )
    if settings.weighed and expected_point_count:
        expected_s += overhead.expected_s(len(settings.weighed)) + server_start_s + settings.server_warmup_s
    return Effort(
        candidate_count=space.candidate_count,
        left_out_count=left_out,
        load_count=load_count,
        grid_point_count=kept * load_count,
        expected_point_count=expected_point_count,
        expected_s=round(expected_s, 1),
    )

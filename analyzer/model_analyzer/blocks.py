"""One model with its block, or several that are profiled together, to the settings of one run of ours."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from analyzer.model_analyzer import forms, wants
from analyzer.model_analyzer.client_flags import client_settings
from analyzer.model_analyzer.keys import PARAMETERS
from analyzer.model_analyzer.place import Block, Globals, Job, Place
from analyzer.model_analyzer.together import shared_batch_sizes, shared_client, shared_pairs
from analyzer.settings.values import switch, texts, whole

CHECKPOINTS = "checkpoints"
USUAL_IDLE_S = 3
"""As long as Model Analyzer watches a server that has nothing loaded."""
_OF_SERVER = ("triton_server_environment", "triton_server_flags")


def job_of(every: Globals, model: str, block: Block, model_count: int, notes: list[str]) -> Job:
    """Raises UsageError with every mistake of the block."""
    place = Place(f"profile_models: {model}: " if block else "")
    place.check_keys(block)
    job = _shared(every, place, notes)
    job |= {"profile_models": [model], "run": _run(every, model)} if every.theirs else {"profile_models": [model]}
    if every.has("checkpoint_directory"):
        job["run"] = _run(every, model)
    elif model_count > 1 and "run" in every.raw:
        job["run"] = str(Path(str(every.raw["run"])) / model)
    place.add(job, "", lambda: _loads(every, block))
    place.add(job, "", lambda: _axes(every, {model: block}))
    place.add(job, "", lambda: _wants(every, {model: block}, named=False))
    place.add(job, "perf_analyzer_flags", lambda: _client(_either(every, block, "perf_analyzer_flags"), notes))
    place.add(job, "", lambda: _server(every, block))
    place.raise_all()
    return job


def job_of_all(every: Globals, blocks: Mapping[str, Block], notes: list[str]) -> Job:
    """Models that are profiled at the same time, on one server."""
    place = Place("profile_models: ")
    for block in blocks.values():
        place.check_keys(block)
    job = _shared(every, place, notes)
    job |= {"profile_models": list(blocks), "together": True}
    if every.theirs or every.has("checkpoint_directory"):
        job["run"] = _run(every, "+".join(blocks))
    place.add(job, "", lambda: _loads_together(every, blocks, notes))
    for_all = every.raw.get("batch_sizes")
    place.add(job, "batch_sizes", lambda: _given("batch_sizes", shared_batch_sizes(for_all, blocks, notes)))
    place.add(job, "", lambda: _axes(every, blocks))
    place.add(job, "", lambda: _wants(every, blocks, named=True))
    flags = every.raw.get("perf_analyzer_flags")
    place.add(job, "perf_analyzer_flags", lambda: shared_client(flags, blocks, notes))
    for name in _OF_SERVER:
        place.add(job, "", lambda n=name: _given(n, shared_pairs(n, every.raw.get(n), blocks, notes)))  # type: ignore[misc]  # early bound
    place.add(job, "", lambda: _with_gpus(every, job))
    place.raise_all()
    return job


def _shared(every: Globals, place: Place, notes: list[str]) -> Job:
    """Options of ours as they are, and those that are only called differently."""
    listed_apart = {
        "profile_models",
        "batch_sizes",
        "concurrency",
        "request_rate",
        "objectives",
        "bls_composing_models",
        "cpu_only",
    }
    job: Job = {name: value for name, value in every.raw.items() if name in every.ours - listed_apart}
    raw = every.raw
    if "run_config_search_mode" in raw:
        job["search"] = raw["run_config_search_mode"]
    if "monitoring_interval" in raw:
        job["sample_interval"] = raw["monitoring_interval"]
    if "client_protocol" in raw or every.from_file:
        job.setdefault("protocol", raw.get("client_protocol", "grpc"))
    place.add(job, "", lambda: _most_points(raw, notes))
    if "duration_seconds" in raw or every.from_file:
        job["idle_duration"] = raw.get("duration_seconds", USUAL_IDLE_S)
    if raw.get("triton_launch_mode") == "remote" and "triton_metrics_url" not in raw:
        job["triton_metrics_url"] = "http://localhost:8002/metrics"
    if "run_config_search_mode" in raw and raw["run_config_search_mode"] == "quick" and _has_lists(raw):
        place.add(job, "run_config_search_mode", _refuse_lists)
    return job


def _most_points(raw: Mapping[str, object], notes: list[str]) -> Job:
    """Optuna's bounds on its trials; with any other search they had no effect."""
    given = {name: str(raw[name]) for name in ("optuna_max_trials", "max_percentage_of_search_space") if name in raw}
    if raw.get("run_config_search_mode") != "optuna":
        notes += [f"{name} is of the search mode optuna: --max-points limits every mode" for name in given]
        return {}
    parts = [value + ("%" if name.startswith("max_percentage") else "") for name, value in given.items()]
    return _given("max_points", ",".join(parts))


def _refuse_lists() -> Job:
    raise ValueError(
        "quick chooses the loads itself: leave concurrency and request_rate out, or give brute or capacity"
    )


def _has_lists(raw: Mapping[str, object]) -> bool:
    return any(name in raw for name in ("concurrency", "request_rate"))


def _run(every: Globals, name: str) -> str:
    return str(Path(str(every.raw.get("checkpoint_directory", CHECKPOINTS))) / name)


def _loads(every: Globals, block: Block) -> Job:
    """Batch sizes of the client, and the range of loads with the levels that were listed."""
    parameters = block.get("parameters")
    own: Mapping[str, object] = parameters if isinstance(parameters, Mapping) else {}
    given = {name: every.raw[name] for name in PARAMETERS if name in every.raw} | dict(own)
    found: Job = {}
    if "batch_sizes" in given:
        found["batch_sizes"] = forms.joined(forms.numbers(given["batch_sizes"]))
    asked = [name for name in ("concurrency", "request_rate") if given.get(name) not in (None, [], "")]
    if len(asked) == 2:
        raise ValueError("concurrency and request_rate exclude each other: give one of them")
    rated = every.switch("request_rate_search_enable") or every.has(*_bounds("request_rate"))
    if asked == ["concurrency"] and rated:
        raise ValueError("concurrency and a search of request rates exclude each other: give one of them")
    kind = asked[0] if asked else ("request_rate" if rated else "concurrency")
    if asked and isinstance(given[kind], str) and ":" in str(given[kind]) and str(given[kind]).count(":") == 1:
        return found | {kind: given[kind]}
    if asked:
        levels = forms.numbers(given[kind], 1e-3 if kind == "request_rate" else 1, are_whole=kind == "concurrency")
        return found | {kind: f"{levels[0]:g}:{levels[-1]:g}", "load_values": forms.joined(levels)}
    if every.theirs or rated:
        low, high = _bound(every, kind, *((16, 8192) if kind == "request_rate" else (1, 1024)))
        found[kind] = f"{low}:{high}"
    return found


def _loads_together(every: Globals, blocks: Mapping[str, Block], notes: list[str]) -> Job:
    """The range of all, and of each model that has one of its own."""
    found = _loads(every, {})
    own: Job = {}
    for model, block in blocks.items():
        loads, parameters = _loads(every, block), block.get("parameters")
        kind = _kind(loads)
        if kind != _kind(found) and not own:
            found = {name: value for name, value in found.items() if name not in ("concurrency", "load_values")}
            found[kind] = loads[kind]
        elif kind != _kind(found):
            raise ValueError("models that are profiled together take concurrency or request_rate, all the same of both")
        if not (isinstance(parameters, Mapping) and kind in parameters):
            continue
        own[model] = loads[kind]
        if str(loads.get("load_values", "")).count(",") > 1:
            notes.append(
                f"the loads {loads['load_values']} of {model} are taken as a range: of models that are profiled "
                "together each load is searched between the least and the most; a list for all models is kept to"
            )
    return found | _given("load", own)


def _kind(loads: Job) -> str:
    return "request_rate" if "request_rate" in loads else "concurrency"


def _bounds(name: str) -> tuple[str, str]:
    return f"run_config_search_min_{name}", f"run_config_search_max_{name}"


def _bound(every: Globals, name: str, least: int, most: int) -> tuple[int, int]:
    lower, upper = _bounds(name)
    low, high = whole(every.raw.get(lower, least)), whole(every.raw.get(upper, max(most, least)))
    if low < 1 or high < low:
        raise ValueError(f"{lower} is {low} and {upper} is {high}: give at least 1, and no more at least than at most")
    return low, high


def _axes(every: Globals, blocks: Mapping[str, Block]) -> Job:
    """What is varied: what model_config_parameters lists, or else Model Analyzer's own axes within their bounds."""
    composing = {
        name: forms.model_blocks(every.raw[name])
        for name in ("bls_composing_models", "ensemble_composing_models")
        if name in every.raw
    }
    called = {model: block for group in composing.values() for model, block in group.items()}
    listed = {
        model: forms.axes(_mapping(_parameters(every, block)))
        for model, block in (*blocks.items(), *called.items())
        if _parameters(every, block)
    }
    several = len(blocks) + len(called) > 1
    found: Job = {}
    if listed:
        found["axis"] = {
            (f"{model}:{path}" if several else path): values
            for model, paths in listed.items()
            for path, values in paths.items()
        }
        if any(path.startswith("dynamic_batching") for paths in listed.values() for path in paths):
            found["dynamic_batching"] = True
    found |= _automatic(every, bool(listed))
    if composing.get("bls_composing_models"):
        found["bls_composing_models"] = list(composing["bls_composing_models"])
    on_cpu = [model for model, block in (*blocks.items(), *called.items()) if switch(block.get("cpu_only") or False)]
    on_cpu += texts(every.raw.get("cpu_only_composing_models", ()))
    for_all = every.raw.get("cpu_only", False)
    on_cpu += (blocks if for_all else ()) if isinstance(for_all, bool) else texts(for_all)
    return found | ({"cpu_only": list(dict.fromkeys(on_cpu))} if on_cpu else {})


def _automatic(every: Globals, has_listed: bool) -> Job:
    bounded = {
        option: name
        for option, name in (("instance_counts", "instance_count"), ("max_batch_sizes", "model_batch_size"))
        if every.has(*_bounds(name))
    }
    if every.switch("run_config_search_disable") or has_listed:
        return {"automatic_axes": "none"}
    if not every.theirs:
        return {}
    found: Job = {"automatic_axes": "wide"}
    if "instance_counts" in bounded:
        low, high = _bound(every, "instance_count", 1, 5)
        found["instance_counts"] = f"{low}:{high}:1"
    if "max_batch_sizes" in bounded:
        low, high = _bound(every, "model_batch_size", 1, 128)
        found["max_batch_sizes"] = f"{low}:{high}"
    return found


def _parameters(every: Globals, block: Block) -> object:
    return block.get("model_config_parameters", every.raw.get("model_config_parameters"))


def _mapping(raw: object) -> Mapping[str, object]:
    if isinstance(raw, Mapping):
        return raw
    raise ValueError("model_config_parameters takes a mapping of fields to lists of values")


def _wants(every: Globals, blocks: Mapping[str, Block], *, named: bool) -> Job:
    """A model's own objectives and constraints stand instead of those for all. Several are weighed by ``weighting``."""
    found: Job = {}
    limits: list[str] = list(_texts(every.raw.get("constraint", ())))
    wanted: dict[str, float] = {}
    for model, block in blocks.items():
        name = model if named else ""
        weighting = whole(block.get("weighting", 1)) if named else 1
        objectives = block.get("objectives", every.raw.get("objectives"))
        if objectives is not None or (named and any("weighting" in each for each in blocks.values())):
            wanted |= wants.objectives(["perf_throughput"] if objectives is None else objectives, name, weighting)
        limits += wants.constraints(block.get("constraints", every.raw.get("constraints")), name)
    if wanted:
        found["objectives"] = wanted
    if limits:
        found["constraint"] = limits
    return found


def _texts(raw: object) -> Iterable[str]:
    return [raw] if isinstance(raw, str) else [str(item) for item in raw] if isinstance(raw, (list, tuple)) else []


def _either(every: Globals, block: Block, name: str) -> object:
    return block.get(name, every.raw.get(name))


def _client(raw: object, notes: list[str]) -> Job:
    found, unread = client_settings(raw)
    notes += unread
    return found


def _server(every: Globals, block: Block) -> Job:
    found: Job = {}
    for name in _OF_SERVER:
        found |= _given(name, dict(forms.pairs(_either(every, block, name), name)))
    return found | _with_gpus(every, found)


def _with_gpus(every: Globals, job: Job) -> Job:
    """The devices that are to be used are told to the server by its environment."""
    gpus = texts(every.raw.get("gpus", "all"))
    if gpus == ("all",):
        return {}
    environment = job.get("triton_server_environment", {})
    own = environment if isinstance(environment, Mapping) else {}
    return {"triton_server_environment": {**own, "CUDA_VISIBLE_DEVICES": ",".join(gpus)}}


def _given(name: str, value: object) -> Job:
    return {name: value} if value else {}

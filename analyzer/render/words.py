"""Configurations and loads in words: what a reader would call them."""

import shlex
from collections.abc import Mapping, Sequence

from analyzer.domain.ledger import Candidate
from analyzer.domain.model import ModelSpec
from analyzer.domain.run import EditValue, ModelVariant, RunConfig, ServerConfig
from perf_client.load_flags import as_flags
from perf_client.loads import VideoStreams
from perf_client.profile import Concurrency, Load, LoadProfile, RequestRate

AS_IT_IS = "every model as it is today"
"""Of several models none of which is changed."""

Specs = Mapping[str, ModelSpec]
"""Model specifications by name: what a variant leaves unchanged is read from here."""


def counted(count: int, noun: str) -> str:
    """``1 instance``, ``2 instances``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def server(config: ServerConfig, specs: Specs) -> str:
    """``2 instances, dynamic batching up to 16, delay 500 µs``.

    Where there are several models each is named, and only what differs from the repository is told, once for those that
    differ alike: ``a, b: 2 instances; c: on CPU``.
    """
    if len(config.variants) == 1:
        return variant(config.variants[0], specs)
    if any(v.name for v in config.variants):
        told = [v for v in config.variants if v.model not in specs or not specs[v.model].composing or v.name]
        return "; ".join(f"{v.model}: {variant(v, specs)}" for v in told)
    alike: dict[str, list[str]] = {}
    for v in config.variants:
        if changed := changes(v, specs):
            alike.setdefault(", ".join(changed), []).append(v.model)
    return "; ".join(f"{', '.join(models)}: {told}" for told, models in alike.items()) or AS_IT_IS


def changes(changed: ModelVariant, specs: Specs) -> tuple[str, ...]:
    """What a variant makes different from the model as the repository has it; nothing where both come to the same.

    An ensemble has neither instances nor a batcher of its own.
    """
    spec = specs.get(changed.model)
    today = ModelVariant(model=changed.model)
    told: tuple[str, ...] = ()
    if (count := instances(changed, specs)) != instances(today, specs):
        told += (count,)
    if (batches := batching(changed, specs)) != batching(today, specs):
        told += batches
    told += edits(changed)
    size = changed.max_batch_size
    is_own_size = spec is not None and size == spec.max_batch_size
    is_of_ensemble = spec is not None and bool(spec.composing)
    if not told and size is not None and not is_own_size and not is_of_ensemble:
        return (f"max_batch_size {size}",)
    return told


def candidate(chosen: Candidate, specs: Specs) -> str:
    """A server configuration, and what clients send where that is not the usual."""
    parts = [server(chosen.server, specs)]
    if chosen.batch_size != 1:
        parts.append(f"client batch {chosen.batch_size}")
    return ", ".join([*parts, *shapes(dict(chosen.shapes))])


def shapes(fixed: Mapping[str, Sequence[int]]) -> list[str]:
    """``X of 3x224x224`` for each input whose size is given."""
    return [f"{name} of {'x'.join(map(str, sizes))}" for name, sizes in sorted(fixed.items())]


def variant(changed: ModelVariant, specs: Specs) -> str:
    """Ends in the name that another tool gave it, where it has one."""
    named = f" ({changed.name})" if changed.name else ""
    spec = specs.get(changed.model)
    if spec is not None and spec.composing:
        return "ensemble" + named
    return ", ".join((instances(changed, specs), *batching(changed, specs), *edits(changed))) + named


def edits(changed: ModelVariant) -> tuple[str, ...]:
    """``intra_op_thread_count 2``, ``graph.level 1``, ``on GPU``."""
    return tuple(
        f"on {edit_value(edit.value)}"
        if edit.path == "instance_group.kind" and edit.value
        else f"{field(edit.path)} {edit_value(edit.value)}"
        for edit in changed.edits
    )


def field(path: str) -> str:
    """``instance_group.kind`` as it is; ``parameters.KEY`` as its key; of a deep one the last two names."""
    if path.startswith("parameters."):
        return path.removeprefix("parameters.")
    names = path.split(".")
    return path if any(name.isdigit() for name in names) else ".".join(names[-2:])


def edit_value(value: EditValue) -> str:
    """As in ``config.pbtxt``; a list in brackets, ``none`` where a field is cleared."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value).removeprefix("KIND_")


def instances(changed: ModelVariant, specs: Specs) -> str:
    spec = specs.get(changed.model)
    count = changed.instance_count or (spec.instance_count if spec else None)
    return counted(count, "instance") if count else "instances unchanged"


def batching(changed: ModelVariant, specs: Specs) -> tuple[str, ...]:
    """The batcher and, where it is on and set, its delay and preferred sizes."""
    spec = specs.get(changed.model)
    batches = changed.dynamic_batching
    if batches is None and spec is not None:
        batches = spec.dynamic_batching
    size = changed.max_batch_size if changed.max_batch_size is not None else (spec.max_batch_size if spec else None)
    if batches is None:
        return ("batching unchanged",)
    if not batches:
        return ("no dynamic batching",)
    parts = [f"dynamic batching up to {size}" if size else "dynamic batching"]
    if changed.preferred_batch_sizes:
        parts.append(f"preferred sizes {', '.join(map(str, changed.preferred_batch_sizes))}")
    delay_us = changed.queue_delay_us
    if delay_us is None and spec is not None:
        delay_us = spec.queue_delay_us
    if delay_us is not None:
        parts.append(f"delay {delay_us:,} µs")
    return tuple(parts)


def load(asked: Load) -> str:
    """``concurrency 24``, ``300 requests/s, Poisson`` or ``8 streams of 25 frames/s``."""
    if isinstance(asked, VideoStreams):
        return f"{counted(asked.streams, 'stream')} of {asked.frames_per_second:g} frames/s"
    if isinstance(asked, Concurrency):
        return f"concurrency {asked.in_flight:,}"
    if not isinstance(asked, RequestRate):
        return asked.words
    arrival = "" if asked.arrival == "constant" else f", {asked.arrival.capitalize()}"
    return f"{asked.per_second:,.6g} requests/s{arrival}"


def point(config: RunConfig) -> str:
    """The load of a point with its client batch, where that is not 1; of several models, each with its name."""
    if config.beside:
        told = " and ".join(f"{load(each.load)} on {each.model}" for each in config.loads)
    else:
        told = load(config.load.load)
    batch = config.load.batch_size
    parts = [told, *([f"client batch {batch}"] if batch != 1 else []), *shapes(config.load.shapes)]
    return ", ".join(parts)


def client_command(profile: LoadProfile) -> str:
    """The load generator's command line that puts the same load on a server that runs this configuration."""
    words = ["perf-client"]
    for share in profile.shares:
        words += ["-m", share.model]
    if profile.mix:
        words += ["--mix", ":".join(f"{share.weight:g}" for share in profile.mix)]
    words += ["-i", profile.protocol, "-b", str(profile.batch_size), *as_flags(profile.load)]
    if profile.shared_memory != "none":
        words += ["--shared-memory", profile.shared_memory]
        words += ["--output-shared-memory-size", str(profile.output_shared_memory_bytes)]
    if profile.input_data != "random":
        words += ["--input-data", profile.input_data]
    for name, shape in sorted(profile.shapes.items()):
        words += ["--shape", f"{name}:{','.join(map(str, shape))}"]
    words += ["--duration", f"{profile.duration_s:g}", "--seed", str(profile.seed)]
    return shlex.join(words)

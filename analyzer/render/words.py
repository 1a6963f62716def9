"""Configurations and loads in words: what a reader would call them."""

import shlex
from collections.abc import Mapping

from analyzer.domain.model import ModelSpec
from analyzer.domain.run import ModelVariant, RunConfig, ServerConfig
from perf_client.load_flags import as_flags
from perf_client.profile import Concurrency, Load, LoadProfile, RequestRate

Specs = Mapping[str, ModelSpec]
"""Model specifications by name: what a variant leaves unchanged is read from here."""


def counted(count: int, noun: str) -> str:
    """``1 instance``, ``2 instances``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def server(config: ServerConfig, specs: Specs) -> str:
    """``2 instances, dynamic batching up to 16, delay 500 µs``; the models are named where there are several."""
    if len(config.variants) == 1:
        return variant(config.variants[0], specs)
    return "; ".join(f"{v.model}: {variant(v, specs)}" for v in config.variants)


def variant(changed: ModelVariant, specs: Specs) -> str:
    """Ends in the name that another tool gave it, where it has one."""
    named = f" ({changed.name})" if changed.name else ""
    return ", ".join((instances(changed, specs), *batching(changed, specs))) + named


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
    if changed.queue_delay_us is not None:
        parts.append(f"delay {changed.queue_delay_us:,} µs")
    return tuple(parts)


def load(asked: Load) -> str:
    """``concurrency 24`` or ``300 requests/s, Poisson``."""
    if isinstance(asked, Concurrency):
        return f"concurrency {asked.in_flight:,}"
    if not isinstance(asked, RequestRate):
        return asked.words
    arrival = "" if asked.arrival == "constant" else f", {asked.arrival.capitalize()}"
    return f"{asked.per_second:,.6g} requests/s{arrival}"


def point(config: RunConfig) -> str:
    """The load of a point with its client batch, where that is not 1."""
    batch = config.load.batch_size
    return load(config.load.load) + (f", client batch {batch}" if batch != 1 else "")


def client_command(profile: LoadProfile) -> str:
    """The load generator's command line that puts the same load on a server that runs this configuration."""
    words = ["perf-client"]
    for share in profile.shares:
        words += ["-m", share.model]
    if profile.mix:
        words += ["--mix", ":".join(f"{share.weight:g}" for share in profile.mix)]
    words += ["-i", profile.protocol, "-b", str(profile.batch_size), *as_flags(profile.load)]
    if profile.input_data != "random":
        words += ["--input-data", profile.input_data]
    for name, shape in sorted(profile.shapes.items()):
        words += ["--shape", f"{name}:{','.join(map(str, shape))}"]
    words += ["--duration", f"{profile.duration_s:g}", "--seed", str(profile.seed)]
    return shlex.join(words)

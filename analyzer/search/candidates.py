"""A search space to the candidates worth telling apart, and a candidate with a load to a run configuration."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import msgspec

from analyzer.domain.ledger import Candidate
from analyzer.domain.run import ModelVariant, RunConfig
from analyzer.domain.space import LoadRange, SearchSpace
from perf_client.loads import VideoStreams
from perf_client.profile import Concurrency, LoadProfile, RequestRate


@dataclass(frozen=True, slots=True)
class Slots:
    """What a candidate comes to on a server: every field has a value.

    ``batch_limit`` is the largest number of requests that one execution can take: 1 without dynamic batching.
    ``extra`` has a number for each other field in which candidates differ: equal distances, about equal differences.
    """

    instances: int
    max_batch: int
    batch_limit: int
    client_batch: int
    delay_us: int
    batching: bool
    extra: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Roster:
    """``kept`` starts with the default; ``skipped`` has the sentence for each candidate that is left out."""

    kept: tuple[Candidate, ...]
    skipped: tuple[tuple[Candidate, str], ...]


def roster(space: SearchSpace, bases: Sequence[ModelVariant]) -> Roster:
    """Candidates without those that could not behave differently from one that is kept, or could not run."""
    kept: dict[tuple[object, ...], Candidate] = {}
    skipped: list[tuple[Candidate, str]] = []
    for server in space.server_configs():
        for batch_size, shapes in product(sorted(set(space.batch_sizes)), dict.fromkeys(space.shapes)):
            candidate = Candidate(server=server, batch_size=batch_size, shapes=shapes)
            slots = slots_of(candidate, bases)
            if batch_size > max(slots.max_batch, 1):
                skipped.append((candidate, f"a client batch of {batch_size} does not fit into max batch size"))
                continue
            twin = kept.setdefault(_behaviour(candidate, slots, bases), candidate)
            if twin is not candidate:
                skipped.append((candidate, _twin_rule(twin)))
    return Roster(tuple(kept.values()), tuple(skipped))


def slots_of(candidate: Candidate, bases: Sequence[ModelVariant], model: str = "") -> Slots:
    """Of the first model, or of the one that is named.

    Unset fields fall back to the model's own of ``bases``, and to Triton's own defaults where that has none.
    """
    variants = candidate.server.variants
    variant = next((v for v in variants if v.model == model), variants[0])
    base = next((b for b in bases if b.model == variant.model), ModelVariant(model=variant.model))
    instances = _first(variant.instance_count, base.instance_count, 1)
    max_batch = _first(variant.max_batch_size, base.max_batch_size, 1)
    batching = bool(_first(variant.dynamic_batching, base.dynamic_batching, False))
    delay_us = _first(variant.queue_delay_us, base.queue_delay_us, 0) if batching else 0
    limit = max(1, max_batch // candidate.batch_size) if batching else 1
    return Slots(instances, max_batch, limit, candidate.batch_size, delay_us, batching)


def run_config(
    candidate: Candidate, load: float, template: LoadProfile, content: str, duration_s: float | None = None
) -> RunConfig:
    """``load`` counts requests in flight, requests per second or streams: what the template's own load is about."""
    level = load if isinstance(template.load, RequestRate) else round(load)
    profile = msgspec.structs.replace(
        template,
        load=template.load.at_level(level),
        batch_size=candidate.batch_size,
        shapes=dict(candidate.shapes),
    )
    if duration_s is not None:
        profile = msgspec.structs.replace(profile, duration_s=duration_s)
    return RunConfig(server=candidate.server, load=profile, content=content)


def joint_config(
    candidate: Candidate,
    loads: Sequence[float],
    templates: Sequence[LoadProfile],
    content: str,
    duration_s: float | None = None,
) -> RunConfig:
    """As ``run_config``, with a load for each driven model. The shapes are those of the first one's inputs."""
    first, *others = (
        run_config(candidate, load, template, content, duration_s).load for load, template in zip(loads, templates)
    )
    beside = (msgspec.structs.replace(load, shapes=of.shapes) for load, of in zip(others, templates[1:]))
    return RunConfig(server=candidate.server, load=first, content=content, beside=tuple(beside))


def load_of(profile: LoadProfile) -> float:
    return profile.load.level


def template_for(load_range: LoadRange, template: LoadProfile) -> LoadProfile:
    """The template with a load of the range's kind, so that an arrival process that was asked for is kept."""
    match load_range.kind, template.load:
        case ("concurrency", Concurrency()) | ("request_rate", RequestRate()) | ("streams", VideoStreams()):
            return template
        case "concurrency", _:
            return msgspec.structs.replace(template, load=Concurrency(in_flight=1))
        case "streams", _:
            load = VideoStreams(streams=1, frames_per_second=load_range.requests_each)
            return msgspec.structs.replace(template, load=load)
        case _:
            return msgspec.structs.replace(template, load=RequestRate(per_second=1.0))


def doublings(load_range: LoadRange) -> tuple[float, ...]:
    """The values of the range; else both bounds and the powers of two between, a rate's from its own minimum."""
    if load_range.values:
        return load_range.values
    low, high = lowest(load_range), highest(load_range)
    levels = [low]
    start = 1.0 if load_range.is_whole else low
    for power in range(64):
        level = start * 2**power
        if low < level < high:
            levels.append(level)
    return (*levels, high) if high > low else tuple(levels)


def lowest(load_range: LoadRange) -> float:
    """The smallest load that may be asked for: never zero."""
    if load_range.is_whole:
        return float(max(1, math.ceil(load_range.minimum)))
    return load_range.minimum if load_range.minimum > 0 else load_range.maximum / 1024


def highest(load_range: LoadRange) -> float:
    top = float(math.floor(load_range.maximum)) if load_range.is_whole else load_range.maximum
    return max(top, lowest(load_range))


def listed(load_range: LoadRange, load: float) -> float:
    """Within the bounds; where the loads are listed, the highest of them that is not above ``load``."""
    within = min(max(load, lowest(load_range)), highest(load_range))
    return max((value for value in load_range.values if value <= within), default=within)


def _first(*values: int | bool | None) -> int:
    return next(int(value) for value in values if value is not None)


def _behaviour(candidate: Candidate, slots: Slots, bases: Sequence[ModelVariant]) -> tuple[object, ...]:
    """Equal for candidates that could only differ in fields without effect.

    Without the batcher a batch is what one client sends. A batcher that may only take one request has nothing to
    gather, nor to wait for.
    """
    first = candidate.server.variants[0]
    others = (_filled(variant, bases) for variant in candidate.server.variants[1:])
    rest = (slots.instances, slots.client_batch, candidate.shapes, first.edits, *others)
    if slots.batch_limit == 1:
        return (*rest, 1)
    return (*rest, slots.max_batch, slots.delay_us, first.preferred_batch_sizes)


def _filled(variant: ModelVariant, bases: Sequence[ModelVariant]) -> ModelVariant:
    """What is left as it is, written out where it is known."""
    base = next((each for each in bases if each.model == variant.model), variant)
    unset = {
        name: getattr(base, name)
        for name in ("instance_count", "max_batch_size", "dynamic_batching", "queue_delay_us")
        if getattr(variant, name) is None
    }
    return msgspec.structs.replace(variant, **unset)


def _twin_rule(twin: Candidate) -> str:
    if twin.server.is_default:
        return "it is the default configuration written out"
    return "it can batch no other way than a candidate that is kept: the fields that differ have no effect"

"""Candidates to numbers that a surrogate can measure distances in: whatever differs between them gets a column."""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.ledger import Candidate
from analyzer.domain.run import ModelVariant
from analyzer.search.candidates import Slots, slots_of

_OCTAVES = 1.5
"""Octaves of a numeric field in which behaviour is taken to change."""

_KINDS_APART = 0.7
"""Distance between two values of a field that has no order."""


def encoded(
    candidates: Sequence[Candidate], bases: Sequence[ModelVariant], model: str, apart: Sequence[str] = ()
) -> tuple[Slots, ...]:
    """The slots of ``model`` for each candidate, with a column in ``extra`` for whatever else differs.

    Models that stand ``apart`` have slots of their own elsewhere, so only their edits count here.
    Of a model that is not varied itself, such as an ensemble, the slots are those of the narrowest model beside it.
    """
    own = [slots_of(candidate, bases, model) for candidate in candidates]
    if len(candidates) > 1 and len({_variant_of(candidate, model) for candidate in candidates}) == 1:
        own = [_narrowest(candidate, bases, model, slots) for candidate, slots in zip(candidates, own)]
    fields = [_fields(candidate, bases, {model, *apart}) for candidate in candidates]
    columns: list[NDArray[np.float64]] = []
    for name in dict.fromkeys(name for each in fields for name in each):
        columns += _columns([each.get(name) for each in fields])
    if not columns:
        return tuple(own)
    rows = np.stack(columns, axis=1)
    return tuple(replace(slots, extra=tuple(map(float, row))) for slots, row in zip(own, rows))


def _variant_of(candidate: Candidate, model: str) -> ModelVariant:
    variants = candidate.server.variants
    return next((variant for variant in variants if variant.model == model), variants[0])


def _narrowest(candidate: Candidate, bases: Sequence[ModelVariant], model: str, own: Slots) -> Slots:
    others = [slots_of(candidate, bases, v.model) for v in candidate.server.variants if v.model != model]
    if not others:
        return own
    instances, limit = min(s.instances for s in others), min(s.batch_limit for s in others)
    return replace(own, instances=instances, batch_limit=limit, max_batch=max(s.max_batch for s in others))


def _fields(candidate: Candidate, bases: Sequence[ModelVariant], slotted: set[str]) -> dict[Hashable, Hashable]:
    """Everything that the slots of those models leave out."""
    found: dict[Hashable, Hashable] = {}
    for place, variant in enumerate(candidate.server.variants):
        if variant.model not in slotted:
            slots = slots_of(candidate, bases, variant.model)
            found[place, "instances"] = slots.instances
            found[place, "batch_limit"] = slots.batch_limit
            found[place, "delay_us"] = slots.delay_us
        found[place, "preferred"] = max(variant.preferred_batch_sizes or (), default=None)
        found |= {(place, edit.path): edit.value for edit in variant.edits}
    for name, sizes in candidate.shapes:
        found["shape", name] = int(np.prod(sizes))
    return found


def _columns(values: Sequence[Hashable]) -> list[NDArray[np.float64]]:
    """None where all are the same; one for numbers, and one for "left as it is"; else one a kind."""
    distinct = list(dict.fromkeys(values))
    if len(distinct) < 2:
        return []
    numbers = {v: float(v) for v in distinct if isinstance(v, int | float) and not isinstance(v, bool) and v >= 0}
    if len(numbers) < len(distinct) - (None in distinct) or len(numbers) < 2:
        kinds = distinct[1:] if len(distinct) == 2 else distinct
        return [np.array([_KINDS_APART * (value == kind) for value in values]) for kind in kinds]
    octaves: dict[Hashable, float] = {
        value: float(np.log2(number if min(numbers.values()) > 0 else 1 + number)) for value, number in numbers.items()
    }
    middle = float(np.median(list(octaves.values())))
    columns = [np.array([octaves.get(value, middle) / _OCTAVES for value in values])]
    if None in distinct:
        columns.append(np.array([_KINDS_APART * (value is None) for value in values]))
    return columns

"""The slots of models that share a device as columns: what no measurement changes, made once for a search."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analyzer.search.candidates import Slots
from analyzer.search.queueing import Array, Points
from analyzer.search.surrogate import features_at, settings_of

Rows = NDArray[np.intp]

_OTHERS_COUNT = 0.6
"""Of the distance in a model's own slots and load, that in another's."""


@dataclass(frozen=True)
class Ground:
    """``slots[m][row]`` of every model and candidate."""

    models: tuple[str, ...]
    slots: tuple[tuple[Slots, ...], ...]

    def points(self, model: int, rows: Rows, in_flight: Array, gathered: bool) -> Points:
        """Of one model; ``rows`` and ``in_flight`` may have axes of length one, where all rows meet all loads."""
        instances, limit, client_batch, delay_ms = self._columns[model]
        return Points(
            instances[rows],
            limit[rows],
            in_flight,
            client_batch[rows],
            delay_ms[rows] if self._has_delays[model] else 0.0,
            gathered,
        )

    def client_batch(self, rows: Rows) -> Array:
        """The same for all models."""
        return self._columns[0][2][rows]

    @cached_property
    def _columns(self) -> tuple[tuple[Array, Array, Array, Array], ...]:
        found = []
        for own in self.slots:
            table = np.array([(s.instances, s.batch_limit, s.client_batch, s.delay_us) for s in own], dtype=np.float64)
            found.append((table[:, 0], table[:, 1], table[:, 2], table[:, 3] / 1000))
        return tuple(found)

    @cached_property
    def _has_delays(self) -> tuple[bool, ...]:
        return tuple(bool(delay_ms.any()) for *_, delay_ms in self._columns)

    @cached_property
    def most_instances(self) -> tuple[float, ...]:
        """Of each model in any candidate."""
        return tuple(float(instances.max()) for instances, *_ in self._columns)

    @cached_property
    def rows(self) -> dict[tuple[Slots, ...], int]:
        """The first candidate of each combination."""
        return {place: row for row, place in reversed(list(enumerate(zip(*self.slots))))}

    def beside(self, row: int) -> frozenset[int]:
        """Candidates that differ from one in one model's instances, by one step."""
        found = set()
        for slots in self.slots:
            counts = sorted({s.instances for s in slots})
            at = counts.index(slots[row].instances)
            for count in counts[max(at - 1, 0) : at + 2]:
                wanted = replace(slots[row], instances=count)
                place = tuple(wanted if each is slots else each[row] for each in self.slots)
                found.add(self.rows.get(place, row))
        return frozenset(found - {row})

    @cached_property
    def widest(self) -> tuple[int, ...]:
        """For each candidate the one that differs from it in nothing but the largest limits on batches."""
        groups: dict[tuple[object, ...], list[int]] = {}
        places = list(zip(*self.slots))
        for row, place in enumerate(places):
            alike = tuple((s.instances, s.client_batch, s.delay_us, s.extra) for s in place)
            groups.setdefault(alike, []).append(row)
        found = list(range(len(places)))
        for rows in groups.values():
            widest = max(rows, key=lambda row: [s.batch_limit for s in places[row]])
            for row in rows:
                found[row] = widest
        return tuple(found)

    @cached_property
    def kinds(self) -> tuple[Array, ...]:
        """Of each model a number for each candidate: equal where all but instances, batches and loads is."""
        found = []
        for own in self.slots:
            numbers: dict[tuple[object, ...], int] = {}
            kinds = [numbers.setdefault((s.delay_us, s.extra), len(numbers)) for s in own]
            found.append(np.array(kinds, dtype=np.float64))
        return tuple(found)

    @cached_property
    def _settings(self) -> tuple[Array, ...]:
        return tuple(settings_of(own) for own in self.slots)

    def features(self, rows: Rows, points: list[Points]) -> tuple[Array, ...]:
        """For each model a matrix: of its own slots and load, and of the others', which count for less."""
        own = [features_at(settings[rows], each) for settings, each in zip(self._settings, points)]
        return tuple(
            np.concatenate([part if other == model else _OTHERS_COUNT * part for other, part in enumerate(own)], axis=1)
            for model in range(len(own))
        )

"""Slots of models that share a device to the loads worth looking at: where the batches of each are full, or nearly."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.space import LoadRange
from analyzer.search.candidates import Slots, highest, lowest
from analyzer.search.joint_ground import Ground, Rows
from analyzer.search.queueing import Array

_CELLS = 60_000
_FEWEST_STEPS, _MOST_STEPS = 3, 16
_FINE_STEPS = 200
_LOWEST_RATE = 0.02


@dataclass(frozen=True, slots=True)
class Ladder:
    """Loads of one model, a row for each of its different slots. ``first`` has a candidate with those slots,
    ``of`` the ladder's row for each candidate.
    """

    first: Rows
    of: Rows
    steps: Array


class Ladders:
    """Made once for a problem. Less than fills a narrower server's batches is that server's to carry.

    A joint load is a column: for each model which step of its ladder.
    """

    def __init__(self, ground: Ground, loads: Sequence[LoadRange]) -> None:
        self._ground, self._loads = ground, loads
        count = len(ground.slots[0])
        steps = int((_CELLS / max(count, 1)) ** (1 / len(loads)))
        steps = min(max(steps, _FEWEST_STEPS), _MOST_STEPS)
        self.columns: NDArray[np.intp] = np.array(list(product(range(steps), repeat=len(loads))), dtype=np.intp)
        self.coarse = tuple(self._ladder(model, steps) for model in range(len(loads)))
        self._fine = [self._whole_range(model) for model in range(len(loads))]

    def loads(self, rows: Rows, columns: Rows) -> Array:
        """Of each row at its own column: a row a candidate, a column a model."""
        each = [ladder.steps[ladder.of[rows], self.columns[columns, m]] for m, ladder in enumerate(self.coarse)]
        return np.stack(each, axis=-1)

    def idle(self, model: int, rows: Rows) -> NDArray[np.bool_]:
        """For each row and column whether it leaves the model as idle as the range allows."""
        ladder = self.coarse[model]
        least: NDArray[np.bool_] = np.less_equal(ladder.steps, self.low(model))
        return least[ladder.of[rows]][:, self.columns[:, model]]

    def fine(self, model: int) -> Array:
        """Everything within a model's range."""
        return self._fine[model]

    def low(self, model: int) -> float:
        """As idle as the range allows."""
        load = self._loads[model]
        return _LOWEST_RATE if load.kind == "request_rate" else lowest(load)

    def _ladder(self, model: int, steps: int) -> Ladder:
        slots = self._ground.slots[model]
        narrower = _next_narrower(slots)
        places = {own: place for place, own in enumerate(narrower)}
        return Ladder(
            np.array([slots.index(own) for own in places], dtype=np.intp),
            np.array([places[own] for own in slots], dtype=np.intp),
            np.stack([self._between(model, own, narrower[own], steps) for own in places]),
        )

    def _between(self, model: int, own: Slots, narrower: int, steps: int) -> Array:
        """From just more than fills the next narrower server to what fills this one."""
        load, full = self._loads[model], float(own.instances * own.batch_limit)
        if load.kind == "request_rate":
            start = 0.7 * own.instances * narrower if narrower else _LOWEST_RATE
            return np.geomspace(start, 2 * full, steps)
        low, high = lowest(load), highest(load)
        start = own.instances * narrower + 1.0 if narrower else low
        return np.clip(np.round(np.geomspace(min(start, full), full, steps)), low, high)

    def _whole_range(self, model: int) -> Array:
        load = self._loads[model]
        if load.kind == "request_rate":
            widest = max(s.instances * s.batch_limit for s in self._ground.slots[model])
            return np.geomspace(_LOWEST_RATE, 4.0 * widest, _FINE_STEPS)
        low, high = lowest(load), highest(load)
        return np.unique(np.clip(np.round(np.geomspace(low, high, _FINE_STEPS)), low, high))


def _next_narrower(slots: Sequence[Slots]) -> dict[Slots, int]:
    """For each the next smaller limit on batches among those that are the same otherwise; 0 where there is none."""
    limits: dict[Slots, set[int]] = {}
    for own in slots:
        limits.setdefault(replace(own, max_batch=0, batch_limit=0), set()).add(own.batch_limit)
    return {
        own: max((x for x in limits[replace(own, max_batch=0, batch_limit=0)] if x < own.batch_limit), default=0)
        for own in dict.fromkeys(slots)
    }

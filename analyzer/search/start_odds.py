"""Whether a candidate that was not tried yet will start, guessed from those that did and did not."""

import math
from collections.abc import Sequence

import numpy as np

from analyzer.search.candidates import Slots
from analyzer.search.queueing import Array

_AFTER_A_SMALLER_FAILED = 0.15
_BESIDE_A_FAILED = 0.5


class StartOdds:
    """``failed`` and ``started`` stand beside ``slots``."""

    def __init__(self, slots: Sequence[Slots], failed: Sequence[bool], started: Sequence[bool]) -> None:
        self._sizes = np.stack([_size(own) for own in slots])
        self._failed = self._sizes[list(failed)]
        self._started = self._sizes[list(started)]

    def of(self, row: int) -> float:
        """Bigger than a failed one is unlikely to start, but only trying it is proof."""
        size, failed, started = self._sizes[row], self._failed, self._started
        if not len(failed) or (size <= started).all(axis=1).any():
            return 1.0
        if (size >= failed).all(axis=1).any():
            # Each failed one that is bigger than another failed one has borne the guess out.
            bigger = (failed[:, None, :] >= failed[None, :, :]).all(axis=2)
            return _AFTER_A_SMALLER_FAILED / (1 + float(bigger.sum() - len(failed)))
        nearest_failed = float(np.abs(failed - size).sum(axis=1).min())
        nearest_started = float(np.abs(started - size).sum(axis=1).min()) if len(started) else math.inf
        return _BESIDE_A_FAILED if nearest_failed < nearest_started else 1.0


def _size(slots: Slots) -> Array:
    """What memory grows with, in octaves."""
    return np.log2(np.array([slots.instances, max(slots.max_batch, 1), slots.client_batch], dtype=np.float64))

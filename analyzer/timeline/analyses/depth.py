"""How many of some intervals held at once, over time: depth of a queue, requests in flight."""

from dataclasses import dataclass

import numpy as np

from analyzer.timeline.intervals import Intervals, steps
from analyzer.timeline.table import Column, Ns


@dataclass(frozen=True, slots=True)
class Depth:
    """A step function: from each time on the count beside it; after the last time it is zero."""

    time_ns: Ns
    count: Column

    @property
    def largest(self) -> int:
        return int(self.count.max()) if len(self.count) else 0

    @property
    def mean(self) -> float:
        """Weighted by how long each depth lasted, from the first interval to the end of the last."""
        held = np.diff(self.time_ns)
        return float((self.count[:-1] * held).sum() / held.sum()) if held.sum() else 0.0

    def quantile(self, share_ratio: float) -> int:
        """The depth that is not exceeded for this part of the time."""
        held = np.diff(self.time_ns)
        if not held.sum():
            return 0
        order = np.argsort(self.count[:-1], kind="stable")
        reached = np.cumsum(held[order]) >= share_ratio * held.sum()
        return int(self.count[:-1][order][int(np.argmax(reached))])

    def at(self, time_ns: Ns) -> Column:
        """The depth at each of these times; what begins or ends just then is in effect."""
        if not len(self.time_ns):
            return np.zeros(len(time_ns), np.int64)
        place = np.searchsorted(self.time_ns, time_ns, side="right") - 1
        return np.where(place < 0, 0, self.count[place.clip(min=0)])


def depth(start_ns: Column, end_ns: Column) -> Depth:
    kept = end_ns > start_ns
    return Depth(*steps([(Intervals(start_ns[kept], end_ns[kept]), 1)]))

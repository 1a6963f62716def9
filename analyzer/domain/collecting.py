"""What collecting a timeline did to the figures of a point, measured by itself."""

from analyzer.domain.metrics import Estimate
from analyzer.domain.record import Record


class CollectingCost(Record, frozen=True):
    """One collector, switched on and off in turns under one load on one running server.

    A change is on over off, less 1: 0.04 is 4 % more; None is "not measured", and ``reason`` then says why. ``point``
    is the key of the measured point whose load it was; a round is one window of ``window_s`` with it and one without.
    """

    collector: str
    point: str
    round_count: int = 0
    window_s: float = 0.0
    p50: Estimate | None = None
    p99: Estimate | None = None
    throughput: Estimate | None = None
    reason: str = ""

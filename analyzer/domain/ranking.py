"""The answer of a run: what to deploy, what comes next, what can't be told apart, and what is out."""

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.measurement import Failure, Measurement
from analyzer.domain.record import Record


class Miss(Record, frozen=True):
    """A measured point outside the budget. ``violation`` is the largest relative one, and belongs to ``budget``."""

    measurement: Measurement
    budget: Budget
    violation: float


class Excluded(Record, frozen=True):
    """A measured point that misses no budget and yet can't be recommended; ``reason`` says why."""

    measurement: Measurement
    reason: str


class Ranking(Record, frozen=True):
    """``ordered`` holds the best kept point of each server configuration and client batch, best first.

    Points whose whole interval keeps the budget go before those whose figure alone does. ``tied`` are those of
    ``ordered`` whose objective can't be told apart from the leader's; ``recommended`` is the cheapest of these.
    ``default`` is the unchanged configuration's best kept point. ``pareto`` is the front of all kept points in
    throughput and p99 latency. ``misses`` start with the nearest. ``excluded`` are points whose figures can't be
    trusted or checked. ``warnings`` are doubts about the recommended point. ``points`` are all that was measured; here
    and everywhere above, repeats of a point stand as one, pooled.
    """

    objectives: tuple[Objective, ...]
    budgets: tuple[Budget, ...]
    recommended: Measurement | None
    ordered: tuple[Measurement, ...]
    tied: tuple[Measurement, ...]
    pareto: tuple[Measurement, ...]
    misses: tuple[Miss, ...]
    failures: tuple[Failure, ...]
    default: Measurement | None
    reasons: tuple[str, ...]
    excluded: tuple[Excluded, ...] = ()
    warnings: tuple[str, ...] = ()
    points: tuple[Measurement, ...] = ()

"""Told outcomes to what a search knows: per candidate the levels of load that were seen, and what failed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analyzer.domain.budget import Budget
from analyzer.domain.ledger import Candidate, candidate_of
from analyzer.domain.measurement import Failure, Measurement, Outcome
from analyzer.domain.metrics import METRICS, Estimate
from analyzer.search.candidates import load_of
from analyzer.stats import pool

_CLEARLY_OVER = 1.15
_CLEARLY_OVER_UNSUPPORTED = 1.5
"""A figure without an interval counts as beyond doubt above a limit when it misses it by this factor."""


@dataclass(frozen=True, slots=True)
class Level:
    """One candidate at one load, its repeats pooled. ``usable`` is false where nothing was answered.

    ``eligible`` is false where no such load may be recommended: the server fell behind, or the client was the limit.
    """

    candidate: Candidate
    load: float
    measurements: tuple[Measurement, ...]
    figures: dict[str, Estimate]
    requests_per_s: float
    in_flight: float
    usable: bool
    eligible: bool

    @property
    def longest_s(self) -> float:
        return max(m.config.load.duration_s for m in self.measurements)


@dataclass(frozen=True, slots=True)
class Evidence:
    """``failed`` never answered; ``broken_loads`` has the lowest load at which one that did answer broke."""

    levels: tuple[Level, ...]
    failed: dict[Candidate, str]
    broken_loads: dict[Candidate, float]
    keys: frozenset[str]
    point_counts: dict[Candidate, int]

    def of(self, candidate: Candidate) -> list[Level]:
        return [level for level in self.levels if level.candidate == candidate]


def gather(outcomes: Iterable[Outcome], metrics: Sequence[str]) -> Evidence:
    """The same for any order of telling."""
    ordered = sorted({outcome.config.key: outcome for outcome in outcomes}.items())
    groups: dict[tuple[Candidate, float], list[Measurement]] = {}
    broken: dict[Candidate, list[Failure]] = {}
    counts: dict[Candidate, int] = {}
    for _, outcome in ordered:
        candidate = candidate_of(outcome.config)
        counts[candidate] = counts.get(candidate, 0) + 1
        if isinstance(outcome, Failure):
            broken.setdefault(candidate, []).append(outcome)
        else:
            groups.setdefault((candidate, load_of(outcome.config.load)), []).append(outcome)
    levels = tuple(_level(candidate, load, seen, metrics) for (candidate, load), seen in groups.items())
    answered = {level.candidate for level in levels if level.usable}
    return Evidence(
        levels,
        failed={c: failures[0].reason for c, failures in broken.items() if c not in answered},
        broken_loads={c: min(load_of(f.config.load) for f in fs) for c, fs in broken.items() if c in answered},
        keys=frozenset(key for key, _ in ordered),
        point_counts=counts,
    )


def _level(candidate: Candidate, load: float, seen: list[Measurement], metrics: Sequence[str]) -> Level:
    figures = {}
    for name in metrics:
        read = [estimate for m in seen if (estimate := METRICS[name].read(m)) is not None]
        if read:
            figures[name] = pool(read)
    requests = pool([_throughput(m) for m in seen]).value / candidate.batch_size
    means = [m.load.response.mean_ns / 1e6 for m in seen if m.load.response is not None]
    open_loop = seen[0].config.load.load.open_loop
    usable = requests > 0 and bool(means)
    in_flight = requests * sum(means) / len(means) / 1000 if open_loop and means else load
    eligible = usable and not any(_spoiled(m) for m in seen)
    return Level(candidate, load, tuple(seen), figures, requests, in_flight, usable, eligible)


def _throughput(measurement: Measurement) -> Estimate:
    rate = measurement.load.throughput
    return Estimate(rate.per_second, rate.low, rate.high)


def _spoiled(measurement: Measurement) -> bool:
    load = measurement.load
    return load.verdict == "overloaded" or load.client.bound or load.incomplete


def keeps(level: Level, budgets: Sequence[Budget]) -> bool:
    """By the pooled figures. A limit on something that was not measured can't steer a search."""
    return level.eligible and all(_over(level.figures.get(b.metric), b, "value") <= 0 for b in budgets)


def secures(level: Level, budgets: Sequence[Budget]) -> bool:
    """By the bound of each interval that lies on the limit's far side."""
    return level.eligible and all(_over(level.figures.get(b.metric), b, "far") <= 0 for b in budgets)


def clearly_breaks(level: Level, budgets: Sequence[Budget]) -> bool:
    """Beyond doubt over a limit that more load cannot mend."""
    if not level.eligible:
        return True
    rising = [b for b in budgets if b.at_most and METRICS[b.metric].higher_is_better is not True]
    return any(_over(level.figures.get(b.metric), b, "near") > 0 for b in rising)


def _over(estimate: Estimate | None, budget: Budget, side: str) -> float:
    if estimate is None:
        return 0.0
    sign = 1.0 if budget.at_most else -1.0
    low, high = (estimate.low, estimate.high) if budget.at_most else (estimate.high, estimate.low)
    match side:
        case "far":
            bound = estimate.value if high is None else high
        case "near" if low is None:
            factor = _CLEARLY_OVER if estimate.supported else _CLEARLY_OVER_UNSUPPORTED
            bound = estimate.value / factor if budget.at_most else estimate.value * factor
        case "near":
            bound = estimate.value if low is None else low
        case _:
            bound = estimate.value
    return sign * (bound - budget.limit)

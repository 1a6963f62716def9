"""Told outcomes to what a search knows: per candidate the levels of load that were seen, and what failed."""

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analyzer.domain.budget import Budget
from analyzer.domain.ledger import Candidate, candidate_of
from analyzer.domain.measurement import Failure, Measurement, Outcome
from analyzer.domain.metrics import METRICS, Estimate, read_figure
from analyzer.domain.run import ServerConfig
from analyzer.search.candidates import load_of
from analyzer.stats import pool

_CLEARLY_OVER = 1.15
_CLEARLY_OVER_UNSUPPORTED = 1.5
"""A figure without an interval counts as beyond doubt above a limit when it misses it by this factor."""


@dataclass(frozen=True, slots=True)
class Level:
    """One candidate at one load, its repeats pooled. ``usable`` is false where nothing was answered.

    ``loads`` has that of every driven model; ``load``, ``requests_per_s`` and ``in_flight`` are of the first.

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
    loads: tuple[float, ...]

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


class Told:
    """Outcomes as they are told, put together to Evidence: the same for any order of telling."""

    def __init__(self, metrics: Sequence[str]) -> None:
        self._metrics = metrics
        self._outcomes: dict[str, Outcome] = {}
        self._groups: dict[tuple[Candidate, tuple[float, ...]], list[str]] = {}
        self._levels: dict[tuple[Candidate, tuple[float, ...]], Level] = {}
        self._broken: dict[Candidate, list[str]] = {}
        self._counts: dict[Candidate, int] = {}
        self._newest: tuple[str, str] = ("", "")

    @property
    def newest(self) -> ServerConfig | None:
        """The server that was measured last, by the clock of whoever measured it."""
        outcome = self._outcomes.get(self._newest[1])
        return None if outcome is None else outcome.config.server

    def add(self, outcome: Outcome) -> None:
        key, candidate = outcome.config.key, candidate_of(outcome.config)
        place = (candidate, tuple(load_of(load) for load in outcome.config.loads))
        if key in self._outcomes:
            self._forget(key, place)
        self._outcomes[key] = outcome
        self._newest = max(self._newest, (outcome.measured_at, key))
        self._counts[candidate] = self._counts.get(candidate, 0) + 1
        if isinstance(outcome, Failure):
            bisect.insort(self._broken.setdefault(candidate, []), key)
        else:
            bisect.insort(self._groups.setdefault(place, []), key)
            self._levels.pop(place, None)

    def _forget(self, key: str, place: tuple[Candidate, tuple[float, ...]]) -> None:
        """A point that was measured again stands for itself no more."""
        self._counts[place[0]] -= 1
        for keys in (self._broken.get(place[0], []), self._groups.get(place, [])):
            if key in keys:
                keys.remove(key)
        self._levels.pop(place, None)

    def evidence(self) -> Evidence:
        for place, keys in self._groups.items():
            if keys and place not in self._levels:
                seen = [outcome for key in keys if isinstance(outcome := self._outcomes[key], Measurement)]
                self._levels[place] = _level(*place, seen, self._metrics)
        levels = sorted(self._levels.values(), key=lambda level: level.measurements[0].config.key)
        answered = {level.candidate for level in levels if level.usable}
        broken = {
            c: [o for key in keys if isinstance(o := self._outcomes[key], Failure)] for c, keys in self._broken.items()
        }
        return Evidence(
            tuple(levels),
            failed={c: fs[0].reason for c, fs in broken.items() if fs and c not in answered},
            broken_loads={
                c: min(load_of(f.config.load) for f in fs) for c, fs in broken.items() if fs and c in answered
            },
            keys=frozenset(self._outcomes),
            point_counts=dict(self._counts),
        )


def gather(outcomes: Iterable[Outcome], metrics: Sequence[str]) -> Evidence:
    """The same for any order of telling."""
    told = Told(metrics)
    for outcome in outcomes:
        told.add(outcome)
    return told.evidence()


def _level(candidate: Candidate, loads: tuple[float, ...], seen: list[Measurement], metrics: Sequence[str]) -> Level:
    figures = {}
    for name in metrics:
        read = [estimate for m in seen if (estimate := read_named(name, m)) is not None]
        if read:
            figures[name] = pool(read)
    requests = pool([_throughput(m) for m in seen]).value / candidate.batch_size
    means = [m.load.response.mean_ns / 1e6 for m in seen if m.load.response is not None]
    open_loop = seen[0].config.load.load.open_loop
    usable = requests > 0 and bool(means)
    in_flight = requests * sum(means) / len(means) / 1000 if open_loop and means else loads[0]
    eligible = usable and not any(_spoiled(m) for m in seen)
    return Level(candidate, loads[0], tuple(seen), figures, requests, in_flight, usable, eligible, loads)


def read_named(figure: str, measurement: Measurement) -> Estimate | None:
    """A figure by its name, which says the model where it is of one."""
    model, _, metric = figure.rpartition(":")
    return read_figure(metric, measurement, model)


def _throughput(measurement: Measurement) -> Estimate:
    rate = measurement.load.throughput
    return Estimate(rate.per_second, rate.low, rate.high)


def _spoiled(measurement: Measurement) -> bool:
    return any(load.verdict == "overloaded" or load.client.bound or load.incomplete for load in measurement.loads)


def keeps(level: Level, budgets: Sequence[Budget]) -> bool:
    """By the pooled figures. A limit on something that was not measured can't steer a search."""
    return level.eligible and all(_over(level.figures.get(b.figure), b, "value") <= 0 for b in budgets)


def secures(level: Level, budgets: Sequence[Budget]) -> bool:
    """By the bound of each interval that lies on the limit's far side."""
    return level.eligible and all(_over(level.figures.get(b.figure), b, "far") <= 0 for b in budgets)


def clearly_breaks(level: Level, budgets: Sequence[Budget]) -> bool:
    """Beyond doubt over a limit that more load cannot mend."""
    if not level.eligible:
        return True
    rising = [b for b in budgets if b.at_most and METRICS[b.metric].higher_is_better is not True]
    return any(_over(level.figures.get(b.figure), b, "near") > 0 for b in rising)


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

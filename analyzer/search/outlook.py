"""Evidence to an outlook: how good each candidate can still turn out, and at which load that would show."""

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.budget import Budget
from analyzer.domain.ledger import Candidate
from analyzer.domain.space import LoadRange
from analyzer.search import surrogate, verdict
from analyzer.search.candidates import highest, lowest
from analyzer.search.evidence import Evidence, Level
from analyzer.search.patience import barren
from analyzer.search.problem import Problem, direction
from analyzer.search.prospect import Prospect, boldest
from analyzer.search.queueing import Array
from analyzer.search.start_odds import StartOdds
from analyzer.search.surrogate import Figure
from analyzer.search.twins import NEAR_RATIO, Twins
from analyzer.search.verdict import Verdict
from analyzer.stats import below

FLAT_RATIO = 0.005
"""Where a higher load improves the objective by less than this, the lower load is the better answer: the knee."""

WORTH_RATIO = 0.006
"""Exploring ends when no candidate is expected to improve on the best by more than this."""

MOST_LEVELS = 8
"""Levels after which exploring one candidate further is over."""

_FAR_SD = 4.0
"""A limit is not what holds a load down that is forecast to keep it by so much."""

_ALIKE = 0.25
"""How much smaller the doubt is about a candidate that only a limit on batches which no batch reaches sets apart."""

_MUCH_DOUBT = 0.2
"""Standard deviation beyond which a forecast is no guide to the load at which a candidate is at its best."""

_BOLDER = 1.5
"""How much more there must be to gain at a load that is not the forecast's choice."""


class Outlook:
    """One look at everything told so far; made anew when something is told. ``earlier`` saves judging levels again."""

    def __init__(self, problem: Problem, evidence: Evidence, earlier: "Outlook | None" = None) -> None:
        self.problem = problem
        self.evidence = evidence
        self.loads = _grid(problem.load, [level.load for level in evidence.levels])
        self._rows = rows = {candidate: row for row, candidate in enumerate(problem.candidates)}
        self.levels: list[list[Level]] = [[] for _ in problem.candidates]
        for level in evidence.levels:
            if level.candidate in rows:
                self.levels[rows[level.candidate]].append(level)
        known = [level for levels in self.levels for level in levels]
        self._verdicts: dict[int, Verdict] = verdict.judge(known, problem, earlier._verdicts if earlier else {})
        slots = [problem.slots[rows[level.candidate]] for level in known]
        open_loop = problem.load.kind != "concurrency"
        fitted = surrogate.fit(known, slots, problem.metrics, open_loop)
        self.figures = fitted.forecast(problem.slots, self.loads * problem.load.requests_each)
        self.score, self.score_sd = self._scores()
        self.kept_z = self._margins()
        self._noise = verdict.noise_of_one_point(self._verdicts.values())
        self._twins = Twins(problem.slots, slots, known, self._tells_batches_apart())

    def _scores(self) -> tuple[Array, Array]:
        total, variance = np.zeros(self.kept_shape), np.zeros(self.kept_shape)
        for objective in self.problem.objectives:
            figure = self.figures.get(objective.figure)
            if figure is not None:
                share = objective.weight / self.problem.total_weight
                total = total + share * direction(objective) * figure.mean
                variance = variance + (share * figure.sd) ** 2
        return total, np.sqrt(variance)

    def _tells_batches_apart(self) -> bool:
        """Where a larger limit on batches shows although none gets as large: in memory, or under bursts."""
        speed = all(name == "throughput" or name.endswith("_ms") for name in self.problem.metrics)
        return not speed or self.problem.load.kind != "concurrency"

    @property
    def kept_shape(self) -> tuple[int, int]:
        return len(self.problem.candidates), len(self.loads)

    def _margins(self) -> Array:
        """Standard deviations to the nearest limit, negative beyond it."""
        margin = np.full(self.kept_shape, 10.0)
        for budget in self.problem.budgets:
            figure = self.figures.get(budget.figure)
            if figure is not None and budget.limit > 0:
                margin = np.minimum(margin, _margin(figure, budget))
        return margin

    @cached_property
    def prospects(self) -> list[Prospect]:
        """Of every candidate that has not failed."""
        below: Array = np.array([self._next_below(row) for row in range(len(self.levels))])
        allowed: NDArray[np.bool_] = self.loads[None, :] < below[:, None]
        kept: NDArray[np.bool_] = np.logical_and(allowed, self.kept_z >= 0)
        scores = np.where(kept, self.score, -np.inf)
        any_kept: NDArray[np.bool_] = np.asarray(kept.any(axis=1))
        any_allowed: NDArray[np.bool_] = np.asarray(allowed.any(axis=1))
        knee = np.argmax(scores >= scores.max(axis=1, keepdims=True) - FLAT_RATIO, axis=1)
        nearest = np.argmax(np.where(allowed, self.kept_z, -np.inf), axis=1)
        columns = np.where(any_kept, knee, nearest)
        bold = columns
        if self.incumbent is not None:
            bold = boldest(self.score - self.incumbent, self.score_sd, self.kept_z, allowed, self._noise)
        found = []
        for row, candidate in enumerate(self.problem.candidates):
            if candidate not in self.evidence.failed:
                prospect = self._prospect(row, int(columns[row]), bool(any_kept[row]), bool(any_allowed[row]))
                if columns[row] != bold[row] and self.score_sd[row, bold[row]] > _MUCH_DOUBT:
                    bolder = self._prospect(row, int(bold[row]), False, bool(any_allowed[row]))
                    if bolder.gain(self.incumbent) > _BOLDER * prospect.gain(self.incumbent):
                        prospect = bolder
                found.append(prospect)
        return found

    def _prospect(self, row: int, column: int, any_kept: bool, any_allowed: bool) -> Prospect:
        levels = self.levels[row]
        load = float(self.loads[column])
        alike = self._twins.alike(row, load)
        sd = float(self.score_sd[row, column]) + 0.5 * self._limit_sd(row, column)
        return Prospect(
            row,
            self.problem.candidates[row],
            load,
            float(self.score[row, column]),
            sd * (1.0 if alike == "apart" else _ALIKE),
            1.0 if any_kept else self._p_kept(row, column, any_allowed),
            1.0 if levels else self._start_odds.of(row),
            any_allowed and len(levels) < MOST_LEVELS and alike != "same" and not self._known(levels, load),
            alike,
            self._noise,
        )

    def _p_kept(self, row: int, column: int, any_allowed: bool) -> float:
        """The chance that a candidate keeps the limits which no forecast load of it does."""
        if any(self.keeps(level) and level.load >= self.loads[column] for level in self.levels[row]):
            return 1.0
        return below(float(self.kept_z[row, column])) if any_allowed else 0.0

    def ceiling(self, row: int) -> float:
        """The lowest load known to be too high: clearly over a limit, with no kept load above it."""
        kept = [level.load for level in self.levels[row] if self.keeps(level)]
        broken = [self._too_much(level) for level in self.levels[row] if self._verdicts[id(level)].broken]
        broke = self.evidence.broken_loads.get(self.problem.candidates[row], math.inf)
        return min((load for load in broken if load > max(kept, default=0.0)), default=broke)

    def _too_much(self, level: Level) -> float:
        """The load; of a server that fell behind a rate, the rate that it carried."""
        fell_behind = self.problem.load.kind == "request_rate" and level.usable and not level.eligible
        return min(level.load, level.requests_per_s) if fell_behind else level.load

    def _next_below(self, row: int) -> float:
        """Where to stay below next: after each load that proved too high twice as far below the lowest of them.

        A forecast that is wrong about a steep edge would creep down to it step by step.
        """
        ceiling = self.ceiling(row)
        too_high = sum(level.load >= ceiling for level in self.levels[row])
        return ceiling * (1 - NEAR_RATIO) ** (2**too_high - 2) if too_high > 1 else ceiling

    def _known(self, levels: Sequence[Level], load: float) -> bool:
        for level in levels:
            near = abs(math.log(load / level.load)) < NEAR_RATIO
            if level.load == load or (near and self.keeps(level)):
                return True
        return False

    def _limit_sd(self, row: int, column: int) -> float:
        """How far the load at the limit is uncertain: the objective moves by about half of that. None is near: not."""
        if self.kept_z[row, column] > _FAR_SD:
            return 0.0
        binding = [self.figures[b.figure] for b in self.problem.budgets if b.figure in self.figures]
        return max((float(figure.sd[row, column]) for figure in binding), default=0.0)

    @cached_property
    def _start_odds(self) -> StartOdds:
        failed = self.evidence.failed
        fell = [candidate in failed for candidate in self.problem.candidates]
        return StartOdds(self.problem.slots, fell, [bool(levels) for levels in self.levels])

    @cached_property
    def best_kept(self) -> list[Level]:
        """The best level within the limits of each candidate, best first."""
        found = []
        for levels in self.levels:
            judged = [self._verdicts[id(level)] for level in levels]
            scored = [(v.score, v.level) for v in judged if v.kept and v.score is not None]
            if scored:
                found.append(max(scored, key=lambda item: (item[0], -item[1].load)))
        return [level for _, level in sorted(found, key=lambda item: -item[0])]

    def keeps(self, level: Level) -> bool:
        return self._verdicts[id(level)].kept

    @cached_property
    def incumbent(self) -> float | None:
        """The best score within the limits, smoothed by the forecast: the luckiest of noisy points is not the best."""
        kept = [(row, x.load) for row, levels in enumerate(self.levels) for x in levels if x.usable and self.keeps(x)]
        if not kept:
            return None
        rows, loads = zip(*kept)
        return float(self.score[list(rows), np.searchsorted(self.loads, loads)].max())

    @cached_property
    def barren(self) -> int:
        """How many points were measured since the best within the limits last rose by what matters."""
        return barren([(v.level, v.score if v.kept else None) for v in self._verdicts.values()])

    def at(self, row: int, load: float) -> float:
        right = min(int(np.searchsorted(self.loads, load)), len(self.loads) - 1)
        nearer = right - (right > 0 and load - self.loads[right - 1] < self.loads[right] - load)
        return float(self.score[row, nearer])

    @cached_property
    def has_batched(self) -> bool:
        """Whether any server was seen with more in flight than it has instances, and could batch them."""
        pairs = [(self.problem.slots[row], level) for row, levels in enumerate(self.levels) for level in levels]
        return any(s.batch_limit > 1 and level.usable and level.in_flight > s.instances for s, level in pairs)

    def margin(self, row: int, load: float) -> float:
        """Standard deviations to the nearest limit at about a load, negative beyond it."""
        return float(self.kept_z[row, int(np.argmin(np.abs(self.loads - load)))])

    def row(self, candidate: Candidate) -> int:
        return self._rows[candidate]


def _margin(figure: Figure, budget: Budget) -> Array:
    distance = math.log(budget.limit) - figure.mean
    result: Array = (distance if budget.at_most else -distance) / np.maximum(figure.sd, 1e-6)
    return result


def _grid(load: LoadRange, measured: Sequence[float]) -> Array:
    """Whole numbers while they are coarse, then steps of 1.5 %; every measured load is among them."""
    low, high = lowest(load), highest(load)
    within = [value for value in measured if low <= value <= high]
    count = max(2, math.ceil(math.log(high / low) / NEAR_RATIO) + 1) if high > low else 1
    steps: NDArray[np.float64] = np.geomspace(low, high, min(count, 600))
    if load.is_whole:
        return np.unique(np.concatenate([np.clip(np.round(steps), low, high), within]))
    # Four significant digits, so that a rate reads like one; the bounds stay as they were given.
    rounded = [float(f"{value:.4g}") for value in steps[1:-1]]
    return np.unique(np.clip(np.concatenate([[low, high], rounded, within]), low, high))

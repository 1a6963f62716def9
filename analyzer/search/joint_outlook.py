"""Evidence on models that share a device to the loads at which each candidate is at its best, and how good that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.budget import Budget, Objective
from analyzer.search import shared_device
from analyzer.search.candidates import highest, lowest
from analyzer.search.evidence import Evidence, Level, keeps
from analyzer.search.outlook import FLAT_RATIO
from analyzer.search.problem import JointProblem, direction
from analyzer.search.prospect import Prospect, below
from analyzer.search.queueing import Array
from analyzer.search.shared_device import Rows
from analyzer.search.surrogate import most_telling
from analyzer.search.twins import NEAR_RATIO

MOST_LEVELS = 8
_MOST_FITTED = 60
"""Levels that the fit looks at: beyond that they cost time and teach little."""

_DOUBT = 2.0
"""How much surer of itself the forecast is than it should be: how models slow each other has many forms."""

_LOOKED_AT = 60
"""Candidates whose loads are refined, the most promising first: the others are too far behind to be measured next."""


@dataclass(frozen=True, slots=True)
class JointProspect:
    """A prospect with the loads, in flight, of all models."""

    prospect: Prospect
    in_flight: tuple[float, ...]
    loads: tuple[float, ...]


class JointOutlook:
    """One look at everything told so far."""

    def __init__(self, problem: JointProblem, evidence: Evidence) -> None:
        self.problem = problem
        self.evidence = evidence
        rows = problem.rows
        self.levels: dict[int, list[Level]] = {}
        for level in evidence.levels:
            if level.candidate in rows:
                self.levels.setdefault(rows[level.candidate], []).append(level)
        usable = [(row, level) for row, levels in self.levels.items() for level in levels if self._is_whole(level)]
        usable = [usable[i] for i in most_telling([self._throughput(level) for _, level in usable], _MOST_FITTED)]
        in_flight = np.array([self._in_flight(level) for _, level in usable]).reshape(len(usable), self.model_count)
        self.device = shared_device.fit(problem.ground, usable, in_flight, problem.metrics)
        self.best_kept = self._best_kept()
        self.incumbent = self._incumbent(usable, in_flight)
        self.beside = self._beside_the_leader()
        self.prospects, self.beside_idle = self._prospects()

    @property
    def model_count(self) -> int:
        return len(self.problem.loads)

    def _beside_the_leader(self) -> frozenset[int]:
        """Candidates that differ from the leader in one model's instances, by one step."""
        if not self.best_kept:
            return frozenset()
        row = self.problem.rows[self.best_kept[0].candidate]
        found, ground = set(), self.problem.ground
        for slots in ground.slots:
            counts = sorted({s.instances for s in slots})
            at = counts.index(slots[row].instances)
            for count in counts[max(at - 1, 0) : at + 2]:
                wanted = replace(slots[row], instances=count)
                place = tuple(wanted if each is slots else each[row] for each in ground.slots)
                found.add(ground.rows.get(place, row))
        return frozenset(found - {row})

    def _throughput(self, level: Level) -> float:
        return sum(level.figures[f"{model}:throughput"].value for model in self.problem.ground.models)

    def _is_whole(self, level: Level) -> bool:
        return level.usable and all(
            f"{model}:throughput" in level.figures and level.figures[f"{model}:throughput"].value > 0
            for model in self.problem.ground.models
        )

    def _in_flight(self, level: Level) -> tuple[float, ...]:
        """As asked for, or by Little's law."""
        if not self.problem.open_loop:
            return level.loads
        measured = level.measurements[0].loads
        return tuple(
            max(1e-3, rate * (load.response.mean_ns / 1e9 if load.response else 1.0) / level.candidate.batch_size)
            for load, model in zip(measured, self.problem.ground.models)
            for rate in [level.figures[f"{model}:throughput"].value]
        )

    def _best_kept(self) -> list[Level]:
        found = []
        for levels in self.levels.values():
            scored = [(s, x) for x in levels if self.keeps(x) and (s := self.problem.score(x)) is not None]
            if scored:
                found.append(max(scored, key=lambda item: (item[0], [-load for load in item[1].loads])))
        return [level for _, level in sorted(found, key=lambda item: -item[0])]

    def keeps(self, level: Level) -> bool:
        return keeps(level, self.problem.budgets)

    def _incumbent(self, usable: list[tuple[int, Level]], in_flight: Array) -> float | None:
        """Smoothed by the forecast: the luckiest of noisy points is not the best."""
        kept = [place for place, (_, level) in enumerate(usable) if self.keeps(level)]
        if not kept:
            return None
        rows = np.array([usable[place][0] for place in kept], dtype=np.intp)
        score, _, _, _ = self.judged(rows, in_flight[kept])
        return float(score.max())

    def judged(self, rows: Rows, loads: Array) -> tuple[Array, Array, Array, Array]:
        """Score and its standard deviation, standard deviations to the nearest limit, and the limit's uncertainty."""
        offsets, sds = self.device.offsets(rows, loads)
        rates, means = self.device.quick(rows, loads, offsets)
        score, sd = self._scored(rates, means, rows, loads, sds)
        margin, limit_sd = np.full(len(rows), 10.0), np.zeros(len(rows))
        for budget in self.problem.budgets:
            figure = self._figure(budget, rates, means, rows, loads, sds)
            if figure is None or budget.limit <= 0:
                continue
            middle, spread = figure
            away = (math.log(budget.limit) - middle) * (1 if budget.at_most else -1)
            margin = np.minimum(margin, away / np.maximum(spread, 1e-3))
            limit_sd = np.maximum(limit_sd, spread)
        return score, sd, margin, limit_sd

    def _scored(
        self, rates: list[Array], means: list[Array], rows: Rows, loads: Array, sds: Array | None
    ) -> tuple[Array, Array]:
        total, variance = np.zeros(rates[0].shape), np.zeros(rates[0].shape)
        weights = sum(o.weight for o in self.problem.objectives) or 1.0
        for objective in self.problem.objectives:
            figure = self._figure(objective, rates, means, rows, loads, sds)
            if figure is not None:
                total = total + objective.weight / weights * direction(objective) * figure[0]
                variance = variance + (objective.weight / weights * figure[1]) ** 2
        return total, np.sqrt(variance)

    def _figure(  # noqa: PLR0917 - one cell of a forecast has as many parts
        self,
        wanted: Objective | Budget,
        rates: list[Array],
        means: list[Array],
        rows: Rows,
        loads: Array,
        sds: Array | None,
    ) -> tuple[Array, Array] | None:
        """The logarithm of a figure and its spread; None where nothing is known of it. Without ``sds`` at a glance."""
        chosen = [i for i, model in enumerate(self.problem.ground.models) if wanted.model in ("", model)]
        spread = np.zeros(rates[0].shape) if sds is None else sds[..., chosen].max(axis=-1)
        if wanted.metric == "throughput":
            batch = self.problem.ground.points(0, rows, loads).client_batch
            total = np.sum([rates[i] for i in chosen], axis=0)
            if sds is not None:
                parts = np.stack([rates[i] / total * sds[..., i] for i in chosen], axis=-1)
                spread = np.sqrt((parts**2).sum(axis=-1))
            return np.log(total * batch), spread
        if wanted.metric.endswith("_ms"):
            each = [shared_device.latency(self.device, i, wanted.metric, means[i]) for i in chosen]
            return np.log(np.max(each, axis=0)), spread
        if wanted.metric not in self.device.others:
            return None
        if sds is None:
            return np.full(rates[0].shape, self.device.others[wanted.metric][0]), spread
        return self.device.learnt(wanted.metric, rows, loads)

    def _at_a_glance(self, rows: Rows, loads: Array, offsets: Array | None = None) -> tuple[Array, NDArray[np.bool_]]:
        """Score, and whether the limits are kept, of many cells."""
        rates, means = self.device.quick(rows, loads, offsets)
        score, _ = self._scored(rates, means, rows, loads, None)
        over = np.zeros(score.shape)
        for budget in self.problem.budgets:
            figure = self._figure(budget, rates, means, rows, loads, None)
            if figure is not None and budget.limit > 0:
                over = np.maximum(over, (figure[0] - math.log(budget.limit)) * (1 if budget.at_most else -1))
        kept: NDArray[np.bool_] = np.less_equal(over, 0)
        # What keeps no limit is ordered by how far off it is, behind all that does.
        return np.where(kept, score, -1e3 - over), kept

    def _prospects(self) -> tuple[list[JointProspect], list[JointProspect]]:
        """Of the most promising candidates that have not failed; and for each model the best of it beside idle ones."""
        rows, loads, alone = self._coarse()
        offsets, _ = self.device.offsets(rows, loads)
        for _ in range(2):
            for model in range(self.model_count):
                loads = self._refined(rows, loads, model, offsets)
        beside_idle = []
        for model, (row, at) in enumerate(alone):
            own = np.array([row], dtype=np.intp)
            offset, _ = self.device.offsets(own, at[None, :])
            beside_idle += self._judged_prospects(own, self._refined(own, at[None, :], model, offset))
        return self._judged_prospects(rows, loads), beside_idle

    def _judged_prospects(self, rows: Rows, loads: Array) -> list[JointProspect]:
        score, sd, margin, limit_sd = self.judged(rows, loads)
        seen = set(self._behaviours(self.device.seen_rows, self.device.seen_loads))
        new = [behaviour not in seen for behaviour in self._behaviours(rows, loads)]
        return [
            self._prospect(int(row), loads[i], (score[i], sd[i], margin[i], limit_sd[i]), new[i])
            for i, row in enumerate(rows)
        ]

    def _coarse(self) -> tuple[Rows, Array, list[tuple[int, Array]]]:
        """The best joint load of each candidate on a coarse grid; of all candidates those worth a closer look."""
        failed = self.evidence.failed
        broken = [self.problem.rows[candidate] for candidate in failed if candidate in self.problem.rows]
        rows = np.delete(np.arange(len(self.problem.candidates), dtype=np.intp), broken)
        cells = self.problem.ladders.cells(rows)
        score, _ = self._at_a_glance(rows[:, None], cells)
        column = np.argmax(score, axis=1)
        at, best = cells[np.arange(len(rows)), column], score[np.arange(len(rows)), column]
        seen = {i for i, row in enumerate(rows) if row == 0 or row in self.levels or row in self.beside}
        behaviours = self._behaviours(rows, at)
        taken = {behaviours[i] for i in seen}
        enough = len(taken) + _LOOKED_AT
        for i in map(int, np.argsort(-best, kind="stable")):
            if len(taken) >= enough:
                break
            if behaviours[i] not in taken:
                taken.add(behaviours[i])
                seen.add(i)
        chosen = np.array(sorted(seen), dtype=np.intp)
        return rows[chosen], at[chosen], self._alone(rows, cells, score)

    def _alone(self, rows: Rows, cells: Array, score: Array) -> list[tuple[int, Array]]:
        """For each model the cell that is best for it with the others as idle as their ranges allow."""
        idle: NDArray[np.bool_] = cells <= np.array([self.problem.ladders.low(m) for m in range(self.model_count)])
        found = []
        for model in range(self.model_count):
            beside = np.delete(idle, model, axis=-1).all(axis=-1)
            if beside.any():
                row, column = np.unravel_index(int(np.argmax(np.where(beside, score, -np.inf))), score.shape)
                found.append((int(rows[row]), cells[row, column]))
        return found

    def _behaviours(self, rows: Rows, loads: Array) -> list[tuple[float, ...]]:
        """Equal where servers differ only in batches that the load never fills."""
        columns: list[Array] = []
        for model, kinds in enumerate(self.problem.ground.kinds):
            points = self.problem.ground.points(model, rows, loads)
            columns += [points.instances, points.batch(), points.in_flight, points.client_batch, kinds[rows]]
        return [tuple(row) for row in np.stack(columns, axis=1).tolist()]

    def _refined(self, rows: Rows, loads: Array, model: int, offsets: Array) -> Array:
        """The best load of one model with the others held, the lowest of those that are as good."""
        fine = self.problem.ladders.fine(model)
        tried = np.repeat(loads[:, None, :], len(fine), axis=1)
        tried[:, :, model] = fine
        score, _ = self._at_a_glance(rows[:, None], tried, offsets[:, None, :])
        column = np.argmax(score >= score.max(axis=1, keepdims=True) - FLAT_RATIO / 2, axis=1)
        result = loads.copy()
        result[:, model] = fine[column]
        return result

    def _prospect(
        self, row: int, in_flight: Array, judged: tuple[float, float, float, float], new: bool
    ) -> JointProspect:
        score, sd, margin, limit_sd = judged
        levels = self.levels.get(row, [])
        loads = self._asked(row, in_flight)
        p_kept = 1.0 if margin >= 0 or any(map(self.keeps, levels)) else below(margin)
        fresh = new and len(levels) < MOST_LEVELS and not any(self._is_near(level, loads) for level in levels)
        candidate = self.problem.candidates[row]
        prospect = Prospect(
            row,
            candidate,
            loads[0],
            float(score),
            float(_DOUBT * sd + 0.5 * limit_sd),
            p_kept,
            self._p_loads(row),
            fresh,
        )
        return JointProspect(prospect, tuple(map(float, in_flight)), loads)

    def _asked(self, row: int, in_flight: Array) -> tuple[float, ...]:
        """What load is put on each model so that as many are in flight."""
        if not self.problem.open_loop:
            return tuple(map(float, in_flight))
        at = np.array([row], dtype=np.intp)
        rates, _ = self.device.quick(at, in_flight[None, :], self.device.offsets(at, in_flight[None, :])[0])
        within = [min(max(float(r[0]), lowest(x)), highest(x)) for r, x in zip(rates, self.problem.loads)]
        return tuple(float(f"{rate:.4g}") for rate in within)

    def _is_near(self, level: Level, loads: Sequence[float]) -> bool:
        apart = max(abs(math.log(a / b)) for a, b in zip(level.loads, loads))
        return apart == 0 or (apart < NEAR_RATIO and self.keeps(level))

    def _p_loads(self, row: int) -> float:
        """Bigger in every model than one that failed to start is unlikely to start."""
        if row in self.levels or not self.evidence.failed:
            return 1.0
        failed = [self.problem.rows[c] for c in self.evidence.failed if c in self.problem.rows]
        size = self._size(row)
        return 0.15 if any((size >= self._size(other)).all() for other in failed) else 1.0

    def _size(self, row: int) -> NDArray[np.int_]:
        slots = [slots[row] for slots in self.problem.ground.slots]
        return np.array([value for s in slots for value in (s.instances, max(s.max_batch, 1))])

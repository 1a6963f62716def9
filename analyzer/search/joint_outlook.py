"""Evidence on models that share a device to the loads at which each candidate is at its best, and how good that is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analyzer.search import shared_device, verdict
from analyzer.search.candidates import highest, lowest
from analyzer.search.evidence import Evidence, Level
from analyzer.search.joint_forecast import JointForecast
from analyzer.search.joint_ground import Rows
from analyzer.search.outlook import FLAT_RATIO
from analyzer.search.patience import barren
from analyzer.search.problem import JointProblem
from analyzer.search.prospect import Prospect
from analyzer.search.queueing import Array
from analyzer.search.settle import MOST_LEADERS
from analyzer.search.shared_device import Alone
from analyzer.search.surrogate import most_telling
from analyzer.search.twins import NEAR_RATIO
from analyzer.search.verdict import Verdict, verdict_of
from analyzer.stats import below

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


@dataclass(frozen=True, slots=True)
class Known:
    """A level, held so that its id stays its own: its candidate's row, -1 of none, and what all models answered
    together, 0 where one of them did not.
    """

    level: Level
    row: int
    throughput: float
    verdict: Verdict


class JointOutlook:
    """One look at everything told so far; ``earlier`` saves judging levels again."""

    def __init__(self, problem: JointProblem, evidence: Evidence, earlier: "JointOutlook | None" = None) -> None:
        self.problem = problem
        self.evidence = evidence
        before = earlier._known if earlier else {}
        self._known: dict[int, Known] = {}
        self.levels: dict[int, list[Level]] = {}
        for level in evidence.levels:
            each = before.get(id(level)) or self._known_of(level)
            if each.row >= 0:
                self._known[id(level)] = each
                self.levels.setdefault(each.row, []).append(level)
        known = list(self._known.values())
        self._verdicts = [each.verdict for each in known]
        whole = [each for each in known if each.throughput > 0]
        telling = most_telling([each.throughput for each in whole], _MOST_FITTED)
        usable = [(whole[i].row, whole[i].level) for i in telling]
        in_flight = np.array([self._in_flight(level) for _, level in usable]).reshape(len(usable), self.model_count)
        self.device = shared_device.fit(problem.ground, usable, in_flight, problem.metrics, problem.open_loop)
        self._forecast = JointForecast(problem, self.device)
        self._noise = verdict.noise_of_one_point(self._verdicts)
        self.seen_loads = in_flight
        self._seen_rows = np.array([row for row, _ in usable], dtype=np.intp)
        self.best_kept = self._best_kept()
        self.incumbent = self._incumbent(usable, in_flight)
        leaders = [problem.rows[level.candidate] for level in self.best_kept[:MOST_LEADERS]]
        self._leading = set(leaders)
        self.beside = problem.ground.beside(leaders[0]) if leaders else frozenset()
        self.prospects, self.beside_idle = self._prospects()

    @property
    def model_count(self) -> int:
        return len(self.problem.loads)

    def _known_of(self, level: Level) -> Known:
        figures = [level.figures.get(f"{model}:throughput") for model in self.problem.ground.models]
        rates = [figure.value for figure in figures if figure is not None and figure.value > 0]
        is_whole = level.usable and len(rates) == self.model_count
        return Known(
            level,
            self.problem.rows.get(level.candidate, -1),
            sum(rates) if is_whole else 0.0,
            verdict_of(level, self.problem),
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
            judged = [self._known[id(level)].verdict for level in levels]
            scored = [(v.score, v.level) for v in judged if v.kept and v.score is not None]
            if scored:
                found.append(max(scored, key=lambda item: (item[0], [-load for load in item[1].loads])))
        return [level for _, level in sorted(found, key=lambda item: -item[0])]

    def keeps(self, level: Level) -> bool:
        return self._known[id(level)].verdict.kept

    @cached_property
    def barren(self) -> int:
        """How many points were measured since the best within the limits last rose by what matters."""
        return barren([(v.level, v.score if v.kept else None) for v in self._verdicts])

    def _incumbent(self, usable: list[tuple[int, Level]], in_flight: Array) -> float | None:
        """Smoothed by the forecast: the luckiest of noisy points is not the best."""
        kept = [place for place, (_, level) in enumerate(usable) if self.keeps(level)]
        if not kept:
            return None
        rows = np.array([usable[place][0] for place in kept], dtype=np.intp)
        return float(self._forecast.judged(rows, in_flight[kept]).score.max())

    def _prospects(self) -> tuple[list[JointProspect], list[JointProspect]]:
        """Of the most promising candidates that have not failed; and for each model the best of it beside idle ones."""
        rows, loads, alone = self._coarse()
        count = len(rows)
        rows = np.concatenate([rows, np.array([row for row, _ in alone], dtype=np.intp)])
        loads = np.concatenate([loads, np.array([at for _, at in alone]).reshape(len(alone), self.model_count)])
        offsets, _ = self.device.offsets(rows, loads)
        for _ in range(2):
            for model in range(self.model_count):
                loads[:count] = self._refined(rows[:count], loads[:count], model, offsets[:count])
        for model in range(len(alone)):
            own = slice(count + model, count + model + 1)
            loads[own] = self._refined(rows[own], loads[own], model, offsets[own])
        found = self._judged_prospects(rows, loads)
        return found[:count], found[count:]

    def _judged_prospects(self, rows: Rows, loads: Array) -> list[JointProspect]:
        judged = self._forecast.judged(rows, loads)
        columns = np.stack([judged.score, judged.sd, judged.margin, judged.limit_sd], axis=1)
        seen = set(self._behaviours(self._seen_rows, self.seen_loads))
        new = [behaviour not in seen for behaviour in self._behaviours(rows, loads)]
        asked = self._asked(rows, loads)
        return [
            self._prospect(row, tuple(at), asked[i], tuple(figures), new[i])
            for i, (row, at, figures) in enumerate(zip(rows.tolist(), loads.tolist(), columns.tolist()))
        ]

    def _coarse(self) -> tuple[Rows, Array, list[tuple[int, Array]]]:
        """The best joint load of each candidate on a coarse grid; of all candidates those worth a closer look."""
        failed = self.evidence.failed
        broken = [self.problem.rows[candidate] for candidate in failed if candidate in self.problem.rows]
        rows = np.delete(np.arange(len(self.problem.candidates), dtype=np.intp), broken)
        ladders = self.problem.ladders
        alone = [self._along_the_ladder(model, rows) for model in range(self.model_count)]
        score = self._forecast.at_a_glance(rows[:, None], alone)
        column = np.argmax(score, axis=1)
        at, best = ladders.loads(rows, column), score[np.arange(len(rows)), column]
        worth_a_look = np.argsort(-best, kind="stable").tolist()
        kept = {i for i, row in enumerate(rows.tolist()) if row == 0 or row in self.beside or row in self._leading}
        measured = [i for i in worth_a_look if int(rows[i]) in self.levels]
        kept.update(measured[:_LOOKED_AT])
        behaviours = self._behaviours(rows, at)
        taken = {behaviours[i] for i in kept}
        enough = len(taken) + _LOOKED_AT
        for i in worth_a_look:
            if len(taken) >= enough:
                break
            if behaviours[i] not in taken:
                taken.add(behaviours[i])
                kept.add(i)
        chosen = np.array(sorted(kept), dtype=np.intp)
        return rows[chosen], at[chosen], self._best_alone(rows, score)

    def _along_the_ladder(self, model: int, rows: Rows) -> Alone:
        ladder = self.problem.ladders.coarse[model]
        table = self.device.alone(model, ladder.first[:, None], ladder.steps)
        return table.spread(ladder.of[rows], self.problem.ladders.columns[:, model])

    def _best_alone(self, rows: Rows, score: Array) -> list[tuple[int, Array]]:
        """For each model the cell that is best for it with the others as idle as their ranges allow."""
        idle = [self.problem.ladders.idle(model, rows) for model in range(self.model_count)]
        found = []
        for model in range(self.model_count):
            beside = np.logical_and.reduce([each for other, each in enumerate(idle) if other != model])
            if np.any(beside):
                row, column = np.unravel_index(int(np.argmax(np.where(beside, score, -np.inf))), score.shape)
                found.append((int(rows[row]), self.problem.ladders.loads(rows[[row]], np.array([column]))[0]))
        return found

    def _behaviours(self, rows: Rows, loads: Array) -> list[tuple[float, ...]]:
        """Equal where servers differ only in batches that the load never fills."""
        columns: list[Array] = []
        for model, kinds in enumerate(self.problem.ground.kinds):
            points = self.device.points(model, rows, loads[:, model])
            columns += [points.instances, points.batch(), points.in_flight, points.client_batch, kinds[rows]]
        return [tuple(row) for row in np.stack(columns, axis=1).tolist()]

    def serves(self, row: int, prospects: Sequence[JointProspect]) -> list[bool]:
        """Whether a candidate does the same as each prospect's at its loads, as far as limits on batches go.

        Only where they are all that sets them apart: not in memory, nor under the bursts of an open loop.
        """
        speed = all(name.endswith(("throughput", "_ms")) for name in self.problem.metrics)
        if not prospects or not speed or self.problem.open_loop or self._p_loads(row) < 1:
            return [p.prospect.row == row for p in prospects]
        loads = np.array([p.in_flight for p in prospects])
        own = self._behaviours(np.array([p.prospect.row for p in prospects], dtype=np.intp), loads)
        there = self._behaviours(np.full(len(prospects), row, dtype=np.intp), loads)
        return [a == b for a, b in zip(own, there)]

    def _refined(self, rows: Rows, loads: Array, model: int, offsets: Array) -> Array:
        """The best load of one model with the others held, the lowest of those that are as good."""
        fine = self.problem.ladders.fine(model)
        held = range(self.model_count)
        alone = [self.device.alone(m, rows[:, None], fine if m == model else loads[:, [m]]) for m in held]
        score = self._forecast.at_a_glance(rows[:, None], alone, offsets[:, None, :])
        column = np.argmax(score >= score.max(axis=1, keepdims=True) - FLAT_RATIO / 2, axis=1)
        result = loads.copy()
        result[:, model] = fine[column]
        return result

    def _prospect(
        self, row: int, in_flight: tuple[float, ...], loads: tuple[float, ...], judged: tuple[float, ...], new: bool
    ) -> JointProspect:
        score, sd, margin, limit_sd = judged
        levels = self.levels.get(row, [])
        p_kept = 1.0 if margin >= 0 or any(map(self.keeps, levels)) else below(margin)
        fresh = new and len(levels) < MOST_LEVELS and not any(self._is_near(level, loads) for level in levels)
        prospect = Prospect(
            row,
            self.problem.candidates[row],
            loads[0],
            score,
            _DOUBT * sd + 0.5 * limit_sd,
            p_kept,
            self._p_loads(row),
            fresh,
            noise=self._noise,
        )
        return JointProspect(prospect, in_flight, loads)

    def _asked(self, rows: Rows, in_flight: Array) -> list[tuple[float, ...]]:
        """What load is put on each model so that as many are in flight."""
        if not self.problem.open_loop:
            return [tuple(each) for each in in_flight.tolist()]
        rates, _ = self.device.quick(rows, in_flight, self.device.offsets(rows, in_flight)[0])
        within = [np.clip(r, lowest(x), highest(x)).tolist() for r, x in zip(rates, self.problem.loads)]
        return [tuple(float(f"{rate:.4g}") for rate in each) for each in zip(*within)]

    def _is_near(self, level: Level, loads: Sequence[float]) -> bool:
        apart = max(abs(math.log(a / b)) for a, b in zip(level.loads, loads))
        return apart == 0 or (apart < NEAR_RATIO and self.keeps(level))

    def _p_loads(self, row: int) -> float:
        """Bigger in every model than one that failed to start is unlikely to start."""
        if row in self.levels or not self.evidence.failed:
            return 1.0
        if self.problem.candidates[row] in self.evidence.failed:
            return 0.0
        failed = [self.problem.rows[c] for c in self.evidence.failed if c in self.problem.rows]
        size = self._size(row)
        return 0.15 if any((size >= self._size(other)).all() for other in failed) else 1.0

    def _size(self, row: int) -> NDArray[np.int_]:
        slots = [slots[row] for slots in self.problem.ground.slots]
        return np.array([value for s in slots for value in (s.instances, max(s.max_batch, 1))])

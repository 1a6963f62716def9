"""Models that share a device: what is forecast of them at joint loads to scores, and to the distance from limits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.budget import Budget, Objective
from analyzer.search import shared_device
from analyzer.search.joint_ground import Rows
from analyzer.search.problem import JointProblem, direction
from analyzer.search.queueing import Array
from analyzer.search.shared_device import Alone, SharedDevice

_FAR = 10.0
_LEAST_SPREAD = 1e-3


@dataclass(frozen=True, slots=True)
class Cells:
    """Candidates at joint loads: requests a second and mean latency of each model. At a glance without ``loads`` and
    ``sds``: then all that matters is which of many cells are best.
    """

    rows: Rows
    rates: list[Array]
    means: list[Array]
    loads: Array | None = None
    sds: Array | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rates[0].shape


@dataclass(frozen=True, slots=True)
class Judged:
    """``margin``: standard deviations to the nearest limit; ``limit_sd``: how unsure the limited figures are."""

    score: Array
    sd: Array
    margin: Array
    limit_sd: Array


@dataclass(frozen=True, slots=True)
class JointForecast:
    problem: JointProblem
    device: SharedDevice

    def judged(self, rows: Rows, loads: Array) -> Judged:
        offsets, sds = self.device.offsets(rows, loads)
        rates, means = self.device.quick(rows, loads, offsets)
        cells = Cells(rows, rates, means, loads, sds)
        score, sd = self._scored(cells)
        margin, limit_sd = np.full(len(rows), _FAR), np.zeros(len(rows))
        for budget in self.problem.budgets:
            figure = self._figure(budget, cells)
            if figure is not None and budget.limit > 0:
                away = (math.log(budget.limit) - figure[0]) * (1 if budget.at_most else -1)
                margin = np.minimum(margin, away / np.maximum(figure[1], _LEAST_SPREAD))
                limit_sd = np.maximum(limit_sd, figure[1])
        return Judged(score, sd, margin, limit_sd)

    def at_a_glance(self, rows: Rows, alone: Sequence[Alone], offsets: Array | None = None) -> Array:
        """Scores of many cells. What keeps no limit is ordered by how far off it is, behind all that does."""
        cells = Cells(rows, *self.device.together(alone, offsets))
        score, _ = self._scored(cells)
        over = np.zeros(cells.shape)
        for budget in self.problem.budgets:
            figure = self._figure(budget, cells)
            if figure is not None and budget.limit > 0:
                over = np.maximum(over, (figure[0] - math.log(budget.limit)) * (1 if budget.at_most else -1))
        return np.where(over <= 0, score, -1e3 - over)

    def _scored(self, cells: Cells) -> tuple[Array, Array]:
        total, variance = np.zeros(cells.shape), np.zeros(cells.shape)
        for objective in self.problem.objectives:
            figure = self._figure(objective, cells)
            if figure is not None:
                share = objective.weight / self.problem.total_weight
                total = total + share * direction(objective) * figure[0]
                variance = variance + (share * figure[1]) ** 2
        return total, np.sqrt(variance)

    def _figure(self, wanted: Objective | Budget, cells: Cells) -> tuple[Array, Array] | None:
        """The logarithm of a figure and its spread; None where nothing is known of it."""
        chosen = [i for i, model in enumerate(self.problem.ground.models) if wanted.model in ("", model)]
        if wanted.metric == "throughput":
            return self._throughput(chosen, cells)
        if wanted.metric.endswith("_ms"):
            each = [shared_device.latency(self.device, i, wanted.metric, cells.means[i]) for i in chosen]
            return np.log(_largest(each)), _widest(chosen, cells)
        if wanted.metric not in self.device.others:
            return None
        if cells.loads is None:
            return np.full(cells.shape, self.device.others[wanted.metric][0]), np.zeros(())
        return self.device.learnt(wanted.metric, cells.rows, cells.loads)

    def _throughput(self, chosen: list[int], cells: Cells) -> tuple[Array, Array]:
        """Inferences a second of the chosen models together."""
        total = cells.rates[chosen[0]]
        for other in chosen[1:]:
            total = total + cells.rates[other]
        spread: Array = np.zeros(())
        if cells.sds is not None:
            parts = np.stack([cells.rates[i] / total * cells.sds[..., i] for i in chosen], axis=-1)
            spread = np.sqrt((parts**2).sum(axis=-1))
        return np.log(total * self.problem.ground.client_batch(cells.rows)), spread


def _largest(each: Sequence[Array]) -> NDArray[np.float64]:
    largest = each[0]
    for other in each[1:]:
        largest = np.maximum(largest, other)
    return largest


def _widest(chosen: list[int], cells: Cells) -> Array:
    return np.zeros(()) if cells.sds is None else np.asarray(cells.sds[..., chosen].max(axis=-1))

"""What a search is after, over which candidates and loads: for one model, and for models that share a device."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.ledger import Candidate
from analyzer.domain.metrics import METRICS
from analyzer.domain.space import LoadRange
from analyzer.search.candidates import Slots, listed
from analyzer.search.evidence import Level
from analyzer.search.joint_ground import Ground
from analyzer.search.joint_loads import Ladders


@dataclass(frozen=True)
class Goal:
    """What makes one level better than another."""

    objectives: tuple[Objective, ...]

    def score(self, level: Level) -> float | None:
        """Weighted logarithms, each in its better direction; None where an objective was not measured."""
        total = 0.0
        for objective in self.objectives:
            figure = level.figures.get(objective.figure)
            if figure is None:
                return None
            total += objective.weight * direction(objective) * math.log(max(figure.value, 1e-12))
        return total / self.total_weight

    @cached_property
    def main(self) -> Objective:
        """What counts most: leaders are told apart by it."""
        return max(self.objectives, key=lambda o: o.weight)

    @cached_property
    def total_weight(self) -> float:
        return sum(o.weight for o in self.objectives) or 1.0


@dataclass(frozen=True)
class Problem(Goal):
    """What is searched. ``candidates`` start with the default; ``slots`` stand beside them."""

    budgets: tuple[Budget, ...]
    load: LoadRange
    candidates: tuple[Candidate, ...]
    slots: tuple[Slots, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        names = ["throughput", *(o.figure for o in self.objectives), *(b.figure for b in self.budgets)]
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class JointProblem(Goal):
    """What is searched. Candidates start with the default; ``loads`` are the ranges of the driven models."""

    budgets: tuple[Budget, ...]
    loads: tuple[LoadRange, ...]
    candidates: tuple[Candidate, ...]
    ground: Ground

    @property
    def metrics(self) -> tuple[str, ...]:
        """Of every model what a forecast is made of, and whatever is asked about."""
        wanted: list[Objective | Budget] = [*self.objectives, *self.budgets]
        latencies = {w.metric for w in wanted if w.metric.endswith("_ms")}
        of_each = [f"{model}:{metric}" for model in self.ground.models for metric in ("throughput", *sorted(latencies))]
        return tuple(dict.fromkeys([*of_each, *(w.figure for w in wanted)]))

    @cached_property
    def ladders(self) -> Ladders:
        return Ladders(self.ground, self.loads)

    @cached_property
    def rows(self) -> dict[Candidate, int]:
        return {candidate: row for row, candidate in enumerate(self.candidates)}

    def within(self, loads: Sequence[float]) -> tuple[float, ...]:
        """The loads that may be asked for next to these: whole numbers in flight, rates of four digits."""
        rounded = (
            float(round(load)) if each.kind == "concurrency" else float(f"{load:.4g}")
            for each, load in zip(self.loads, loads)
        )
        return tuple(listed(each, load) for each, load in zip(self.loads, rounded))

    @property
    def open_loop(self) -> bool:
        return self.loads[0].kind == "request_rate"


def direction(objective: Objective) -> float:
    return -1.0 if METRICS[objective.metric].higher_is_better is False else 1.0

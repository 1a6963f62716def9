"""What each level that was seen comes to: judged once, and kept from look to look."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from analyzer.search import noise
from analyzer.search.evidence import Level, clearly_breaks, keeps
from analyzer.search.problem import JointProblem, Problem


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one level, which is held so that its id stays its own. ``noise`` is that of a measurement of one second."""

    level: Level
    kept: bool
    broken: bool
    score: float | None
    noise: float
    shortest_s: float


def judge(
    levels: Iterable[Level], problem: Problem | JointProblem, earlier: Mapping[int, Verdict]
) -> dict[int, Verdict]:
    """By the id of each level; ``earlier`` ones stand."""
    return {id(level): earlier.get(id(level)) or verdict_of(level, problem) for level in levels}


def verdict_of(level: Level, problem: Problem | JointProblem) -> Verdict:
    return Verdict(
        level,
        keeps(level, problem.budgets),
        clearly_breaks(level, problem.budgets),
        problem.score(level),
        noise.in_one_second(problem, level),
        min(m.config.load.duration_s for m in level.measurements),
    )


def noise_of_one_point(verdicts: Iterable[Verdict]) -> float:
    """Of the score, by one as short as the shortest so far; 0 before anything was measured.

    A quarter of those seen had less: where some were far from steady, the next one need not be.
    """
    seen = [verdict for verdict in verdicts if verdict.level.usable]
    if not seen:
        return 0.0
    lowest_quarter = sorted(verdict.noise for verdict in seen)[len(seen) // 4]
    return lowest_quarter / math.sqrt(min(verdict.shortest_s for verdict in seen))

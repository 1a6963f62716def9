"""How much one more short measurement would scatter: what it can teach is bounded by that."""

import math

from analyzer.search.evidence import Level
from analyzer.search.problem import Goal
from analyzer.search.surrogate import noise_of


def in_one_second(goal: Goal, level: Level) -> float:
    """Standard deviation of the score, had it been measured for one second; it falls with the root of the time."""
    shares = [(o.weight / goal.total_weight, level.figures.get(o.figure)) for o in goal.objectives]
    counted_s = sum(m.config.load.duration_s for m in level.measurements)
    return math.sqrt(sum((share * noise_of(figure)) ** 2 for share, figure in shares) * counted_s)

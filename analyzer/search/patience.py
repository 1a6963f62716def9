"""How long a search has gone without finding anything better."""

import math
from collections.abc import Sequence

from analyzer.search.evidence import Level

MATTERS_RATIO = 0.01
"""A rise of the best by less is none."""

_PATIENT_POINTS, _DOUBLED_EACH = 6, 4


def growth(points: int) -> float:
    """How many times more a point must promise after so many in a row that made the best no better."""
    return 2 ** max(0.0, (points - _PATIENT_POINTS) / _DOUBLED_EACH)


def barren(levels: Sequence[tuple[Level, float | None]]) -> int:
    """Points since the best score rose by what matters, in the order in which they were measured.

    Beside each level stands its score, None where it keeps not all limits; repeats count as points, with the score that
    they have pooled.
    """
    seen = sorted(
        ((m.measured_at, m.config.key, place) for place, (level, _) in enumerate(levels) for m in level.measurements),
        key=lambda each: each[:2],
    )
    best, count = -math.inf, 0
    for _, _, place in seen:
        score = levels[place][1]
        if score is not None and score > best + MATTERS_RATIO:
            best, count = score, 0
        else:
            count += 1
    return count

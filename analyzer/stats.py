"""Comparisons between estimates: arrays in, numbers out.

Intervals are 95 % intervals of figures that are taken to be normal; a half width is 1.96 standard errors.
"""

import math
from collections.abc import Sequence

from analyzer.domain.metrics import Estimate
from perf_client.estimate import student_t

Z95 = 1.96
"""The 97.5 % point of the standard normal: half a 95 % interval in standard errors."""


def half_width(estimate: Estimate) -> float | None:
    """Half of the interval, or None where there is none. An uneven interval counts with its wider half."""
    if estimate.low is None or estimate.high is None:
        return None
    return max(estimate.high - estimate.value, estimate.value - estimate.low, 0.0)


def separated(a: Estimate, b: Estimate) -> bool:
    """True where the 95 % interval of the difference leaves zero out. Without both intervals nothing is told apart.

    The halves that face each other count: what is above the lower figure and below the higher one.
    """
    upper, lower = (a, b) if a.value >= b.value else (b, a)
    if upper.low is None or lower.high is None:
        return False
    facing = math.hypot(max(upper.value - upper.low, 0.0), max(lower.high - lower.value, 0.0))
    return upper.value - lower.value > facing


def better(a: Estimate, b: Estimate, higher_is_better: bool) -> bool:
    """True where ``a`` is better than ``b`` beyond doubt."""
    return separated(a, b) and (a.value > b.value) == higher_is_better


def paired_change(pairs: Sequence[tuple[float, float]]) -> Estimate | None:
    """How much larger the second figure is than the first, as a ratio: 0.04 is 4 % more. None without a pair.

    The figures of a pair were taken next to one another, so that a drift of the machine falls on both. Ratios are
    compared by their logarithms, by which twice and half are equally far from no change.
    """
    logs = [math.log(after / before) for before, after in pairs if before > 0 and after > 0]
    if not logs:
        return None
    mean = math.fsum(logs) / len(logs)
    if len(logs) < 2:
        return Estimate(math.expm1(mean))
    spread = math.fsum((each - mean) ** 2 for each in logs) / (len(logs) - 1)
    half = student_t(len(logs) - 1) * math.sqrt(spread / len(logs))
    return Estimate(math.expm1(mean), math.expm1(mean - half), math.expm1(mean + half))


def odds_of_separation(a: Estimate, b: Estimate, growth: tuple[float, float], least: float = 0.0) -> float:
    """The chance that more measurements tell two figures apart, by ``least`` at the least, in the figures' own unit.

    ``growth``: how many times as much will have been measured of each. Both variances fall by it, and by as much as
    they fall the difference may still move: its predictive distribution (Spiegelhalter, Abrams, Myles 2004, 6.5).
    0 without intervals.
    """
    halves = half_width(a), half_width(b)
    if halves[0] is None or halves[1] is None:
        return 0.0
    now = [(half / Z95) ** 2 for half in halves if half is not None]
    later = [variance / max(times, 1.0) for variance, times in zip(now, growth)]
    wanted = max(Z95 * math.sqrt(math.fsum(later)), least)
    apart, moves = abs(a.value - b.value), math.sqrt(max(math.fsum(now) - math.fsum(later), 0.0))
    if moves == 0:
        return float(apart > wanted)
    return below((apart - wanted) / moves) + below((-apart - wanted) / moves)


def below(z: float) -> float:
    """The probability that a standard normal lies below z."""
    return 0.5 * math.erfc(-z / math.sqrt(2))


def pool(estimates: Sequence[Estimate]) -> Estimate:
    """One estimate from repeats of one point.

    Repeats weigh by the square of their relative precision; those without an interval weigh like the least precise.
    Where they scatter more than their intervals allow, the pooled interval grows by the Birge ratio (Birge 1932), so
    that a server that settles differently after each start is not taken for a precise one. A half that is wider on one
    side stays wider there.
    """
    if not estimates:
        raise ValueError("nothing to pool")
    if len(estimates) == 1:
        return estimates[0]
    weights = _weights(estimates)
    total = math.fsum(weights)
    value = math.fsum(w * e.value for w, e in zip(weights, estimates)) / total
    known = [(w, e) for w, e in zip(weights, estimates) if e.low is not None and e.high is not None]
    supported = all(e.supported for e in estimates)
    if not known:
        return Estimate(value, supported=supported)
    below = math.sqrt(math.fsum((w * (e.value - _bound(e.low))) ** 2 for w, e in known)) / math.fsum(
        w for w, _ in known
    )
    above = math.sqrt(math.fsum((w * (_bound(e.high) - e.value)) ** 2 for w, e in known)) / math.fsum(
        w for w, _ in known
    )
    growth = _birge_ratio([e for _, e in known], value)
    return Estimate(value, value - below * growth, value + above * growth, supported)


def _bound(bound: float | None) -> float:
    return 0.0 if bound is None else bound


def _weights(estimates: Sequence[Estimate]) -> list[float]:
    """Inverse squares of relative half widths: absolute ones would favour whichever repeat came out low."""
    relative = [None if (half := half_width(e)) is None else half / abs(e.value or 1.0) for e in estimates]
    known = [r for r in relative if r is not None]
    worst = max(known, default=1.0) or 1.0
    floor = worst * 1e-3
    return [1.0 / max(worst if r is None else r, floor) ** 2 for r in relative]


def _birge_ratio(estimates: Sequence[Estimate], value: float) -> float:
    """Root of the scatter over what the intervals explain, at least 1."""
    halves = [half_width(e) for e in estimates]
    terms = [((e.value - value) * Z95 / half) ** 2 for e, half in zip(estimates, halves) if half]
    if len(terms) < 2:
        return 1.0
    return math.sqrt(max(1.0, math.fsum(terms) / (len(terms) - 1)))

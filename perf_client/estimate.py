"""Figures with their uncertainty, from samples: percentiles by order statistics, rates from the cycles between bursts.

No distribution is assumed for latencies. What is honoured is that queueing makes neighbours alike: a thousand
requests that waited in one queue say less than a thousand that did not, so the sample is counted as the number of
independent requests that would scatter as much.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from perf_client.profile import Latency, Percentile, Rate

PERCENTS = (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)
CONFIDENCE = 0.95
EARLY_STOPPING_CONFIDENCE = 0.99
_PART = 1 << 18
BATCHES = 20
"""Batches of a run. Fewer make the interval wide, more make neighbouring batches alike; 10 to 30 is customary."""

FEWEST_BURSTS = 4
"""With fewer nothing is known of how regular they are: they count as if they came by chance."""

_WITHIN_BURST = 0.1
_MOST_EVENTS = 1 << 15
_MOST_CYCLES = 1 << 12
_MOST_WAVES = 10
_SLOWEST_WAVES = 4
"""Measured by coverage: more waves miss slow drifts, fewer make all intervals wider."""

_ENDS_OF_CYCLE = 0.78
"""95 % point of the difference of two cuts, each anywhere in a cycle: 1 - sqrt(0.05)."""

Ints = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)
Floats = NDArray[np.float64]


def taken(values: NDArray[Scalar], flags: NDArray[np.bool_]) -> NDArray[Scalar]:
    """``values[flags]``, without a copy where all that is taken lies together: columns of a long run are large."""
    first, count = int(flags.argmax()) if len(flags) else 0, int(np.count_nonzero(flags))
    if flags[first : first + count].all():
        return values[first : first + count]
    return values[flags]


def latency(values_ns: Ints, percents: Sequence[float] = PERCENTS) -> Latency | None:
    """Summary of latencies given in the order in which their requests were due; None of an empty sample."""
    if not len(values_ns):
        return None
    rising = np.sort(values_ns)
    return Latency(
        count=len(values_ns),
        mean_ns=float(values_ns.mean()),
        std_ns=_deviation(values_ns),
        min_ns=int(rising[0]),
        max_ns=int(rising[-1]),
        percentiles=tuple(_percentile(values_ns, rising, percent) for percent in sorted(percents)),
    )


def _deviation(values: Ints) -> float:
    """Of the sample, a part at a time: as a whole it would take as much memory again as the values."""
    mean, total = values.mean(), 0.0
    for start in range(0, len(values), _PART):
        around = values[start : start + _PART] - mean
        total += float(around @ around)
    return math.sqrt(total / (len(values) - 1)) if len(values) > 1 else 0.0


def needed_samples(percent: float) -> int:
    """Requests without which a percentile is not known: MLPerf's early-stopping condition without a miss.

    With fewer, even a run in which every request keeps a bound leaves more than 1 % chance that the percentile does
    not: 44 for p90, 90 for p95, 459 for p99, 4603 for p99.9.
    """
    return math.ceil(math.log(1 - EARLY_STOPPING_CONFIDENCE) / math.log(percent / 100))


def _percentile(in_order: Ints, rising: Ints, percent: float) -> Percentile:
    """The nearest-rank percentile: the smallest value that at least ``percent`` of all values don't exceed."""
    count, quantile = len(rising), percent / 100
    value = rising[nearest_rank(count, percent) - 1]
    low, high = interval_ranks(count, quantile, variance_inflation(in_order <= value))
    return Percentile(
        percent=percent,
        value_ns=int(value),
        low_ns=None if low is None else int(rising[low - 1]),
        high_ns=None if high is None else int(rising[high - 1]),
        supported=count >= needed_samples(percent),
    )


def nearest_rank(count: int, percent: float) -> int:
    """1-based. The tiny allowance keeps 99.9 % of 1000 at 999, which binary fractions would make 1000."""
    return min(count, max(1, math.ceil(percent / 100 * count - 1e-9 * count)))


def interval_ranks(count: int, quantile: float, inflation: float = 1.0) -> tuple[int | None, int | None]:
    """Ranks of the order statistics between which the quantile lies with at least 95 % confidence.

    How many of n values lie below the quantile is binomial, whatever the distribution (David and Nagaraja, Order
    Statistics, 7.1). Each side is left out with at most 2.5 %; None where not even the extreme value is enough.
    """
    independent = max(1, int(count / inflation))
    below_low, below_high = _binomial_bounds(independent, quantile, (1 - CONFIDENCE) / 2)
    low = math.floor(below_low * count / independent) if below_low >= 1 else None
    high = math.ceil(below_high * count / independent) if below_high <= independent else None
    return low, high


def _binomial_bounds(count: int, probability: float, tail: float) -> tuple[int, int]:
    """Largest l with P(B < l) <= tail and smallest u with P(B >= u) <= tail, for B binomial. Exact for every count."""
    spread = math.sqrt(count * probability * (1 - probability))
    first = max(0, math.floor(count * probability - 10 * spread - 20))
    last = min(count, math.ceil(count * probability + 10 * spread + 20))
    k = np.arange(first, last)
    # Ratios of neighbouring terms, summed as logarithms; what lies beyond ten deviations is below double precision.
    steps = np.log(count - k) - np.log(k + 1) + math.log(probability / (1 - probability))
    terms = np.concatenate(([0.0], np.cumsum(steps)))
    mass = np.exp(terms - terms.max())
    cumulated = np.cumsum(mass / mass.sum())
    low = first + int(np.searchsorted(cumulated, tail, side="right"))
    high = first + int(np.searchsorted(cumulated, 1 - tail - 1e-12, side="left")) + 1
    return low, high


def variance_inflation(flags: NDArray[np.bool_]) -> float:
    """How much more the share of true flags scatters than over independent requests; at least 1.

    From batch means: the variance of a batch's share over what independence would give.
    """
    size = len(flags) // BATCHES
    share = float(flags.mean())
    if size < 2 or share in (0.0, 1.0):
        return 1.0
    shares = flags[: size * BATCHES].reshape(BATCHES, size).mean(axis=1)
    return max(1.0, float(shares.var(ddof=1)) / (share * (1 - share) / size))


def rate(ended_ns: Ints, from_ns: int, to_ns: int, weight: int = 1) -> Rate:
    """Events per second within the window, each counted ``weight`` times, with the interval of the long-run rate."""
    window_s = (to_ns - from_ns) / 1e9
    if window_s <= 0:
        return Rate(per_second=0.0, low=0.0, high=0.0)
    rising = np.sort(taken(ended_ns, (ended_ns >= from_ns) & (ended_ns <= to_ns)))
    count = len(rising)
    # Of tens of thousands of events each second, third, ... tells as much.
    seen = np.ascontiguousarray(rising[:: 1 + count // _MOST_EVENTS])
    each = weight * count / max(1, len(seen)) if count else weight
    low, high = _count_interval(seen, from_ns, to_ns)
    return Rate(per_second=count * weight / window_s, low=low * each / window_s, high=high * each / window_s)


def _count_interval(rising: Ints, from_ns: int, to_ns: int) -> tuple[float, float]:
    """Between how many events such windows hold on average.

    A server that answers in batches, or a few callers in lockstep, give bursts: what varies by chance is how long the
    next burst takes and how much it brings. So z = events - rate * gap of each cycle between the starts of two bursts
    is looked at (the ratio estimator of regenerative simulation, Crane and Iglehart 1975), and added in quadrature is
    what the ends of the window cut off.
    """
    count, starts = len(rising), _burst_starts(rising)
    if len(starts) < FEWEST_BURSTS:
        low, high = _poisson_interval(len(starts))
        size = count / len(starts) if count else 1.0
        return low * size, high * size
    events, gaps = _cycles(rising, starts, from_ns, to_ns)
    span, window = float(gaps.sum()), float(to_ns - from_ns)
    per_ns = float(events.sum()) / span
    # As many equal cycles would meet a random moment with as long a gap.
    equal_cycles = span**2 / float(np.square(gaps).sum())
    variance, freedom = _long_run_variance(events - per_ns * gaps, equal_cycles)
    within = student_t(freedom) * math.sqrt(variance * window / span)
    ends = max(_ENDS_OF_CYCLE * per_ns * span / equal_cycles, abs(count - per_ns * window))
    half = math.hypot(within, ends)
    return max(0.0, count - half), count + half


def _burst_starts(rising: Ints) -> Ints:
    """Places of the first event of each burst.

    Events belong together where the gap between them is small against the one into which a random moment falls.
    """
    gaps = np.diff(rising).astype(np.float64)
    span = float(gaps.sum())
    if span == 0:
        return np.arange(min(1, len(rising)))
    return np.concatenate(([0], 1 + np.flatnonzero(gaps > _WITHIN_BURST * float(np.square(gaps).sum()) / span)))


def _cycles(rising: Ints, starts: Ints, from_ns: int, to_ns: int) -> tuple[Floats, Floats]:
    """Events and length of each cycle from the start of a burst to that of a later one.

    What is left at the ends of the window is no whole cycle; but where it is longer than all of them it is a pause.
    Many bursts are taken together by their starts.
    """
    starts = starts[:: 1 + len(starts) // _MOST_CYCLES]
    at_ns, before = rising[starts], starts
    longest = np.diff(rising).max()
    if rising[0] - from_ns > longest:
        at_ns, before = np.concatenate(([from_ns], at_ns)), np.concatenate(([0], before))
    if to_ns - rising[-1] > longest:
        at_ns, before = np.concatenate((at_ns, [to_ns])), np.concatenate((before, [len(rising)]))
    return np.diff(before).astype(np.float64), np.diff(at_ns).astype(np.float64)


def _long_run_variance(series: Floats, equal_cycles: float) -> tuple[float, int]:
    """Of the sum of a series around zero, with its degrees of freedom, from its slowest cosine waves.

    Each wave is an independent estimate (Mueller 2007; Lazarus, Lewis, Stock 2018). Neighbours that are alike raise
    the slow ones; a quick pattern, such as answers of two instances in turn, is in none of them, though its single
    gaps differ much. Where the very slowest stand out they alone count: the rate drifts.
    """
    waves = max(2, min(_MOST_WAVES, int(equal_cycles ** (2 / 3))))
    at = (np.arange(len(series)) + 0.5) / len(series)
    powers = 2 * (np.cos(np.pi * np.outer(np.arange(1, waves + 1), at)) @ series) ** 2
    return max(float(powers.mean()), float(powers[:_SLOWEST_WAVES].mean())), waves


def _poisson_interval(count: int) -> tuple[float, float]:
    """95 % interval of the mean of a Poisson law that gave this count, by Wilson and Hilferty's cube root."""
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    low, high = (
        k * (1 - 1 / (9 * k) + side / (3 * math.sqrt(k))) ** 3 if k else 0.0
        for k, side in ((count, -z), (count + 1, z))
    )
    return low, high


def alikeness(series: Floats, most: float) -> float:
    """(1 + r) / (1 - r) of the correlation r of neighbours, which is taken as 0 to ``most``.

    So much wider is the variance of a mean of values that are alike.
    """
    around = series - series.mean()
    spread = float(around @ around)
    if spread == 0.0:
        return 1.0
    correlation = min(most, max(0.0, float(around[:-1] @ around[1:]) / spread))
    return (1 + correlation) / (1 - correlation)


def student_t(freedom: int, confidence: float = CONFIDENCE) -> float:
    """Two-sided quantile of Student's t by the Cornish-Fisher expansion (Abramowitz and Stegun 26.7.5).

    Exact for one and two degrees of freedom; good to 1 % from 3 and to three digits from 8 on.
    """
    if freedom == 1:
        return math.tan(math.pi * confidence / 2)
    if freedom == 2:
        return confidence * math.sqrt(2 / (1 - confidence**2))
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    n = freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )

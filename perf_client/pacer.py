"""A schedule from a description of the load: when each request is due, in ns from the start, before any leaves.

Every schedule is made the same way. A unit-rate process gives how many requests are due by each arrival (0, 1, 2...
when even, sums of random gaps of mean 1 otherwise); the inverse of the accumulated rate turns these counts into times.
So a ramp or a burst may be even or Poisson like a flat rate, and a time never inherits an earlier rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from perf_client.profile import Arrival, RequestRate

BLOCK = 4096
"""Arrivals made at a time: large enough that a request costs nothing, small enough for any memory."""

Floats = NDArray[np.float64]
Offsets = NDArray[np.int64]
TimeOfCount = Callable[[Floats], Floats]


def arrivals(load: RequestRate, seed: int) -> Iterator[Offsets]:
    """Endless blocks of due times of a flat rate. The same load and seed give the same times."""
    counts = unit_counts(load.arrival, seed, gamma_shape=load.gamma_shape)
    return scheduled(counts, flat(load.per_second))


def unit_counts(arrival: Arrival, seed: int, *, gamma_shape: float = 1.0) -> Iterator[Floats]:
    """Arrival times of a process of rate 1. Even arrivals start at 0, random ones after a first gap."""
    rng = np.random.default_rng(seed)
    reached, made = 0.0, 0
    while True:
        if arrival == "constant":
            block = np.arange(made, made + BLOCK, dtype=np.float64)
        elif arrival == "poisson":
            block = reached + np.cumsum(rng.standard_exponential(BLOCK))
        else:
            block = reached + np.cumsum(rng.standard_gamma(gamma_shape, BLOCK) / gamma_shape)
        reached, made = float(block[-1]), made + BLOCK
        yield block


def scheduled(counts: Iterator[Floats], time_of: TimeOfCount) -> Iterator[Offsets]:
    """Counts to whole ns. A float64 of seconds resolves 1 ns for the first 50 days."""
    for block in counts:
        yield np.rint(time_of(block) * 1e9).astype(np.int64)


def flat(per_second: float) -> TimeOfCount:
    return lambda counts: counts / per_second


def ramp(from_per_second: float, to_per_second: float, duration_s: float) -> TimeOfCount:
    """The rate goes in a straight line from one value to the other, and stays there."""
    growth = (to_per_second - from_per_second) / duration_s
    reached = (from_per_second + to_per_second) / 2 * duration_s

    def time_of(counts: Floats) -> Floats:
        # Root of from * t + growth / 2 * t^2 = count, in the form that keeps its digits when growth is near zero.
        under_root = np.maximum(from_per_second**2 + 2 * growth * counts, 0.0)
        rising = 2 * counts / np.maximum(from_per_second + np.sqrt(under_root), np.finfo(float).tiny)
        return np.where(counts <= reached, rising, duration_s + (counts - reached) / to_per_second)

    return time_of


def bursts(base_per_second: float, burst_per_second: float, period_s: float, burst_s: float) -> TimeOfCount:
    """Each period opens with a burst and goes on at the base rate."""
    in_burst = burst_per_second * burst_s
    in_period = in_burst + base_per_second * (period_s - burst_s)

    def time_of(counts: Floats) -> Floats:
        periods, rest = np.divmod(counts, in_period)
        return periods * period_s + np.interp(rest, [0.0, in_burst, in_period], [0.0, burst_s, period_s])

    return time_of


def repeated_gaps(gaps_ns: Sequence[int]) -> Iterator[Offsets]:
    """A file of gaps, looped without end: the first request is due after the first gap."""
    once = np.cumsum(np.asarray(gaps_ns, dtype=np.int64))
    rounds = max(1, -(-BLOCK // len(once)))
    turns = np.arange(rounds, dtype=np.int64)[:, None] * once[-1]
    block = (turns + once).ravel()
    reached = 0
    while True:
        yield reached + block
        reached += int(once[-1]) * rounds


def replayed(timestamps_ns: Sequence[int], speed_ratio: float = 1.0) -> Iterator[Offsets]:
    """A recorded trace, once: its first request is due at 0; ``speed_ratio`` 2 plays it twice as fast."""
    times = np.asarray(timestamps_ns, dtype=np.int64)
    offsets = np.rint((times - times[0]) / speed_ratio).astype(np.int64)
    for at in range(0, len(offsets), BLOCK):
        yield offsets[at : at + BLOCK]


def frames(streams: int, frames_per_second: float) -> Iterator[tuple[Offsets, NDArray[np.int64]]]:
    """Cameras that share no clock: each sends evenly, and their phases are spread evenly over one frame's time.

    Gives due times and, beside them, the stream that each frame belongs to.
    """
    for counts in unit_counts("constant", seed=0):
        yield np.rint(counts / (streams * frames_per_second) * 1e9).astype(np.int64), counts.astype(np.int64) % streams


def stepped_concurrency(start: int, end: int, step: int, period: int) -> Iterator[tuple[int, int]]:
    """Periodic concurrency: (answers seen so far, requests to keep in flight from then on), up to ``end``."""
    levels = [*range(start, end, step), end]
    yield 0, levels[0]
    for turn, (_, level) in enumerate(pairwise(levels), start=1):
        yield turn * period, level

"""Figures of many groups of numbers at once: counts, exact totals, means, medians, extremes, sample deviations."""

import numpy as np

from analyzer.domain.record import Record
from analyzer.timeline.table import Column


class Spread(Record, frozen=True):
    """Of one group, in the unit of its values. ``deviation`` is that of a sample, zero where there is one value."""

    count: int
    total: int
    mean: float
    median: float
    smallest: int
    largest: int
    deviation: float


def spread(values: Column) -> Spread:
    """Of one group, which has a value at least."""
    return spreads(np.zeros(len(values), np.int64), values)[0]


def spreads(keys: Column, values: Column) -> dict[int, Spread]:
    """By key. Totals are of integers, so they are exact."""
    if not len(values):
        return {}
    values = values.astype(np.int64, copy=False)
    order = np.lexsort((values, keys))
    keys, values = keys[order], values[order]
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    count = np.diff(np.concatenate([first, [len(keys)]]))
    total = np.add.reduceat(values, first)
    mean = total / count
    squares = np.add.reduceat((values - np.repeat(mean, count)) ** 2, first)
    deviation = np.sqrt(squares / np.maximum(count - 1, 1))
    low, high = values[first + (count - 1) // 2], values[first + count // 2]
    columns = (keys[first], count, total, mean, (low + high) / 2, values[first], values[first + count - 1], deviation)
    return {
        key: Spread(count=n, total=t, mean=m, median=mid, smallest=small, largest=large, deviation=dev)
        for key, n, t, m, mid, small, large, dev in zip(*(column.tolist() for column in columns), strict=True)
    }

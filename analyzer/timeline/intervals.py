"""Arithmetic on sets of time intervals: sums that never count an overlap twice.

An ``Intervals`` is half-open, in order, disjoint and without empty or touching members, so two sets of the same
instants are equal arrays.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from analyzer.timeline.table import ABSENT, Column, Ns, Rows


@dataclass(frozen=True, slots=True)
class Intervals:
    start_ns: Ns
    end_ns: Ns

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def total_ns(self) -> int:
        return int((self.end_ns - self.start_ns).sum())

    def covered_ns(self, start_ns: Column, end_ns: Column) -> Ns:
        """How much of each of the given intervals lies in this set."""
        covered: Ns = self._before(np.asarray(end_ns, np.int64)) - self._before(np.asarray(start_ns, np.int64))
        return covered.clip(min=0)

    def _before(self, at_ns: Ns) -> Ns:
        """Length of the part of the set before each of these times."""
        if not len(self):
            return np.zeros(at_ns.shape, np.int64)
        closed = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.end_ns - self.start_ns)])
        member = np.searchsorted(self.start_ns, at_ns, side="right") - 1
        inside = np.minimum(at_ns, self.end_ns[member]) - self.start_ns[member]
        before: Ns = np.where(member < 0, 0, closed[member] + inside)
        return before


def union(start_ns: Column, end_ns: Column) -> Intervals:
    """All instants that are in any of these intervals, which may overlap and come in any order."""
    kept = end_ns > start_ns
    start, end = start_ns[kept], end_ns[kept]
    if not len(start):
        return Intervals(np.zeros(0, np.int64), np.zeros(0, np.int64))
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    first = np.flatnonzero(np.concatenate([[True], start[1:] > reach[:-1]]))
    last = np.concatenate([first[1:] - 1, [len(start) - 1]])
    return Intervals(start[first], reach[last])


def intersect(one: Intervals, other: Intervals) -> Intervals:
    times, depth = steps([(one, 1), (other, 1)])
    return _where(times, depth == 2)


def subtract(one: Intervals, other: Intervals) -> Intervals:
    """What is in one and not in the other."""
    times, depth = steps([(one, 1), (other, -1)])
    return _where(times, depth == 1)


def clip(one: Intervals, start_ns: int, end_ns: int) -> Intervals:
    start, end = np.maximum(one.start_ns, start_ns), np.minimum(one.end_ns, end_ns)
    return Intervals(start[end > start], end[end > start])


def holes(one: Intervals) -> Intervals:
    """The gaps between the members."""
    return Intervals(one.end_ns[:-1], one.start_ns[1:])


def at_least(start_ns: Column, end_ns: Column, count: int) -> Intervals:
    """When that many of these intervals, or more, hold at once."""
    kept = end_ns > start_ns
    times, depth = steps([(Intervals(start_ns[kept], end_ns[kept]), 1)])
    return _where(times, depth >= count)


def steps(weighted: list[tuple[Intervals, int]]) -> tuple[Ns, Ns]:
    """A step function: from each returned time on, the sum of the weights of the intervals that hold then."""
    times = np.concatenate([edge for each, _ in weighted for edge in (each.start_ns, each.end_ns)])
    change = np.concatenate([np.full(len(each), sign * weight) for each, weight in weighted for sign in (1, -1)])
    if not len(times):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.argsort(times, kind="stable")
    times = times[order]
    first = np.flatnonzero(np.concatenate([[True], times[1:] > times[:-1]]))
    return times[first], np.cumsum(np.add.reduceat(change[order], first))


def _where(times: Ns, holds: Column) -> Intervals:
    """The stretches of a step function in which a condition holds; it never holds after the last time."""
    if not len(times):
        return Intervals(times, times)
    edge = np.diff(np.concatenate([[False], holds, [False]]).astype(np.int8))
    return Intervals(times[edge[:-1] == 1], times[np.flatnonzero(edge == -1)])


def parents(start_ns: Column, end_ns: Column, lane: Column) -> Rows:
    """The innermost interval of the same lane that holds each one; -1 where there is none.

    Input in the table's order (start, longest first). An interval that only overlaps another is not held by it.
    """
    order = np.argsort(lane, kind="stable").astype(np.int32)
    end = end_ns[order]
    # An interval that ends where an empty one stands does not hold it.
    wanted = np.maximum(end, start_ns[order] + 1)
    outer = np.arange(-1, len(order) - 1, dtype=np.int32)
    first = np.flatnonzero(np.diff(lane[order], prepend=ABSENT - 1, append=ABSENT - 1)).tolist()
    for begin, stop in pairwise(first):
        latest = np.maximum.accumulate(end[begin : stop - 1])
        outer[begin + 1 : stop][latest < wanted[begin + 1 : stop]] = ABSENT  # all before it have ended, as most have
    outer[first[:-1]] = ABSENT
    searching = np.flatnonzero(outer >= 0)
    while len(searching):
        tried = outer[searching]
        fails = end[tried] < wanted[searching]
        searching = searching[fails]
        outer[searching] = outer[tried[fails]]  # what lies between ended before the tried one did: it is skipped
        searching = searching[outer[searching] >= 0]
    found = np.full(len(order), ABSENT, np.intp)
    found[order] = np.where(outer >= 0, order[outer.clip(min=0)], ABSENT)
    return found

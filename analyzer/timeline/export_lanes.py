"""Rows to lanes, so that no two events on one track overlap: viewers draw such events wrongly or drop them."""

import heapq
from collections.abc import Callable

import numpy as np

from analyzer.timeline.table import Column, Rows


def disjoint_lanes(start_ns: Column, end_ns: Column, group: Column) -> Column:
    """The lane of each interval within its group: the lowest that is free. Input in order of start."""
    return _lanes(start_ns, end_ns, group, _first_free)


def nesting_lanes(start_ns: Column, end_ns: Column, group: Column) -> Column:
    """The same, but a lane may hold an interval within another, as a call stack does."""
    return _lanes(start_ns, end_ns, group, _first_that_holds)


def codes(*columns: Column) -> tuple[Column, Column]:
    """A number for each distinct row of the columns, from 0 in order of the rows' values, and a row of each."""
    code = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, inverse = np.unique(column, return_inverse=True)
        code = np.unique(code * len(values) + inverse, return_inverse=True)[1]
    return code, np.unique(code, return_index=True)[1]


def _lanes(
    start_ns: Column, end_ns: Column, group: Column, assign: Callable[[list[int], list[int]], list[int]]
) -> Column:
    """Only groups with an overlap are walked through; most have none."""
    lane = np.zeros(len(start_ns), np.int64)
    order = np.argsort(group, kind="stable")
    bounds = np.flatnonzero(np.diff(group[order])) + 1
    for rows in np.split(order, bounds):
        if _overlaps(start_ns, end_ns, rows):
            lane[rows] = assign(start_ns[rows].tolist(), end_ns[rows].tolist())
    return lane


def _overlaps(start_ns: Column, end_ns: Column, rows: Rows) -> bool:
    if len(rows) < 2:
        return False
    reach = np.maximum.accumulate(end_ns[rows])
    return bool((start_ns[rows][1:] < reach[:-1]).any())


def _first_free(starts: list[int], ends: list[int]) -> list[int]:
    free: list[int] = []
    busy: list[tuple[int, int]] = []
    count = 0
    found = []
    for start, end in zip(starts, ends, strict=True):
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, count = count, count + 1
        heapq.heappush(busy, (end, lane))
        found.append(lane)
    return found


def _first_that_holds(starts: list[int], ends: list[int]) -> list[int]:
    open_ends: list[list[int]] = []
    found = []
    for start, end in zip(starts, ends, strict=True):
        found.append(_holding(open_ends, start, end))
        open_ends[found[-1]].append(end)
    return found


def _holding(open_ends: list[list[int]], start: int, end: int) -> int:
    """The first lane that is free or whose innermost open interval holds this one; else a new lane."""
    for lane, stack in enumerate(open_ends):
        while stack and stack[-1] <= start:
            stack.pop()
        if not stack or stack[-1] >= end:
            return lane
    open_ends.append([])
    return len(open_ends) - 1

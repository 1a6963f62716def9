"""Interval arithmetic against sets of instants counted one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analyzer.timeline.intervals import Intervals, at_least, clip, holes, intersect, parents, steps, subtract, union

Pairs = list[tuple[int, int]]
PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda each: (each[0], sum(each))), max_size=12)


def columns(pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    array = np.array(pairs, np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def instants(pairs: Pairs) -> set[int]:
    return {at for start, end in pairs for at in range(start, end)}


def members(intervals: Intervals) -> Pairs:
    return list(zip(intervals.start_ns.tolist(), intervals.end_ns.tolist()))


def of(pairs: Pairs) -> Intervals:
    return union(*columns(pairs))


@given(PAIRS)
def test_union_has_the_same_instants_and_is_in_order_and_disjoint(pairs):
    result = of(pairs)
    assert instants(members(result)) == instants(pairs)
    assert result.total_ns == len(instants(pairs))
    assert all(end < start for (_, end), (start, _) in zip(members(result), members(result)[1:]))


@given(PAIRS, PAIRS)
def test_intersection_and_difference_are_those_of_sets(one, other):
    both, only = intersect(of(one), of(other)), subtract(of(one), of(other))
    assert instants(members(both)) == instants(one) & instants(other)
    assert instants(members(only)) == instants(one) - instants(other)
    assert members(both) == members(of(members(both)))
    assert members(only) == members(of(members(only)))


@given(PAIRS, PAIRS)
def test_covered_is_the_length_within_the_set(one, other):
    covered = of(one).covered_ns(*columns(other))
    assert covered.tolist() == [len(instants([pair]) & instants(one)) for pair in other]


@given(PAIRS, st.integers(1, 4))
def test_at_least_counts_intervals_that_hold_at_once(pairs, count):
    result = instants(members(at_least(*columns(pairs), count)))
    assert result == {at for at in range(60) if sum(start <= at < end for start, end in pairs) >= count}


@given(PAIRS, st.integers(0, 40), st.integers(0, 20))
def test_clip_keeps_what_is_inside(pairs, start, length):
    result = members(clip(of(pairs), start, start + length))
    assert instants(result) == instants(pairs) & set(range(start, start + length))


@given(PAIRS)
def test_holes_fill_the_set_up(pairs):
    whole = of(pairs)
    filled = instants(members(whole)) | instants(members(holes(whole)))
    assert filled == (set(range(whole.start_ns[0], whole.end_ns[-1])) if len(whole) else set())


@given(PAIRS)
def test_steps_give_the_depth_from_each_time_on(pairs):
    start, end = columns(pairs)
    kept = end > start
    times, depth = steps([(Intervals(start[kept], end[kept]), 1)])
    for at, value in zip(times.tolist(), depth.tolist()):
        assert value == sum(first <= at < last for first, last in pairs)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12), st.integers(0, 2)), max_size=30))
def test_parent_is_the_innermost_interval_of_the_lane_that_holds_it(rows):
    rows = sorted(((start, start + length, lane) for start, length, lane in rows), key=lambda row: (row[0], -row[1]))
    array = np.array(rows, np.int64).reshape(-1, 3)
    found = parents(array[:, 0], array[:, 1], array[:, 2]).tolist()
    for row, (start, end, lane) in enumerate(rows):
        holding = [
            other
            for other in range(row)
            if rows[other][2] == lane and rows[other][0] <= start and rows[other][1] >= max(end, start + 1)
        ]
        assert found[row] == (max(holding) if holding else -1)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.settings.point_limit import PointLimit, point_limit


@pytest.mark.parametrize(
    ("raw", "grid", "most"),
    [("40", 1000, 40), (40, 10, 40), ("10%", 1000, 100), ("10%", 3, 1), ("40,10%", 200, 20), (["10%", 5], 200, 5)],
)
def test_a_limit_is_a_number_a_part_of_the_grid_or_the_smaller_of_both(raw: object, grid: int, most: int):
    assert point_limit(raw).of(grid) == most


@pytest.mark.parametrize("raw", ["0", "", "0%", "-1", "x", "10%%", "2.5", None, True, [], "nan%"])
def test_what_is_no_limit_is_refused(raw: object):
    with pytest.raises(ValueError, match="takes a number of points from 1"):
        point_limit(raw)


@given(st.integers(1, 10**6), st.floats(0.001, 100), st.integers(0, 10**6))
def test_a_limit_always_allows_one_point(count: int, percent: float, grid: int):
    most = PointLimit(count=count, ratio=percent / 100).of(grid)
    assert most is not None
    assert 1 <= most <= count

"""The default search on grids that were measured with real models: what reading them whole would have found."""

import pytest

from tests.benchmarks.search_quality import search_recorded
from tests.fakes.recorded_landscapes import RECORDED, Recorded


@pytest.mark.parametrize("land", [land for land in RECORDED if land.name.endswith("_cpu")], ids=lambda land: land.name)
def test_a_tenth_of_a_recorded_grid_finds_its_best(land: Recorded):
    found = [search_recorded(land.seeded(seed)) for seed in range(4)]
    assert all(each.kept for each in found)
    assert min(each.ratio for each in found) >= 0.95
    assert max(each.points for each in found) <= land.point_count / 10

"""What a search is expected to take."""

import pytest

from analyzer.search.options import SearchOptions
from analyzer.search.pace import coarse_s, expected_load_s, expected_starts

SWIFT = SearchOptions(screen_duration_s=2.0, confirm_duration_s=5.0, restart_s=1.0)
SLOW = SearchOptions(screen_duration_s=2.0, confirm_duration_s=5.0, restart_s=16.0)


@pytest.mark.parametrize(
    ("mode", "options", "points", "servers", "starts"),
    [
        ("capacity", SWIFT, 20, 40, 15),
        ("capacity", SLOW, 20, 40, 11),
        ("capacity", SWIFT, 20, 1, 1),
        ("brute", SWIFT, 440, 40, 40),
        ("brute", SWIFT, 7, 40, 7),
        ("optuna", SWIFT, 44, 40, 44),
        ("quick", SLOW, 0, 40, 0),
    ],
)
def test_server_starts_by_mode(mode: str, options: SearchOptions, points: int, servers: int, starts: int):
    assert expected_starts(mode, options, points, servers) == starts


def test_only_the_default_search_begins_with_short_points():
    assert expected_load_s("capacity", SWIFT, 5.0) == pytest.approx(3.0)
    assert expected_load_s("brute", SWIFT, 5.0) == 5.0
    assert expected_load_s("quick", SWIFT, 5.0) == 5.0


@pytest.mark.parametrize(("measured", "coarse"), [(0.9, 1.0), (1.1, 1.0), (4.7, 4.0), (21.0, 16.0), (0.0, 0.0625)])
def test_a_start_that_is_timed_again_counts_the_same(measured: float, coarse: float):
    assert coarse_s(measured) == coarse

"""How long a search is expected to take: long points and server starts, as counted on known landscapes."""

import math

from analyzer.search.options import SearchOptions

_START_SHARES = {"quick": 0.85, "optuna": 1.0}
_SWIFT_START_SHARE, _SLOW_START_SHARE = 0.75, 0.55
"""Of the points of the default search those that need another server than the one before: with noise of 1.5 %, on
servers that start within the time of a point, and on such as take longer (``tests/benchmarks/search_quality.py``)."""

_LONG_SHARE = 1 / 3


def coarse_s(restart_s: float) -> float:
    """To a power of two: a search that is resumed times its server anew, and should go on as it would have."""
    return 2.0 ** round(math.log2(max(restart_s, 1 / 16)))


def expected_load_s(mode: str, options: SearchOptions, duration_s: float) -> float:
    """Of a point on average: the default search measures a third of them for long, the other modes all."""
    if mode != "capacity" or options.screen_duration_s is None:
        return duration_s
    return _LONG_SHARE * duration_s + (1 - _LONG_SHARE) * options.screen_duration_s


def expected_starts(mode: str, options: SearchOptions, point_count: int, server_count: int) -> int:
    """Of a server; a grid starts each configuration once."""
    if mode == "brute":
        return min(point_count, server_count)
    slow = options.screen_duration_s is not None and options.restart_s > options.screen_duration_s
    share = _START_SHARES.get(mode, _SLOW_START_SHARE if slow else _SWIFT_START_SHARE)
    return math.ceil(share * point_count) if server_count > 1 else min(point_count, 1)

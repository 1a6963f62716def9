"""How many points a search may measure: a number, a part of the grid, or the smaller of both."""

import math

from analyzer.domain.record import Record
from analyzer.settings.values import at_least, items, number, text, whole


class PointLimit(Record, frozen=True, omit_defaults=True):
    """None is no limit. ``ratio`` is of all candidates at all loads."""

    count: int | None = None
    ratio: float | None = None

    def of(self, grid_point_count: int) -> int | None:
        """One point at least: a search that may ask for nothing has no answer."""
        part = None if self.ratio is None else max(1, math.floor(self.ratio * grid_point_count))
        return min((each for each in (self.count, part) if each is not None), default=None)


def point_limit(raw: object) -> PointLimit:
    count: int | None = None
    ratio: float | None = None
    try:
        for item in (text(each) for each in items(raw)):
            if item.endswith("%"):
                percent = at_least(0, number)(item.removesuffix("%"))
                ratio = min(percent / 100, 1.0 if ratio is None else ratio)
            else:
                given = at_least(1, whole)(item)
                count = given if count is None else min(given, count)
    except ValueError:
        count = ratio = None
    if count is None and not ratio:
        raise ValueError("takes a number of points from 1, or a part of the grid such as 10%")
    return PointLimit(count=count, ratio=ratio)

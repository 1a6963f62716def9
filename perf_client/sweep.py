"""Which levels of load to measure, one after the other: a rising line or a bisection, told what each level gave."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from perf_client.profile import LoadProfile, LoadResult

Mode = Literal["concurrency", "request_rate", "streams", "fixed"]
"""What the levels count; ``fixed``: there is one, as the load is."""
Measure = Callable[[LoadProfile], LoadResult]


@dataclass(frozen=True, slots=True)
class Levels:
    """``end`` None: go on until a level misses the limit. ``step`` is also the precision of a bisection."""

    mode: Mode
    start: float
    end: float | None
    step: float

    def __iter__(self) -> Iterator[float]:
        """Levels from start to end. Each is computed from the start, so that fractions don't add up their errors."""
        turn = 0
        while self.end is None or self.start + turn * self.step <= self.end * (1 + 1e-9):
            yield self.start + turn * self.step
            turn += 1


@dataclass(frozen=True, slots=True)
class Limit:
    """A latency limit on a percentile of the response time, or on its mean where ``percent`` is None."""

    limit_ns: float
    percent: float | None = None

    def kept(self, result: LoadResult) -> bool:
        """An overload keeps no limit: its latency depends on when one stopped looking."""
        value = judged_ns(result, self.percent)
        return value is not None and value < self.limit_ns and result.verdict != "overloaded"


class Search(Protocol):
    """Says what to measure next; None when there is no more to learn."""

    def ask(self) -> float | None: ...

    def tell(self, level: float, kept: bool) -> None: ...


class Line:
    """Level after level, until one misses the limit."""

    def __init__(self, levels: Levels) -> None:
        self._rest = iter(levels)
        self._missed = False

    def ask(self) -> float | None:
        return None if self._missed else next(self._rest, None)

    def tell(self, level: float, kept: bool) -> None:
        self._missed = not kept


class Bisection:
    """The lowest level, then the highest, then halves between what kept the limit and what missed it."""

    def __init__(self, levels: Levels, end: float) -> None:
        self._levels = levels
        self._kept: float | None = None
        self._missed: float | None = None
        self._next: float | None = levels.start
        self._end = end

    def ask(self) -> float | None:
        return self._next

    def tell(self, level: float, kept: bool) -> None:
        if kept:
            self._kept = level
        else:
            self._missed = level
        self._next = self._after()

    def _after(self) -> float | None:
        if self._kept is None or self._kept == self._end:
            return None
        if self._missed is None:
            return self._end
        if self._missed - self._kept <= self._levels.step:
            return None
        middle = (self._kept + self._missed) / 2
        return middle if self._levels.mode == "request_rate" else float(int(middle))


def make_search(levels: Levels, *, bisect: bool) -> Search:
    if bisect and levels.end is not None:
        return Bisection(levels, levels.end)
    return Line(levels)


def sweep(
    template: LoadProfile, levels: Levels, search: Search, limit: Limit | None, measure: Measure
) -> Iterator[LoadResult]:
    """Measure what the search asks for, each result given on as soon as it is there; an interrupted one is the last."""
    while (level := search.ask()) is not None:
        result = measure(at_level(template, level) if levels.mode != "fixed" else template)
        yield result
        if result.incomplete:
            return
        search.tell(level, limit is None or limit.kept(result))


def by_level(results: Sequence[LoadResult]) -> list[LoadResult]:
    """A bisection measures in another order than the one to read in."""
    return sorted(results, key=lambda result: result.profile.load.level)


def at_level(template: LoadProfile, level: float) -> LoadProfile:
    """The template's own load gives what is not the level: the arrival, its shape, the cap."""
    return msgspec.structs.replace(template, load=template.load.at_level(level))


def judged_ns(result: LoadResult, percent: float | None) -> float | None:
    """The latency that a limit is about and that the summary shows: a percentile, or the mean."""
    if result.response is None:
        return None
    if percent is None:
        return result.response.mean_ns
    return next((float(p.value_ns) for p in result.response.percentiles if p.percent == percent), None)

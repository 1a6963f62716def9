"""Two timelines side by side, kernel by kernel and range by range: counts, totals, means, what only one of them has.

Names that are equal are compared first. Of the rest, two are taken as one that was renamed if their bare names are
equal (no return type, template arguments, parameters, numbers of lambdas or tile sizes) and no other has that one.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from analyzer.domain.record import Record
from analyzer.errors import InputError
from analyzer.timeline.analyses.busy import Busy, busy
from analyzer.timeline.analyses.served import range_spreads
from analyzer.timeline.analyses.spread import Spread
from analyzer.timeline.analyses.sums import NameSum, api_sums, copy_time_sums, kernel_sums, operator_sums
from analyzer.timeline.requests import root_rows
from analyzer.timeline.table import Timeline


class Change(Record, frozen=True):
    """One name in both, or in one of them (the other's spread is None). ``name_b`` differs where it was renamed.

    Totals are compared after division by ``per``, such as the number of requests in each.
    """

    name: str
    name_b: str
    a: Spread | None
    b: Spread | None
    per: tuple[int, int] = (1, 1)

    @property
    def is_renamed(self) -> bool:
        return self.a is not None and self.b is not None and self.name != self.name_b

    @property
    def total_change(self) -> float:
        a, b = self.totals
        return b - a

    @property
    def totals(self) -> tuple[float, float]:
        return (self.a.total / self.per[0] if self.a else 0, self.b.total / self.per[1] if self.b else 0)

    @property
    def total_ratio(self) -> float | None:
        """Total of b over that of a; None where one of them has none."""
        a, b = self.totals
        return b / a if self.a and self.b and a else None

    @property
    def mean_ratio(self) -> float | None:
        return self.b.mean / self.a.mean if self.a and self.b and self.a.mean else None


class Difference(Record, frozen=True):
    """Changes of each table, the largest change of total first.

    ``per`` names what totals were divided by: requests, or the ranges of a name; empty where they are of all.
    """

    kernels: tuple[Change, ...]
    copies: tuple[Change, ...]
    ranges: tuple[Change, ...]
    calls: tuple[Change, ...]
    operators: tuple[Change, ...]
    busy_a: tuple[Busy, ...]
    busy_b: tuple[Busy, ...]
    per: str = ""
    count_a: int = 1
    count_b: int = 1


REQUEST = "request"


def diff(a: Timeline, b: Timeline, per: tuple[str, str] | None = None) -> Difference:
    """``per`` names ranges of both sides, one of which stands for one request: two servers name theirs otherwise.

    Without it totals are of one request each where both sides know their requests, else of the whole captures.
    """
    ranges = range_spreads(a), range_spreads(b)
    counts, name = (len(root_rows(a)), len(root_rows(b))), REQUEST
    if per is not None:
        counts, name = (_count(ranges[0], per[0]), _count(ranges[1], per[1])), per[0]
    each = counts if all(counts) else (1, 1)
    return Difference(
        kernels=_compared(kernel_sums(a), kernel_sums(b), each),
        copies=_compared(copy_time_sums(a), copy_time_sums(b), each),
        ranges=_changes(*ranges, each),
        calls=_compared(api_sums(a), api_sums(b), each),
        operators=_compared(operator_sums(a), operator_sums(b), each),
        busy_a=busy(a),
        busy_b=busy(b),
        per=name if all(counts) else "",
        count_a=each[0],
        count_b=each[1],
    )


def _count(ranges: Mapping[str, Spread], name: str) -> int:
    if name not in ranges:
        known = ", ".join(sorted(ranges)[:10]) or "none"
        raise InputError(f"a capture has no range {name!r} to divide by; it has {known}")
    return ranges[name].count


def _compared(a: Iterable[NameSum], b: Iterable[NameSum], per: tuple[int, int]) -> tuple[Change, ...]:
    return _changes({each.name: each.spread for each in a}, {each.name: each.spread for each in b}, per)


def _changes(a: Mapping[str, Spread], b: Mapping[str, Spread], per: tuple[int, int]) -> tuple[Change, ...]:
    renamed = _renamed([name for name in a if name not in b], [name for name in b if name not in a])
    found = [
        Change(name=name, name_b=renamed.get(name, name), a=figures, b=b.get(renamed.get(name, name)), per=per)
        for name, figures in a.items()
    ]
    taken = {change.name_b for change in found}
    found += [
        Change(name=name, name_b=name, a=None, b=figures, per=per) for name, figures in b.items() if name not in taken
    ]
    return tuple(sorted(found, key=_order))


def _order(change: Change) -> tuple[float, float, str]:
    """The largest change first; among equal ones the largest total."""
    return -abs(change.total_change), -max(change.totals), change.name


def _renamed(only_a: list[str], only_b: list[str]) -> dict[str, str]:
    bare_a, bare_b = ({name: bare(name) for name in names} for names in (only_a, only_b))
    count_a, count_b = Counter(bare_a.values()), Counter(bare_b.values())
    by_bare = {key: name for name, key in bare_b.items() if count_b[key] == 1}
    return {name: by_bare[key] for name, key in bare_a.items() if count_a[key] == 1 and key in by_bare}


def bare(name: str) -> str:
    """A kernel's name without what differs from build to build."""
    text = name.removeprefix("void ").replace("<unnamed>", "").replace("(anonymous namespace)", "")
    text = _without_brackets(text, "<", ">")
    text = _without_brackets(text, "(", ")")
    text = re.sub(r"\d+x\d+(x\d+)*", "#", text)
    return re.sub(r"_?\d+", "#", text).strip(" :")


def _without_brackets(text: str, opening: str, closing: str) -> str:
    kept, depth = [], 0
    for letter in text:
        depth += letter == opening
        if depth == 0:
            kept.append(letter)
        depth = max(0, depth - (letter == closing))
    return "".join(kept)

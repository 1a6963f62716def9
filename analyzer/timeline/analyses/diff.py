"""Two timelines side by side, kernel by kernel and range by range: counts, totals, means, what only one of them has.

Names that are equal are compared first. Of the rest, two are taken as one that was renamed if their bare names are
equal (no return type, template arguments, parameters, numbers of lambdas or tile sizes) and no other has that one.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from analyzer.domain.record import Record
from analyzer.timeline.analyses.busy import Busy, busy
from analyzer.timeline.analyses.spread import Spread
from analyzer.timeline.analyses.sums import NameSum, api_sums, copy_time_sums, kernel_sums, operator_sums, range_sums
from analyzer.timeline.table import Timeline


class Change(Record, frozen=True):
    """One name in both, or in one of them (the other's spread is None). ``name_b`` differs where it was renamed."""

    name: str
    name_b: str
    a: Spread | None
    b: Spread | None

    @property
    def is_renamed(self) -> bool:
        return self.a is not None and self.b is not None and self.name != self.name_b

    @property
    def total_change(self) -> int:
        return (self.b.total if self.b else 0) - (self.a.total if self.a else 0)

    @property
    def total_ratio(self) -> float | None:
        """Total of b over that of a; None where one of them has none."""
        return self.b.total / self.a.total if self.a and self.b and self.a.total else None

    @property
    def mean_ratio(self) -> float | None:
        return self.b.mean / self.a.mean if self.a and self.b and self.a.mean else None


class Difference(Record, frozen=True):
    """Changes of each table, the largest change of total first."""

    kernels: tuple[Change, ...]
    copies: tuple[Change, ...]
    ranges: tuple[Change, ...]
    calls: tuple[Change, ...]
    operators: tuple[Change, ...]
    busy_a: tuple[Busy, ...]
    busy_b: tuple[Busy, ...]


def diff(a: Timeline, b: Timeline) -> Difference:
    return Difference(
        kernels=_compared(kernel_sums(a), kernel_sums(b)),
        copies=_compared(copy_time_sums(a), copy_time_sums(b)),
        ranges=_changes(_ranges(a), _ranges(b)),
        calls=_compared(api_sums(a), api_sums(b)),
        operators=_compared(operator_sums(a), operator_sums(b)),
        busy_a=busy(a),
        busy_b=busy(b),
    )


def _compared(a: Iterable[NameSum], b: Iterable[NameSum]) -> tuple[Change, ...]:
    return _changes({each.name: each.spread for each in a}, {each.name: each.spread for each in b})


def _ranges(timeline: Timeline) -> dict[str, Spread]:
    """By name; where both styles have one, the style stands behind it."""
    found: dict[str, Spread] = {}
    for each in range_sums(timeline):
        found[f"{each.name} ({each.style})" if each.name in found else each.name] = each.spread
    return found


def _changes(a: Mapping[str, Spread], b: Mapping[str, Spread]) -> tuple[Change, ...]:
    renamed = _renamed([name for name in a if name not in b], [name for name in b if name not in a])
    found = [
        Change(name=name, name_b=renamed.get(name, name), a=figures, b=b.get(renamed.get(name, name)))
        for name, figures in a.items()
    ]
    taken = {change.name_b for change in found}
    found += [Change(name=name, name_b=name, a=None, b=figures) for name, figures in b.items() if name not in taken]
    return tuple(sorted(found, key=_order))


def _order(change: Change) -> tuple[int, int, str]:
    """The largest change first; among equal ones the largest total."""
    largest = max(side.total for side in (change.a, change.b) if side)
    return -abs(change.total_change), -largest, change.name


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

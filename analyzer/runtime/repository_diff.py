"""Two looks at a model repository to what came, went or changed between them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Footprint = Mapping[str, tuple[int, int]]
"""The files of one model by path within its folder: when each was changed (ns), and its size in bytes."""

Snapshot = Mapping[str, Footprint]
"""Every model folder of a repository, by name."""


@dataclass(frozen=True, slots=True)
class Changes:
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def to_load(self) -> tuple[str, ...]:
        return tuple(sorted((*self.added, *self.changed)))

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def difference(before: Snapshot, after: Snapshot) -> Changes:
    return Changes(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(sorted(name for name in after.keys() & before.keys() if after[name] != before[name])),
        removed=tuple(sorted(before.keys() - after.keys())),
    )


def callers(called: Mapping[str, Iterable[str]], changed: Iterable[str]) -> set[str]:
    """The models that call one of the changed ones, directly or through others. ``called`` has what each calls."""
    found: set[str] = set()
    reached = set(changed)
    while reached:
        reached = {name for name, names in called.items() if not reached.isdisjoint(names)} - found
        found |= reached
    return found

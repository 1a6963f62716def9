"""Nested records of a run, its machine and its settings, to flat lines for a reader. Nothing is left out."""

from collections.abc import Iterable, Mapping
from typing import Any

from analyzer.domain.figures import NOT_MEASURED, number
from analyzer.render.view import Fact

_UNITS = {
    "_bytes": ("", 1),
    "_ns": ("ms", 1e6),
    "_us": ("µs", 1),
    "_ms": ("ms", 1),
    "_mhz": ("MHz", 1),
    "_mb": ("MB", 1),
    "_s": ("s", 1),
    "_w": ("W", 1),
}
"""Units that a name ends in, as they are shown and by what they are divided; bytes by what fits."""
_OF_BYTES = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("bytes", 1))


def facts(values: Mapping[str, Any], absent: str = NOT_MEASURED, prefix: str = "") -> Iterable[Fact]:
    """Names of nested values are joined; None is shown as ``absent``."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from facts(value, absent, f"{prefix}{_words(key)} · ")
        elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            for place, item in enumerate(value):
                nested = item if isinstance(item, Mapping) else {"": item}
                yield from facts(nested, absent, f"{prefix}{_words(key)} {place} · ")
        else:
            yield _fact(key, value, absent, prefix)


def _fact(key: str, value: Any, absent: str, prefix: str) -> Fact:
    for suffix, (unit, scale) in _UNITS.items():
        if not key.endswith(suffix) or key.endswith("_per_s"):
            continue
        if value is None:
            return Fact(name=prefix + _words(key.removesuffix(suffix)), value=absent)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            shown = _bytes(value) if suffix == "_bytes" else f"{number(value / scale)} {unit}"
            return Fact(name=prefix + _words(key.removesuffix(suffix)), value=shown)
    return Fact(name=prefix + _words(key), value=_plain(value, absent))


def _bytes(value: float) -> str:
    unit, scale = next((each for each in _OF_BYTES if value >= each[1]), _OF_BYTES[-1])
    return f"{number(value / scale)} {unit}"


def _words(key: str) -> str:
    return key.replace("_", " ").strip()


def _plain(value: Any, absent: str) -> str:
    if value is None:
        return absent
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item, absent) for item in value) or "none"
    return str(value) or "none"

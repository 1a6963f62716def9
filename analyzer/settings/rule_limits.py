"""Limits of the rules, as an option: ``R1.gap_us=200``, or in YAML a mapping of rules to their limits."""

from collections.abc import Iterator, Mapping

from analyzer.domain.thresholds import names
from analyzer.settings.values import at_least, items, number, text


def rule_limits(raw: object) -> dict[str, float]:
    """By name, such as ``R1.gap_us``. Raises ValueError with what it takes."""
    limit = at_least(0, number)
    found = {}
    for name, value in _pairs(raw):
        if name not in names():
            rule = name.partition(".")[0]
            known = [each for each in names() if each.startswith(f"{rule}.")] or names()
            raise ValueError(f"names no limit of a rule: {name}; known are {', '.join(known)}")
        found[name] = limit(value)
    return found


def _pairs(raw: object) -> Iterator[tuple[str, object]]:
    if isinstance(raw, Mapping):
        for name, value in raw.items():
            if isinstance(value, Mapping):
                yield from ((f"{name}.{field}", each) for field, each in value.items())
            else:
                yield str(name), value
        return
    for item in items(raw):
        name, sign, value = text(item).partition("=")
        if not sign:
            raise ValueError("takes RULE.LIMIT=N, such as R1.gap_us=200")
        yield name.strip(), value.strip()

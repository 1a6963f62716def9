"""What the value of an option may look like: text from a flag, or a YAML value, to what the program works with.

Each parser raises ValueError with what it takes, worded to follow the option's name.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from analyzer.domain.budget import Budget, Objective, parse_budget
from analyzer.domain.metrics import METRICS, unknown_metric

Parse = Callable[[object], object]
N = TypeVar("N", int, float)


def text(raw: object) -> str:
    if isinstance(raw, (str, int, float)) and not isinstance(raw, bool):
        return str(raw)
    raise ValueError("takes a text")


def switch(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if isinstance(raw, str) and raw.lower() in words:
        return words[raw.lower()]
    raise ValueError("takes true or false")


def items(raw: object) -> list[object]:
    if isinstance(raw, str):
        return [item.strip() for item in raw.split(",") if item.strip()]
    return list(raw) if isinstance(raw, (list, tuple)) else [raw]


def texts(raw: object) -> tuple[str, ...]:
    return tuple(text(item) for item in items(raw))


def number(raw: object) -> float:
    try:
        value = math.nan if isinstance(raw, bool) else float(str(raw))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("takes a number")
    return value


def whole(raw: object) -> int:
    value = number(raw)
    if not value.is_integer():
        raise ValueError("takes a whole number")
    return int(value)


def at_least(lowest: float, parse: Callable[[object], N]) -> Callable[[object], N]:
    def check(raw: object) -> N:
        value = parse(raw)
        if value < lowest:
            raise ValueError(f"must be at least {lowest:g}")
        return value

    return check


def wholes(lowest: int) -> Callable[[object], tuple[int, ...]]:
    """``1,2,4``, ``1:8`` (doubling), ``1:8:1`` (stepping), a YAML list or a single number."""
    one = at_least(lowest, whole)

    def parse(raw: object) -> tuple[int, ...]:
        found: dict[int, None] = {}
        for item in items(raw):
            bounds = [one(part) for part in item.split(":")] if isinstance(item, str) else [one(item)]
            for value in _expand(bounds):
                found[value] = None
        if not found:
            raise ValueError("takes at least one number")
        return tuple(found)

    return parse


def numbers(raw: object) -> tuple[float, ...]:
    """Above 0, each once, rising."""
    one = at_least(1e-3, number)
    return tuple(sorted({one(item) for item in items(raw)}))


def _expand(bounds: list[int]) -> Iterator[int]:
    match bounds:
        case [value]:
            yield value
        case [start, stop] if 0 < start <= stop:
            while start < stop:
                yield start
                start *= 2
            yield stop
        case [start, stop, step] if start <= stop and step > 0:
            yield from range(start, stop + 1, step)
        case _:
            raise ValueError("takes START:STOP or START:STOP:STEP with START not above STOP")


def switches(raw: object) -> tuple[bool, ...]:
    return tuple(dict.fromkeys(switch(item) for item in items(raw)))


def _with_unit(units: Mapping[str, float], default_unit: str, example: str) -> Callable[[object], float]:
    def parse(raw: object) -> float:
        match = re.fullmatch(r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([A-Za-zµ]*)\s*", str(raw))
        unit = (match[2].lower() or default_unit) if match else ""
        if match is None or unit not in units:
            raise ValueError(f"takes a number with a unit ({', '.join(units)}), such as {example}")
        return number(match[1]) * units[unit]

    return parse


seconds = _with_unit({"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}, "s", "90s or 10m")
milliseconds = _with_unit({"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}, "ms", "20ms")
megabytes = _with_unit({"mb": 1.0, "mib": 1.0, "gb": 1024.0, "gib": 1024.0}, "mb", "4GB")


def positive(parse: Callable[[object], float]) -> Callable[[object], float]:
    def check(raw: object) -> float:
        value = parse(raw)
        if value <= 0:
            raise ValueError("must be above 0")
        return value

    return check


def choice(*allowed: str) -> Callable[[object], str]:
    def parse(raw: object) -> str:
        if raw not in allowed:
            raise ValueError(f"takes one of {', '.join(allowed)}")
        return str(raw)

    return parse


def choices(*allowed: str) -> Callable[[object], tuple[str, ...]]:
    one = choice(*allowed)
    return lambda raw: tuple(dict.fromkeys(one(item) for item in items(raw)))


def range_of(parse: Callable[[object], float], lowest: float) -> Callable[[object], tuple[float, float]]:
    def check(raw: object) -> tuple[float, float]:
        parts = [parse(part) for part in (raw.split(":") if isinstance(raw, str) else items(raw))]
        low, high = parts[0], parts[-1]
        if len(parts) > 2 or low < lowest or high < low:
            raise ValueError(f"takes LOW:HIGH with LOW at least {lowest:g} and not above HIGH")
        return low, high

    return check


def budget_list(raw: object) -> tuple[Budget, ...]:
    return tuple(parse_budget(text(item)) for item in items(raw))


def objective_list(raw: object) -> tuple[Objective, ...]:
    """``METRIC``, ``METRIC:WEIGHT`` or ``MODEL:METRIC:WEIGHT``; in YAML a mapping of names to weights too.

    A weight of 0 leaves the metric out.
    """
    pairs = raw.items() if isinstance(raw, dict) else [_weighted(text(item)) for item in items(raw)]
    found = []
    for name, weight in pairs:
        model, _, metric = str(name).rpartition(":")
        if metric not in METRICS:
            raise ValueError(f"names {unknown_metric(metric)}")
        if model and METRICS[metric].of_load is None:
            raise ValueError(f"names {metric} of {model}, but it is of the whole server: leave {model}: out")
        weigh = at_least(0, number)
        found.append(Objective(metric=metric, weight=1.0 if weight in ("", None) else weigh(weight), model=model))
    counted = tuple(objective for objective in found if objective.weight)
    if not counted:
        raise ValueError("needs one weight above 0")
    return counted


def _weighted(item: str) -> tuple[str, str]:
    """The name and its weight; a last part that names a metric is no weight."""
    name, _, last = item.rpartition(":")
    return (item, "") if not name or last in METRICS else (name, last)

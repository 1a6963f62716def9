"""The shapes in which Model Analyzer's YAML gives things: lists of numbers, models with blocks, nested lists of values.

Each function raises ValueError with a sentence that follows the key's name.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from analyzer.settings.values import at_least, number, text, whole

Block = Mapping[str, Any]


def numbers(raw: object, lowest: float = 1, *, are_whole: bool = True) -> tuple[float, ...]:
    """``4``, ``1,2``, ``1:8:2``, a list, or ``{start, stop, step}``, in rising order."""
    one = at_least(lowest, whole if are_whole else number)
    if isinstance(raw, Mapping):
        if not {"start", "stop"} <= raw.keys() <= {"start", "stop", "step"}:
            raise ValueError("takes start and stop, and maybe step")
        found = _stepped(one(raw["start"]), one(raw["stop"]), one(raw.get("step", 1)))
    elif isinstance(raw, str) and ":" in raw:
        start, stop, *step = (one(part) for part in raw.split(":"))
        found = _stepped(start, stop, *step[:1])
    else:
        items = raw.split(",") if isinstance(raw, str) else raw if isinstance(raw, (list, tuple)) else [raw]
        found = [one(item) for item in items if item != ""]
    if not found:
        raise ValueError("takes at least one number")
    return tuple(sorted(set(found)))


def _stepped(start: float, stop: float, step: float = 1) -> list[float]:
    if stop < start:
        raise ValueError("takes a start not above its stop")
    return [start + place * step for place in range(int((stop - start) / step) + 1)]


def joined(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)


def model_blocks(raw: object) -> dict[str, Block]:
    """``a,b``, a list of names and of ``name: block``, or a mapping of names to blocks. Each name once."""
    if isinstance(raw, Mapping):
        pairs: list[tuple[str, object]] = [(text(name), block) for name, block in raw.items()]
    elif isinstance(raw, str):
        pairs = [(name.strip(), {}) for name in raw.split(",") if name.strip()]
    elif isinstance(raw, (list, tuple)):
        pairs = [pair for item in raw for pair in _entry(item)]
    else:
        raise ValueError("takes names of models, each with a block of its own if need be")
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"names {twice} twice")
    for name, block in pairs:
        if not (block is None or isinstance(block, Mapping)):
            raise ValueError(f"takes a mapping as the block of {name}")
    return {name: block if isinstance(block, Mapping) else {} for name, block in pairs}


def _entry(item: object) -> Iterator[tuple[str, object]]:
    if isinstance(item, Mapping):
        yield from ((text(name), block) for name, block in item.items())
    else:
        yield text(item), {}


def axes(raw: Block) -> dict[str, list[object]]:
    """``model_config_parameters`` to paths of config.pbtxt and the values to try of each.

    A list at the end of a path holds alternatives, so a field that is a list itself has one level more.
    """
    found: dict[str, list[object]] = {}
    for name, value in raw.items():
        if value in (None, {}, []):
            found[name] = ["{}"]
        elif name == "parameters" and isinstance(value, Mapping):
            for key, values in value.items():
                found[f"parameters.{key}"] = _alternatives(_parameter(values))
        elif isinstance(value, Mapping):
            found |= {f"{name}.{path}": values for path, values in _leaves(value).items()}
        elif isinstance(value, list) and any(isinstance(item, (Mapping, list)) for item in value):
            found |= _of_messages(name, value)
        else:
            found[name] = _alternatives(value)
    return found


def _leaves(raw: Block) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for name, value in raw.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{path}": values for path, values in _leaves(value).items()}
        else:
            found[name] = _alternatives(value)
    return found


def _alternatives(raw: object) -> list[object]:
    return list(raw) if isinstance(raw, list) else [raw]


def _parameter(raw: object) -> object:
    """``{string_value: ...}``."""
    return raw.get("string_value", "") if isinstance(raw, Mapping) else raw


def _of_messages(name: str, raw: list[Any]) -> dict[str, list[object]]:
    """A list of alternatives: a message each, or a list of messages. One message alone is told by its fields."""
    if len(raw) == 1 and isinstance(raw[0], Mapping):
        return {f"{name}.{path}": values for path, values in _leaves(raw[0]).items()}
    every: list[object] = []
    for item in raw:
        messages = item if isinstance(item, list) else [item]
        if all(isinstance(message, Mapping) for message in messages):
            every += [list(combined) for combined in product(*(_each(message) for message in messages))]
        else:
            every.append(item)
    return {name: every}


def _each(message: Block) -> list[dict[str, object]]:
    """Every combination of the values of its fields; a list in a list is one value."""
    choices = [[(name, value) for value in _alternatives(values)] for name, values in message.items()]
    return [dict(chosen) for chosen in product(*choices)]


def pairs(raw: object, name: str) -> Iterator[tuple[str, str]]:
    """A mapping of names to values, as texts. Nothing is no pair."""
    if raw is None:
        return
    if not isinstance(raw, Mapping):
        raise ValueError(f"{name} takes a mapping of names to values")
    for key, value in raw.items():
        yield str(key), str(value).lower() if isinstance(value, bool) else str(value)

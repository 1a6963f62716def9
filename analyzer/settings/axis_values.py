"""What the values of axes may look like: any field of ``config.pbtxt``, lists of sizes, loads by model.

As in ``values``, each parser raises ValueError with what it takes, worded to follow the option's name.
"""

from collections.abc import Callable, Iterable, Mapping

from analyzer.domain.record import Record
from analyzer.domain.run import EditValue
from analyzer.domain.space import Axis
from analyzer.settings.values import at_least, items, number, range_of, text, whole

KINDS = ("cpu", "gpu", "auto", "model")
_OPENING, _CLOSING = "[{(", "]})"


class ModelAxis(Record, frozen=True):
    """An axis of one model, or of all that are varied where ``model`` is empty."""

    axis: Axis
    model: str = ""


def axis_list(raw: object) -> tuple[ModelAxis, ...]:
    """``PATH=V1,V2`` or ``MODEL:PATH=V1,V2``, a list of such, or a YAML mapping of paths to lists of values."""
    if isinstance(raw, Mapping):
        pairs = [(text(name), values) for name, values in raw.items()]
    else:
        pairs = [_named(item) for item in (raw if isinstance(raw, (list, tuple)) else [raw])]
    found = tuple(_axis(name, values) for name, values in pairs)
    names = [(each.model, each.axis.path) for each in found]
    twice = next((path for model, path in names if names.count((model, path)) > 1), None)
    if twice is not None:
        raise ValueError(f"names {twice} twice; give all of its values at once")
    return found


def _named(raw: object) -> tuple[str, object]:
    name, equals, values = text(raw).partition("=")
    if not equals or not name.strip():
        raise ValueError("takes PATH=V1,V2, such as 'parameters.intra_op_thread_count=1,2'")
    return name.strip(), values


def _axis(name: str, values: object) -> ModelAxis:
    # The schema comes with a library that takes a tenth of a second to load.
    from analyzer.config_fields import normalised

    model, _, path = name.rpartition(":")
    found = [normalised(path, value) for value in _values(values)]
    if not found:
        raise ValueError(f"gives no value for {path}")
    return ModelAxis(axis=Axis(path=path, values=_distinct(found)), model=model)


def _values(raw: object) -> Iterable[object]:
    if isinstance(raw, str):
        return split_outside_brackets(raw)
    return raw if isinstance(raw, (list, tuple)) else [raw]


def _distinct(values: Iterable[EditValue]) -> tuple[EditValue, ...]:
    """True and 1 are equal to Python and not to a configuration."""
    return tuple({(type(value), value): value for value in values}.values())


def split_outside_brackets(raw: str) -> list[str]:
    """``[1,2],{a: 3}`` to ``[1,2]`` and ``{a: 3}``. Quotes hold brackets and commas together too."""
    parts, depth, quote = [""], 0, ""
    for letter in raw:
        if letter == "," and not depth and not quote:
            parts.append("")
            continue
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        depth += 0 if quote else (letter in _OPENING) - (letter in _CLOSING)
        parts[-1] += letter
    return [part.strip() for part in parts if part.strip()]


def lists_of(lowest: int) -> Callable[[object], tuple[tuple[int, ...], ...]]:
    """Lists of whole numbers: ``4+8,8`` is (4, 8) and (8); in YAML a list of lists or of single numbers."""
    one = at_least(lowest, whole)

    def parse(raw: object) -> tuple[tuple[int, ...], ...]:
        found = [
            tuple(one(part) for part in (item.split("+") if isinstance(item, str) else items(item)))
            for item in items(raw)
        ]
        if not found:
            raise ValueError("takes at least one number")
        return tuple(dict.fromkeys(found))

    return parse


def load_map(raw: object) -> dict[str, tuple[float, float]]:
    """``MODEL:LOW:HIGH``, a list of such, or a YAML mapping of models to ``LOW:HIGH``."""
    bounds = range_of(number, 0.001)
    if isinstance(raw, Mapping):
        return {text(model): bounds(value) for model, value in raw.items()}
    pairs = [text(item).partition(":")[::2] for item in (raw if isinstance(raw, (list, tuple)) else [raw])]
    if not all(model and rest for model, rest in pairs):
        raise ValueError("takes MODEL:LOW:HIGH")
    return {model: bounds(rest) for model, rest in pairs}


def shape_map(raw: object) -> dict[str, tuple[tuple[int, ...], ...]]:
    """``NAME:3,224,224``, alternatives separated by ``|``; in YAML a mapping of names to a list, or to lists."""
    if isinstance(raw, Mapping):
        pairs = [(text(name), sizes) for name, sizes in raw.items()]
    else:
        words = raw.split() if isinstance(raw, str) else items(raw)
        pairs = [text(item).partition(":")[::2] for item in words]
    return {name: _shapes(sizes) for name, sizes in pairs}


def _shapes(raw: object) -> tuple[tuple[int, ...], ...]:
    size = at_least(1, whole)
    if isinstance(raw, str):
        alternatives: list[object] = list(raw.split("|"))
    else:
        listed = items(raw)
        alternatives = listed if any(isinstance(item, (list, tuple, str)) for item in listed) else [listed]
    return tuple(dict.fromkeys(tuple(size(item) for item in items(one)) for one in alternatives))

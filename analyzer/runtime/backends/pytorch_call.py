"""Names of a configuration to arguments of ``forward`` and back: which input goes where, which result is which output.

As Triton does it: inputs go by the names of the arguments where all of them are such names, by the number behind two
underscores (``INPUT__0``) where all have one, else in the order of the configuration. Outputs likewise, by the keys of
a dictionary, by number, or in order.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analyzer.runtime.backends.base import ModelError
from analyzer.runtime.request import ErrorKind, InferError

SCALARS = {"int": int, "float": float, "bool": bool}


@dataclass(frozen=True, slots=True)
class Argument:
    """``kind`` is tensor, dictionary (of tensors by name), int, float, bool, or PyTorch's name of what we can't give.

    An argument that may be left out is not ``required``. ``fixed`` is the only value that an exported program takes.
    """

    name: str
    kind: str = "tensor"
    required: bool = True
    by_keyword: bool = False
    fixed: object = None


@dataclass(frozen=True, slots=True)
class CallPlan:
    """``bound`` are the arguments in order, each with the input that it gets, None where it gets none.

    A ``dictionary`` gets all inputs at once.
    """

    bound: tuple[tuple[Argument, str | None], ...]
    dictionary: bool = False

    def arguments(self, inputs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments of a call. ``inputs`` are tensors. Raises InferError."""
        if self.dictionary:
            return [dict(inputs)], {}
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        has_gap = False
        for argument, name in self.bound:
            if argument.fixed is None and (name is None or name not in inputs):
                has_gap = True
                continue
            value = argument.fixed if name is None else _value(argument, name, inputs)
            if argument.by_keyword or has_gap:
                keywords[argument.name] = value
            else:
                positional.append(value)
        return positional, keywords

    @property
    def scalars(self) -> list[str]:
        """The inputs that are handed over as numbers."""
        return [name for argument, name in self.bound if name is not None and argument.kind in SCALARS]


def plan_call(model: str, arguments: Sequence[Argument], names: Sequence[str]) -> CallPlan:
    """Raises ModelError where the inputs of the configuration are not what forward takes."""
    if len(arguments) == 1 and arguments[0].kind == "dictionary":
        return CallPlan((), dictionary=True)
    by_name = {argument.name: position for position, argument in enumerate(arguments)}
    positions = [by_name[name] for name in names] if by_name.keys() >= set(names) else _places(names)
    for name, position in zip(names, positions):
        if position >= len(arguments):
            listed = ", ".join(by_name) or "nothing"
            raise ModelError(f"input '{name}' of model '{model}' has no place in its forward, which takes {listed}")
        if arguments[position].kind not in ("tensor", *SCALARS):
            raise ModelError(
                f"argument '{arguments[position].name}' of model '{model}' is of the type {arguments[position].kind}, "
                "which is neither a tensor nor a number"
            )
    given = dict(zip(positions, names))
    for position, argument in enumerate(arguments):
        if position not in given and argument.required and argument.fixed is None:
            raise ModelError(
                f"model '{model}' needs the argument '{argument.name}' of its forward, for which its config.pbtxt has "
                "no input"
            )
    return CallPlan(tuple((argument, given.get(position)) for position, argument in enumerate(arguments)))


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """``names`` are the outputs wanted, ``places`` where each lies in a flat result."""

    model: str
    names: tuple[str, ...]
    places: tuple[int, ...]

    def pick(self, result: object) -> dict[str, Any]:
        """The tensors of what forward gave back, by output. Raises InferError."""
        if isinstance(result, Mapping):
            if result.keys() >= set(self.names):
                return {name: result[name] for name in self.names}
        elif not isinstance(result, list | tuple):
            result = (result,)
        elif set(getattr(result, "_fields", ())) >= set(self.names):
            return {name: getattr(result, name) for name in self.names}
        flat = list(_flat(result))
        for name, place in zip(self.names, self.places):
            if place >= len(flat):
                raise InferError(
                    ErrorKind.INTERNAL,
                    f"model '{self.model}' gave {len(flat)} outputs, its config.pbtxt has '{name}' as number {place}",
                )
        return {name: flat[place] for name, place in zip(self.names, self.places)}


def plan_outputs(model: str, names: Sequence[str]) -> OutputPlan:
    return OutputPlan(model, tuple(names), tuple(_places(names)))


def _places(names: Sequence[str]) -> list[int]:
    """By the numbers in their names, where all have one and no two the same; else in order."""
    numbers = [_number(name) for name in names]
    if None in numbers or len(set(numbers)) < len(numbers):
        return list(range(len(names)))
    return [number for number in numbers if number is not None]


def _number(name: str) -> int | None:
    digits = name.rpartition("__")[2] if "__" in name else ""
    return int(digits) if digits.isascii() and digits.isdigit() else None


def _flat(result: Mapping[str, Any] | Sequence[Any]) -> Iterator[object]:
    for item in result.values() if isinstance(result, Mapping) else result:
        if isinstance(item, list | tuple | dict):
            yield from _flat(item)
        else:
            yield item


def _value(argument: Argument, name: str, inputs: Mapping[str, Any]) -> Any:
    tensor = inputs[name]
    if argument.kind not in SCALARS:
        return tensor
    if tensor.numel() != 1:
        text = f"input '{name}' is handed over as a number: it must have 1 element, not {tensor.numel()}"
        raise InferError(ErrorKind.INVALID_ARGUMENT, text)
    return SCALARS[argument.kind](tensor.item())

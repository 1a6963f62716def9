"""Text of a flag's value to the value, or a phrase that says what it should have been."""

from argparse import ArgumentTypeError
from collections.abc import Callable
from math import inf, isfinite


def protocol(text: str) -> str:
    if text.lower() not in ("http", "grpc"):
        raise ArgumentTypeError(f"{text!r} is neither http nor grpc")
    return text.lower()


def whole_number(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return value

    return parse


def number(*, above: float = -inf, least: float = -inf, below: float = inf) -> Callable[[str], float]:
    bounds = [f"above {above:g}"] if isfinite(above) else []
    bounds += [f"of at least {least:g}"] if isfinite(least) else []
    bounds += [f"below {below:g}"] if isfinite(below) else []

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = inf
        if not (isfinite(value) and above < value < below and value >= least):
            raise ArgumentTypeError(f"{text!r} is not a number {' and '.join(bounds)}".rstrip())
        return value

    return parse


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``NAME:D1,D2``. A name may hold colons itself; sizes can't."""
    name, _, sizes = text.rpartition(":")
    try:
        found = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        found = ()
    if not name or not found or min(found) < 1:
        raise ArgumentTypeError(f"{text!r} is not NAME:D1,D2 with sizes of at least 1")
    return name, found

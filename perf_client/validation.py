"""Whether an answer is the expected one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from perf_client.answers import Outputs
from perf_client.errors import LoadError
from perf_client.output_slot import OutputSlot
from perf_client.payload import Request
from perf_client.placement import Placement
from perf_client.tensors import Tensor, bytes_elements, numbers

WRONG_ANSWER = "wrong answer"
"""The failure class of an answer that is well-formed and says something else than was expected."""

_TOLERANCES = {"FP64": (1e-9, 1e-12), "FP32": (1e-5, 1e-6), "FP16": (1e-2, 1e-3), "BF16": (2e-2, 1e-2)}
"""Relative and absolute: the same model gives other last digits on another device or in another batch."""

_RIGHT_KEPT = 4

Encoded = TypeVar("Encoded")


@dataclass(frozen=True, slots=True)
class CheckedRequest(Generic[Encoded]):
    """An encoded request with what its answers are held against."""

    encoded: Encoded
    check: "AnswerCheck"


def checking(encode: Callable[..., Encoded]) -> Callable[..., CheckedRequest[Encoded]]:
    """``encode`` takes an envelope, a request and where its tensors lie; what it makes goes with what is expected."""

    def encoded(envelope: object, request: Request, placement: Placement | None = None) -> CheckedRequest[Encoded]:
        slot = None if placement is None else placement.slot
        return CheckedRequest(encode(envelope, request, placement), AnswerCheck(request.expected, slot))

    return encoded


def filling(
    fill: Callable[[Encoded, int], Encoded],
) -> Callable[[CheckedRequest[Encoded], int], CheckedRequest[Encoded]]:
    """``fill`` puts a number into what was encoded."""
    return lambda request, number: replace(request, encoded=fill(request.encoded, number))


class AnswerCheck:
    """Holds the answers to one request against what is expected: so many, in order.

    A server mostly gives the same request the same bytes back, so those that were found right are remembered: then a
    comparison of bytes is all that a request costs. ``memory`` has the outputs that don't travel in the answer.
    """

    def __init__(self, expected: Sequence[Mapping[str, Tensor]], slot: OutputSlot | None = None) -> None:
        self._expected = expected
        self._right: list[tuple[bytes, ...]] = []
        self.memory = slot

    def begin(self) -> None:
        """The request is about to be sent."""
        if self.memory is not None:
            self.memory.take()

    def mismatch(self, bodies: tuple[bytes, ...], read: Callable[[], Sequence[Outputs]]) -> str | None:
        """What is wrong with the answers, None where they are right. Raises BadAnswer where ``read`` does."""
        if not self._expected:
            return None
        if self.memory is None:
            return self._found(bodies, read)
        try:
            return self._found((*bodies, self.memory.content()), read)
        finally:
            self.memory.release()

    def _found(self, known_by: tuple[bytes, ...], read: Callable[[], Sequence[Outputs]]) -> str | None:
        if known_by in self._right:
            return None
        answers = read()
        if len(answers) != len(self._expected):
            return f"{len(answers)} answers came, not {len(self._expected)}"
        for number, (expected, found) in enumerate(zip(self._expected, answers)):
            if (wrong := _wrong_output(expected, found)) is not None:
                return f"answer {number}: {wrong}" if len(answers) > 1 else wrong
        self._right = [known_by, *self._right[: _RIGHT_KEPT - 1]]
        return None


def _wrong_output(expected: Mapping[str, Tensor], found: Outputs) -> str | None:
    for name, tensor in expected.items():
        if name not in found:
            return f"output {name} is not in the answer"
        if (wrong := difference(tensor, found[name])) is not None:
            return f"output {name} {wrong}"
    return None


def difference(expected: Tensor, found: Tensor) -> str | None:
    """The first difference in words; floats may differ by a tolerance, all else is compared exactly."""
    if found.datatype != expected.datatype:
        return f"is of type {found.datatype}, not {expected.datatype}"
    if found.shape != expected.shape:
        return f"has shape {list(found.shape)}, not {list(expected.shape)}"
    return None if found.data == expected.data else _different_values(expected, found)


def _different_values(expected: Tensor, found: Tensor) -> str | None:
    try:
        wanted, got = _values(expected), _values(found)
    except (LoadError, ValueError) as error:
        return f"is not of its type: {error}"
    if len(wanted) != len(got):
        return f"has {len(got)} values, not {len(wanted)}"
    wrong = np.flatnonzero(_unequal(expected.datatype, wanted, got))
    if not len(wrong):
        return None
    first = int(wrong[0])
    place = [int(index) for index in np.unravel_index(first, expected.shape)]
    return f"is {got[first]} at {place}, not {wanted[first]}; {len(wrong)} of {len(wanted)} values are wrong"


def _values(tensor: Tensor) -> NDArray[Any]:
    if tensor.datatype != "BYTES":
        return numbers(tensor.data, tensor.datatype)
    elements = bytes_elements(tensor.data)
    values = np.empty(len(elements), dtype=object)
    values[:] = elements
    return values


def _unequal(datatype: str, wanted: NDArray[Any], got: NDArray[Any]) -> NDArray[np.bool_]:
    if datatype not in _TOLERANCES:
        return np.asarray(wanted != got, dtype=np.bool_)
    relative, absolute = _TOLERANCES[datatype]
    if datatype == "FP16":
        wanted, got = wanted.astype(np.float32), got.astype(np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        unequal = ~(np.abs(got - wanted) <= absolute + relative * np.abs(wanted))
    unequal |= np.isinf(wanted)  # everything is within an infinite tolerance
    suspects = np.flatnonzero(unequal)
    first, second = wanted[suspects], got[suspects]
    unequal[suspects] = (first != second) & ~(np.isnan(first) & np.isnan(second))
    return np.asarray(unequal, dtype=np.bool_)

"""Tensor data types of KServe v2: their size on the wire, their raw bytes, and made-up values in their valid range."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from struct import pack, unpack_from
from typing import Any

import numpy as np
from msgspec import json
from numpy.typing import NDArray

from perf_client.errors import data_error, usage_error

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """The raw bytes of one tensor, BYTES elements with their length before each."""

    datatype: str
    shape: Shape
    data: bytes


NUMPY_TYPES: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
"""BF16, which numpy lacks, and BYTES are handled apart."""

SIZES: dict[str, int] = {name: kind.itemsize for name, kind in NUMPY_TYPES.items()} | {"BF16": 2}

_SMALL_INTEGERS = 128
"""Made-up integers wider than a byte stay below this: large ones are rarely valid as indices or token ids."""

_TEXT = np.frombuffer(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", np.uint8)


def known(datatype: str) -> bool:
    return datatype in SIZES or datatype == "BYTES"


def encode_bytes(values: Sequence[bytes]) -> bytes:
    """BYTES elements, each with its length before it."""
    return b"".join(pack("<I", len(value)) + value for value in values)


def encode_numbers(values: Sequence[object], datatype: str) -> bytes:
    """Numbers from JSON. Raises LoadError where one isn't of the type or doesn't fit it."""
    if datatype not in SIZES:
        raise data_error(f"the type {datatype!r} is unknown")
    kind = NUMPY_TYPES.get(datatype, np.dtype("<f4"))
    _check_kinds(values, datatype, kind)
    try:
        # A float beyond the type's range would silently become infinite.
        with np.errstate(over="raise"):
            array = np.array(values, dtype=kind if kind.kind == "f" else None)
            if kind.kind in "iu" and array.size and not _fits(array, kind):
                raise OverflowError
            return bf16(array) if datatype == "BF16" else array.astype(kind).tobytes()
    except (OverflowError, FloatingPointError):
        raise data_error(f"values don't fit {datatype}: a number out of range") from None


def _check_kinds(values: Sequence[object], datatype: str, kind: np.dtype[np.generic]) -> None:
    """Left to itself, numpy takes "1" for 1 and null for not-a-number."""
    allowed: dict[str, tuple[set[type], str]] = {
        "b": ({bool}, "true or false"),
        "f": ({int, float}, "numbers"),
    }
    kinds, wanted = allowed.get(kind.kind, ({int}, "whole numbers"))
    if set(map(type, values)) <= kinds or (kind.kind == "b" and all(value in (0, 1) for value in values)):
        return
    wrong = next(value for value in values if type(value) not in kinds)
    raise data_error(f"values of {datatype} are {wanted}, not {json.encode(wrong).decode()}")


def json_values(data: bytes, datatype: str, name: str) -> list[Any]:
    """The values of a tensor for JSON, in row-major order. Raises LoadError for a type that has no such form."""
    if datatype in ("FP16", "BF16"):
        raise usage_error(
            f"input {name} is of type {datatype}, which KServe v2 has only in binary; use --input-tensor-format binary"
        )
    if datatype != "BYTES":
        values: list[Any] = np.frombuffer(data, NUMPY_TYPES[datatype]).tolist()
        return values
    try:
        return [element.decode() for element in bytes_elements(data)]
    except UnicodeDecodeError:
        raise usage_error(
            f"input {name} holds bytes that are no UTF-8 text, so not JSON; use --input-tensor-format binary"
        ) from None


def bytes_elements(data: bytes) -> list[bytes]:
    """The elements of a BYTES tensor. Raises LoadError where a length leads past the end."""
    elements = []
    position = 0
    while position < len(data):
        if position + 4 > len(data):
            raise data_error("BYTES data ends within an element's length")
        start = position + 4
        position = start + int(unpack_from("<I", data, position)[0])
        elements.append(data[start:position])
    if position != len(data):
        raise data_error("BYTES data ends within an element")
    return elements


def encode_values(values: list[Any], datatype: str) -> bytes:
    """Values from JSON, nested lists in row-major order. Raises LoadError where they aren't of the type."""
    while any(isinstance(value, list) for value in values):
        values = [inner for value in values for inner in (value if isinstance(value, list) else [value])]
    if datatype != "BYTES":
        return encode_numbers(values, datatype)
    for value in values:
        if not isinstance(value, str):
            raise data_error(f"values of BYTES are strings, not {json.encode(value).decode()}")
    return encode_bytes([value.encode() for value in values])


def numbers(data: bytes, datatype: str) -> NDArray[Any]:
    """The values of any type but BYTES; BF16 as float32, which holds all of its values."""
    if datatype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, NUMPY_TYPES[datatype])


def zeros(datatype: str, count: int) -> bytes:
    if datatype == "BYTES":
        return bytes(4 * count)
    return bytes(SIZES[datatype] * count)


def random_tensors(datatype: str, shape: Shape, count: int, length: int, rng: np.random.Generator) -> list[bytes]:
    """The raw bytes of so many tensors, ``length`` being that of BYTES elements, which are letters and digits.

    Floats are even in [0, 1), integers of a byte take their full range, wider ones are 0 to 127.
    """
    rows = (count, prod(shape))
    if datatype == "BYTES":
        letters = _TEXT[rng.integers(0, len(_TEXT), size=(*rows, length), dtype=np.uint8)]
        return [encode_bytes([element.tobytes() for element in row]) for row in letters]
    if datatype == "BF16":
        return [bf16(row) for row in rng.random(rows, dtype=np.float32)]
    return [row.tobytes() for row in _random_array(NUMPY_TYPES[datatype], rows, rng)]


def _random_array(kind: np.dtype[np.generic], rows: tuple[int, int], rng: np.random.Generator) -> NDArray[Any]:
    match kind.kind, kind.itemsize:
        case "f", _:
            return rng.random(rows, dtype=np.float32).astype(kind)
        case "b", _:
            return rng.integers(0, 2, size=rows, dtype=np.uint8)
        case "i", 1:
            return rng.integers(-128, 128, size=rows, dtype=np.int8)
        case "u", 1:
            return rng.integers(0, 256, size=rows, dtype=np.uint8)
        case _:
            return rng.integers(0, _SMALL_INTEGERS, size=rows, dtype=np.uint8).astype(kind)


def _fits(array: NDArray[Any], kind: np.dtype[np.generic]) -> bool:
    limits = np.iinfo(kind.str)
    return int(array.min()) >= limits.min and int(array.max()) <= limits.max


def bf16(values: NDArray[np.float32]) -> bytes:
    """The upper half of each float32, rounded to the nearest and to even between two."""
    bits = values.view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()

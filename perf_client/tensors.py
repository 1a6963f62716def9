"""Tensor data types of KServe v2: their size on the wire, their raw bytes, and made-up values in their valid range."""

from collections.abc import Sequence
from struct import pack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perf_client.errors import data_error

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
    try:
        if datatype == "BF16":
            return _bf16(np.array(values, dtype=np.float32))
        kind = NUMPY_TYPES[datatype]
        array = np.array(values)
        if kind.kind in "iu" and array.dtype.kind == "f":
            raise ValueError("a fraction where a whole number is wanted")
        if kind.kind in "iu" and array.size and not _fits(array, kind):
            raise ValueError("a number out of range")
        return array.astype(kind).tobytes()
    except (ValueError, TypeError, OverflowError) as error:
        raise data_error(f"values don't fit {datatype}: {error}") from None


def zeros(datatype: str, count: int) -> bytes:
    if datatype == "BYTES":
        return bytes(4 * count)
    return bytes(SIZES[datatype] * count)


def random_bytes_elements(count: int, length: int, rng: np.random.Generator) -> bytes:
    """BYTES elements of ``length`` letters and digits."""
    letters = _TEXT[rng.integers(0, len(_TEXT), size=(count, length))]
    return encode_bytes([row.tobytes() for row in letters])


def random_numbers(datatype: str, count: int, rng: np.random.Generator) -> bytes:
    """Floats are even in [0, 1), bytes take their full range, wider integers are 0 to 127."""
    match datatype:
        case "BOOL":
            return rng.integers(0, 2, size=count, dtype=np.uint8).tobytes()
        case "UINT8":
            return rng.integers(0, 256, size=count, dtype=np.uint8).tobytes()
        case "INT8":
            return rng.integers(-128, 128, size=count, dtype=np.int8).tobytes()
        case "FP16" | "FP32" | "FP64":
            return rng.random(count, dtype=np.float32).astype(NUMPY_TYPES[datatype]).tobytes()
        case "BF16":
            return _bf16(rng.random(count, dtype=np.float32))
        case _:
            return rng.integers(0, _SMALL_INTEGERS, size=count).astype(NUMPY_TYPES[datatype]).tobytes()


def _fits(array: NDArray[Any], kind: np.dtype[np.generic]) -> bool:
    limits = np.iinfo(kind.str)
    return int(array.min()) >= limits.min and int(array.max()) <= limits.max


def _bf16(values: NDArray[np.float32]) -> bytes:
    """The upper half of each float32: BF16 by truncation."""
    return (values.view(np.uint32) >> 16).astype("<u2").tobytes()

"""Tensor bytes as KServe v2 sends them (little-endian, C order) to numpy arrays and back."""

import struct
from collections.abc import Callable, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from analyzer.runtime.dtypes import NUMPY_DTYPES, datatype_of_numpy
from analyzer.runtime.request import ErrorKind, InferError, InferResponse

Array = NDArray[np.generic]
Buffer = bytes | bytearray | memoryview
DatatypeLookup = Callable[[InferResponse, str], str]
"""A response and the name of an output of it to the datatype that the model declares for that."""

_UINT16 = NUMPY_DTYPES["UINT16"]
_BYTES = NUMPY_DTYPES["BYTES"]
_LENGTH = struct.Struct("<I")
_COPY_LIMIT_BYTES = 16 * 1024  # below this a copy is cheaper than handing a view to the socket


def datatype_dtype(datatype: str, tensor: str) -> np.dtype[np.generic]:
    try:
        return NUMPY_DTYPES[datatype]
    except KeyError:
        raise invalid(
            f"input '{tensor}' has the unknown datatype '{datatype}'; known are {', '.join(NUMPY_DTYPES)}"
        ) from None


def datatype_of(response: InferResponse, name: str, array: Array, lookup: DatatypeLookup) -> str:
    """The KServe name of an output's type. Only 16-bit words are ambiguous: BF16 travels as uint16."""
    dtype = array.dtype
    if dtype == _UINT16:
        return "BF16" if lookup(response, name) == "BF16" else "UINT16"
    found = datatype_of_numpy(dtype)
    if found is not None:
        return found
    raise InferError(ErrorKind.INTERNAL, f"output '{name}' has the numpy type {dtype}, which KServe v2 can't carry")


def from_raw(tensor: str, dtype: np.dtype[np.generic], shape: Sequence[int], raw: Buffer) -> Array:
    """A view of ``raw`` where that is aligned, else a copy: libraries under us assume aligned tensors."""
    if dtype is _BYTES:
        return _from_raw_bytes(tensor, shape, raw)
    expected = prod(shape) * dtype.itemsize
    if len(raw) != expected:
        raise invalid(f"input byte size mismatch for input '{tensor}'. Expected {expected}, got {len(raw)}")
    array: Array = np.ndarray(shape, dtype, raw)
    return array if array.flags.aligned else array.copy()


def view_raw(_tensor: str, dtype: np.dtype[np.generic], shape: Sequence[int], raw: Buffer) -> Array:
    """As ``from_raw``, for what is known not to be BYTES and to have the right size."""
    array: Array = np.ndarray(shape, dtype, raw)
    return array if array.flags.aligned else array.copy()


def _from_raw_bytes(tensor: str, shape: Sequence[int], raw: Buffer) -> Array:
    items: list[bytes] = []
    offset, end = 0, len(raw)
    while offset < end:
        if offset + 4 > end:
            raise invalid(f"incomplete string length indicator for input '{tensor}', expecting 4 bytes")
        (length,) = _LENGTH.unpack_from(raw, offset)
        offset += 4
        if offset + length > end:
            raise invalid(f"incomplete string data for input '{tensor}', expecting string of length {length}")
        items.append(bytes(raw[offset : offset + length]))
        offset += length
    return bytes_array(tensor, shape, items)


def bytes_array(tensor: str, shape: Sequence[int], items: list[bytes]) -> Array:
    if len(items) != prod(shape):
        raise invalid(f"expected {prod(shape)} string elements for input '{tensor}', got {len(items)}")
    array = np.empty(len(items), dtype=np.object_)
    array[:] = items
    return array.reshape(shape)


def to_raw(array: Array) -> Buffer:
    """The bytes of a tensor; a view of it where it is large."""
    if array.dtype.kind in "OSU":
        return b"".join(part for item in array.flat for part in _length_and_item(item))
    if array.nbytes <= _COPY_LIMIT_BYTES:
        return array.tobytes()
    contiguous = np.ascontiguousarray(array)
    return contiguous.reshape(-1).view(np.uint8).data


def _length_and_item(item: object) -> tuple[bytes, bytes]:
    data = element_bytes(item)
    return _LENGTH.pack(len(data)), data


def element_bytes(item: object) -> bytes:
    if isinstance(item, bytes):
        return item
    return str(item).encode()


def answer_shapes(response: InferResponse) -> tuple[object, ...]:
    """What the description of binary outputs depends on, where their types fix their sizes."""
    outputs = response.outputs
    if len(outputs) == 1:
        for name, array in outputs.items():
            return response.model, response.version, name, array.dtype, array.shape
    return response.model, response.version, *[(name, array.dtype, array.shape) for name, array in outputs.items()]


def invalid(message: str) -> InferError:
    return InferError(ErrorKind.INVALID_ARGUMENT, message)

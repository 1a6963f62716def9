"""Tensors as JSON writes them, flat or nested, to numpy arrays and back."""

from math import prod
from types import GenericAlias
from typing import Annotated, Any

import msgspec
import numpy as np

from analyzer.runtime.dtypes import NUMPY_DTYPES
from analyzer.runtime.wire import Array, bytes_array, element_bytes, invalid

_NESTING_LIMIT = 32

_INTEGERS: dict[str, Any] = {
    "INT8": Annotated[int, msgspec.Meta(ge=-(2**7), lt=2**7)],
    "INT16": Annotated[int, msgspec.Meta(ge=-(2**15), lt=2**15)],
    "INT32": Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)],
    "INT64": Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)],
    "UINT8": Annotated[int, msgspec.Meta(ge=0, lt=2**8)],
    "UINT16": Annotated[int, msgspec.Meta(ge=0, lt=2**16)],
    "UINT32": Annotated[int, msgspec.Meta(ge=0, lt=2**32)],
    "UINT64": Annotated[int, msgspec.Meta(ge=0)],
}
_ELEMENTS: dict[str, Any] = {**_INTEGERS, "BOOL": bool, "FP32": float, "FP64": float, "BYTES": str}
_decoders: dict[tuple[str, int], msgspec.json.Decoder[Any]] = {}


def _data_decoder(datatype: str, depth: int) -> msgspec.json.Decoder[Any]:
    decoder = _decoders.get((datatype, depth))
    if decoder is None:
        kind: Any = _ELEMENTS[datatype]
        for _ in range(depth):
            kind = GenericAlias(list, (kind,))
        decoder = _decoders[datatype, depth] = msgspec.json.Decoder(kind)
    return decoder


def from_json(name: str, datatype: str, shape: tuple[int, ...], raw: bytes) -> Array:
    """Flat or nested data; the shape comes from ``shape``, as Triton has it."""
    if datatype not in _ELEMENTS:
        raise invalid(f"input '{name}': {datatype} can't be sent as JSON; send it as binary data")
    if not raw:
        raise invalid(f"input '{name}' has neither 'data' nor 'binary_data_size'")
    depth = _depth(raw)
    if not 1 <= depth <= _NESTING_LIMIT:
        raise invalid(f"'data' of input '{name}' must be an array, nested at most {_NESTING_LIMIT} deep")
    try:
        values = _data_decoder(datatype, depth).decode(raw)
        if datatype == "BYTES":
            return bytes_array(name, shape, [item.encode() for item in _flat(values, depth)])
        array: Array = np.array(values, dtype=NUMPY_DTYPES[datatype])
    except (msgspec.MsgspecError, UnicodeError, ValueError, OverflowError) as error:
        raise invalid(f"unable to parse 'data' of input '{name}' as {datatype}: {error}") from None
    if array.size != prod(shape):
        raise invalid(
            f"unable to parse 'data' of input '{name}': shape {list(shape)} needs {prod(shape)} "
            f"elements, got {array.size}"
        )
    return array.reshape(shape)


def _depth(raw: bytes) -> int:
    depth = 0
    for byte in raw:
        if byte == ord("["):
            depth += 1
        elif byte not in b" \t\r\n":
            break
    return depth


def _flat(values: list[Any], depth: int) -> list[Any]:
    for _ in range(depth - 1):
        values = [item for inner in values for item in inner]
    return values


def to_json(name: str, datatype: str, array: Array) -> list[Any]:
    if datatype in ("FP16", "BF16"):
        raise invalid(f"output '{name}': {datatype} can't be sent as JSON; ask for binary data")
    if datatype != "BYTES":
        values: list[Any] = array.reshape(-1).tolist()
        return values
    try:
        return [element_bytes(item).decode() for item in array.flat]
    except UnicodeDecodeError:
        raise invalid(f"output '{name}' holds bytes that are not UTF-8; ask for binary data") from None

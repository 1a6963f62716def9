"""Tensors and data types of ``triton_python_backend_utils``, over numpy arrays."""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.runtime.dtypes import NUMPY_DTYPES, config_type_of, datatype_of_numpy

Array = NDArray[Any]

_DLPACK_CPU = (1, 0)


class TritonModelException(Exception):
    """An error of the model's own, or of a call to the server; fails the requests it was raised for."""


class Tensor:
    """A named tensor on the CPU. ``array`` is ours: models read it through ``as_numpy``."""

    __slots__ = ("_name", "array")

    def __init__(self, name: str, array: Array) -> None:
        if not isinstance(array, np.ndarray):
            raise TritonModelException(f"tensor '{name}' must be a numpy array, not {type(array).__name__}")
        if datatype_of_numpy(array.dtype) is None:
            raise TritonModelException(f"tensor '{name}' is of type {array.dtype}, which has no Triton type")
        self._name = name
        self.array = array

    @classmethod
    def received(cls, name: str, array: Array) -> "Tensor":
        """One that the server sent: nothing about it needs a look."""
        tensor = cls.__new__(cls)
        tensor._name = name
        tensor.array = array
        return tensor

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Array:
        """The values, writable: what came as read-only is copied the first time."""
        if not self.array.flags.writeable:
            self.array = self.array.copy()
        return self.array

    def shape(self) -> list[int]:
        return list(self.array.shape)

    def triton_dtype(self) -> int:
        """The number of TYPE_... in the model configuration."""
        return numpy_to_triton_type(self.array.dtype)

    def is_cpu(self) -> bool:
        return True

    def to_dlpack(self) -> Any:
        return self.as_numpy().__dlpack__()

    def __dlpack__(self, **options: Any) -> Any:
        return self.as_numpy().__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()

    @staticmethod
    def from_dlpack(name: str, source: Any) -> "Tensor":
        """From a tensor of another library, or from a DLPack capsule of it. One on a GPU is copied to the CPU."""
        if not hasattr(source, "__dlpack__"):
            source = _Capsule(source)
        elif source.__dlpack_device__()[0] != _DLPACK_CPU[0] and hasattr(source, "cpu"):
            source = source.cpu()
        try:
            return Tensor(name, np.from_dlpack(source))
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise TritonModelException(f"tensor '{name}' can't be taken through DLPack: {error}") from None


class _Capsule:
    """A bare DLPack capsule, as older code hands over; such are taken to be on the CPU."""

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return _DLPACK_CPU


def triton_string_to_numpy(triton_type: str) -> Any:
    """``TYPE_FP32`` to ``numpy.float32``."""
    name = triton_type.removeprefix("TYPE_")
    return NUMPY_DTYPES["BYTES" if name == "STRING" else name].type


def triton_to_numpy_type(data_type: int) -> Any:
    """The number of TYPE_FP32 to ``numpy.float32``."""
    return next(
        dtype.type for name, dtype in NUMPY_DTYPES.items() if name != "BF16" and config_type_of(name) == data_type
    )


def numpy_to_triton_type(dtype: Any) -> int:
    """``numpy.float32`` to the number of TYPE_FP32."""
    name = datatype_of_numpy(np.dtype(dtype))
    if name is None:
        raise TritonModelException(f"numpy type {dtype} has no Triton type")
    return config_type_of(name)


def serialize_byte_tensor(array: Array) -> Array:
    """Length-prefixed elements, as BYTES travel on the wire, in an array of one item."""
    items = (item if isinstance(item, bytes) else str(item).encode() for item in array.ravel())
    return np.array([b"".join(struct.pack("<I", len(item)) + item for item in items)], dtype=np.object_)


def deserialize_bytes_tensor(data: bytes) -> Array:
    items, offset = [], 0
    while offset < len(data):
        (length,) = struct.unpack_from("<I", data, offset)
        items.append(bytes(data[offset + 4 : offset + 4 + length]))
        offset += 4 + length
    return np.array(items, dtype=np.object_)


def wire_form(array: Array) -> Array:
    """Text of any kind as an object array of ``bytes``; numbers as they are."""
    if array.dtype.kind not in "OSU":
        return array
    flat = [item if isinstance(item, bytes) else str(item).encode("utf-8") for item in array.ravel().tolist()]
    result = np.empty(len(flat), dtype=np.object_)
    result[:] = flat
    return result.reshape(array.shape)

"""A tensor in the memory of a CUDA device, as it travels through the runtime in the place of a numpy array.

Who sends one sets ``InferRequest.on_device``. Instances whose class says ``takes_device_tensors = True`` get it as it
is; for all others it is copied to the host first, in the instance's own thread. ``InferRequest.keep_on_device`` names
the outputs whose taker can use device memory: they may come back as a DeviceTensor, or as an array where the backend
has no better.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from analyzer.runtime.dtypes import NUMPY_DTYPES
from analyzer.runtime.request import Tensors


class DeviceMemory(Protocol):
    """Holds the memory for as long as a tensor in it lives, and reads it."""

    def read(self, pointer: int, byte_size: int) -> bytes | bytearray | memoryview:
        """The bytes at an address of the device, once all work that writes them is done."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class DeviceTensor:
    """``pointer`` is an address of device number ``device``; the tensor is dense and in C order.

    ``datatype`` is the KServe name. Shape, type and size read as those of a numpy array do.
    """

    pointer: int
    byte_size: int
    device: int
    datatype: str
    shape: tuple[int, ...]
    memory: DeviceMemory

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return NUMPY_DTYPES[self.datatype]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return self.byte_size

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (self.pointer, False), "version": 3}

    def reshape(self, *shape: int | Sequence[int]) -> "DeviceTensor":
        """The same memory in another shape of as many elements, one of which may be -1."""
        sizes = [size for part in shape for size in (part if isinstance(part, Sequence) else (part,))]
        count = prod(self.shape)
        if -1 in sizes:
            sizes[sizes.index(-1)] = count // max(1, prod(size for size in sizes if size != -1))
        if prod(sizes) != count:
            raise ValueError(f"cannot reshape array of size {count} into shape {tuple(sizes)}")
        return replace(self, shape=tuple(sizes))

    def rows(self, start: int, end: int) -> "DeviceTensor":
        """The same memory, from one row to before another."""
        row_bytes = self.byte_size // max(1, self.shape[0])
        pointer, byte_size = self.pointer + start * row_bytes, (end - start) * row_bytes
        return replace(self, pointer=pointer, byte_size=byte_size, shape=(end - start, *self.shape[1:]))

    def to_host(self) -> NDArray[np.generic]:
        return np.frombuffer(self.memory.read(self.pointer, self.byte_size), self.dtype).reshape(self.shape)


def on_device(tensor: object) -> DeviceTensor | None:
    """The tensor, if it lies on a device."""
    return tensor if isinstance(tensor, DeviceTensor) else None


def as_array(tensor: DeviceTensor) -> NDArray[np.generic]:
    """What stands among arrays: ``Tensors`` may hold it where a request or an answer says so."""
    return cast(NDArray[np.generic], tensor)


def on_host(tensors: Tensors) -> Tensors:
    """Every tensor as a numpy array; those on a device are copied."""
    return {name: _host(tensor) for name, tensor in tensors.items()}


def _host(tensor: NDArray[np.generic]) -> NDArray[np.generic]:
    device_tensor = on_device(tensor)
    return tensor if device_tensor is None else device_tensor.to_host()

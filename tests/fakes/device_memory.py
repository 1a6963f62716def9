"""A device whose memory is the host's: tensors of it have real addresses, and what is copied is counted."""

import ctypes

import numpy as np

from analyzer.runtime.device_tensor import DeviceTensor
from analyzer.runtime.dtypes import datatype_of_numpy


class HostMemory:
    """Keeps an array alive, and counts what is read of it."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.reads = 0

    def read(self, pointer: int, byte_size: int) -> bytes:
        self.reads += 1
        return ctypes.string_at(pointer, byte_size)


class HostCopies:
    """Copies between addresses of the host, as CudaDriver does within a device."""

    def __init__(self) -> None:
        self.within_count = 0
        self.to_device_count = 0

    def within(self, pointer: int, device: int, source: int, byte_size: int) -> None:
        self.within_count += 1
        ctypes.memmove(pointer, source, byte_size)

    def to_device(self, pointer: int, device: int, host: np.ndarray) -> None:
        self.to_device_count += 1
        ctypes.memmove(pointer, host.ctypes.data, host.nbytes)


def device_tensor(array: np.ndarray, device: int = 0) -> DeviceTensor:
    datatype = datatype_of_numpy(array.dtype)
    assert datatype is not None
    return DeviceTensor(array.ctypes.data, array.nbytes, device, datatype, array.shape, HostMemory(array))

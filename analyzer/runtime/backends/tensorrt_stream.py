"""One stream of a CUDA device, with the memory that travels on it: through the driver's library, no package needed."""

import ctypes
from ctypes import byref, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.runtime.backends.base import ModelError

MARKS = 3
"""Places in the stream that are timed: inputs there, outputs computed, all copied."""

_NON_BLOCKING = 1


class DeviceStream(Protocol):
    """What is asked of it runs in order, and not before ``synchronize`` is it certain to be done. Raises RuntimeError.

    ``handle`` is what CUDA's libraries know the stream by.
    """

    handle: int
    device: int

    def allocate(self, byte_size: int) -> int: ...

    def free(self, pointer: int) -> None: ...

    def allocate_host(self, byte_size: int) -> NDArray[np.uint8]:
        """Page-locked memory, freed with the stream."""
        ...

    def to_device(self, pointer: int, host: NDArray[np.generic]) -> None: ...

    def to_host(self, host: NDArray[np.generic], pointer: int) -> None: ...

    def within(self, pointer: int, source: int, byte_size: int) -> None: ...

    def mark(self, number: int) -> None: ...

    def synchronize(self) -> None: ...

    def between_ns(self, first: int, second: int) -> int:
        """From one mark to another, once both are passed."""
        ...

    def close(self) -> None: ...


class CudaStream:
    """Makes the device's primary context, which TensorRT uses too, the calling thread's."""

    def __init__(self, device: int) -> None:
        """Raises ModelError where there is no such device."""
        self.device = device
        self._host: list[c_void_p] = []
        number, context, stream = c_int(), c_void_p(), c_void_p()
        try:
            self._cuda = ctypes.CDLL("libcuda.so.1")
            self._do("cuInit", c_uint(0))
            self._do("cuDeviceGet", byref(number), c_int(device))
            self._do("cuDevicePrimaryCtxRetain", byref(context), number)
            self._number = number
            self._do("cuCtxSetCurrent", context)
            self._do("cuStreamCreate", byref(stream), c_uint(_NON_BLOCKING))
            self._events = [self._event() for _ in range(MARKS)]
        except (OSError, RuntimeError) as error:
            raise ModelError(
                f"the tensorrt backend needs a CUDA device {device}, which can't be used: {error}"
            ) from None
        assert stream.value is not None
        self.handle = stream.value

    def allocate(self, byte_size: int) -> int:
        pointer = c_uint64()
        self._do("cuMemAlloc_v2", byref(pointer), c_size_t(byte_size))
        return pointer.value

    def free(self, pointer: int) -> None:
        self._do("cuMemFree_v2", c_uint64(pointer))

    def allocate_host(self, byte_size: int) -> NDArray[np.uint8]:
        address = c_void_p()
        self._do("cuMemAllocHost_v2", byref(address), c_size_t(byte_size))
        assert address.value is not None
        self._host.append(address)
        return np.ctypeslib.as_array((ctypes.c_uint8 * byte_size).from_address(address.value))

    def to_device(self, pointer: int, host: NDArray[np.generic]) -> None:
        source, size = c_void_p(host.ctypes.data), c_size_t(host.nbytes)
        self._do("cuMemcpyHtoDAsync_v2", c_uint64(pointer), source, size, c_void_p(self.handle))

    def to_host(self, host: NDArray[np.generic], pointer: int) -> None:
        target, size = c_void_p(host.ctypes.data), c_size_t(host.nbytes)
        self._do("cuMemcpyDtoHAsync_v2", target, c_uint64(pointer), size, c_void_p(self.handle))

    def within(self, pointer: int, source: int, byte_size: int) -> None:
        stream = c_void_p(self.handle)
        self._do("cuMemcpyDtoDAsync_v2", c_uint64(pointer), c_uint64(source), c_size_t(byte_size), stream)

    def mark(self, number: int) -> None:
        self._do("cuEventRecord", self._events[number], c_void_p(self.handle))

    def synchronize(self) -> None:
        self._do("cuStreamSynchronize", c_void_p(self.handle))

    def between_ns(self, first: int, second: int) -> int:
        elapsed_ms = c_float()
        self._do("cuEventElapsedTime", byref(elapsed_ms), self._events[first], self._events[second])
        return int(elapsed_ms.value * 1e6)

    def close(self) -> None:
        for address in self._host:
            self._do("cuMemFreeHost", address)
        for event in self._events:
            self._do("cuEventDestroy_v2", event)
        self._do("cuStreamDestroy_v2", c_void_p(self.handle))
        self._do("cuDevicePrimaryCtxRelease_v2", self._number)

    def _event(self) -> c_void_p:
        event = c_void_p()
        self._do("cuEventCreate", byref(event), c_uint(0))
        return event

    def _do(self, name: str, *arguments: object) -> None:
        error = getattr(self._cuda, name)(*arguments)
        if error:
            text = ctypes.c_char_p()
            self._cuda.cuGetErrorString(c_int(error), byref(text))
            raise RuntimeError(f"{name}: {(text.value or b'unknown error').decode()}")

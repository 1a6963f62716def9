"""Memory of CUDA devices that another process owns: opened by its handle, read, written; through the driver's library.

Nothing but the driver is needed. Every copy is done when its call returns; it runs in a stream of the calling thread,
so it waits for no instance's kernels.
"""

import ctypes
import threading
import weakref
from collections.abc import Callable
from ctypes import byref, c_char, c_int, c_size_t, c_uint, c_uint64, c_void_p
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_HANDLE_BYTES = 64
_LAZY_PEER_ACCESS = 1
_STREAM_OF_THREAD = 2


class CudaError(Exception):
    """What the driver refuses, in its own words."""


class CudaDriver(Protocol):
    """As much of CUDA as regions need. Called from any thread; all raise CudaError."""

    def open(self, handle: bytes, device: int) -> tuple[int, int]:
        """The address of another process's memory on this device, and how many bytes lie from there on."""
        ...

    def close(self, pointer: int, device: int) -> None: ...

    def to_host(self, host: NDArray[np.generic], pointer: int, device: int) -> None: ...

    def to_device(self, pointer: int, device: int, host: NDArray[np.generic]) -> None: ...

    def within(self, pointer: int, device: int, source: int, byte_size: int) -> None:
        """Copies from one address of a device to another."""
        ...


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class CudaRegion:
    """``byte_size`` bytes from ``pointer`` on of a device's memory. Given back when the last tensor in it is gone."""

    name: str
    device: int
    byte_size: int
    pointer: int
    driver: CudaDriver = field(repr=False)

    def read(self, pointer: int, byte_size: int) -> memoryview:
        """The bytes at an address inside the region, copied to the host. Raises CudaError."""
        host = np.empty(byte_size, np.uint8)
        if byte_size:
            self.driver.to_host(host, pointer, self.device)
        return host.data


def open_region(driver: CudaDriver, name: str, handle: bytes, device: int, byte_size: int) -> CudaRegion:
    """Raises CudaError."""
    if len(handle) != _HANDLE_BYTES:
        raise CudaError(f"its raw_handle has {len(handle)} bytes, a CUDA memory handle has {_HANDLE_BYTES}")
    pointer, room_bytes = driver.open(handle, device)
    if byte_size > room_bytes:
        driver.close(pointer, device)
        raise CudaError(f"its memory has {room_bytes} bytes, not {byte_size}")
    region = CudaRegion(name, device, byte_size, pointer, driver)
    # At the process's end the driver unmaps by itself.
    weakref.finalize(region, driver.close, pointer, device).atexit = False
    return region


class _IpcHandle(ctypes.Structure):
    _fields_ = (("reserved", c_char * _HANDLE_BYTES),)


class LibCuda:
    """The real driver. The context of a device is its primary one, which the CUDA runtime of the backends uses too."""

    def __init__(self, load: Callable[[str], ctypes.CDLL] = ctypes.CDLL) -> None:
        """Raises CudaError where there is no driver or no device."""
        try:
            self._cuda = load("libcuda.so.1")
        except OSError:
            raise CudaError("this machine has no CUDA device") from None
        self._contexts: dict[int, c_void_p] = {}
        self._lock = threading.Lock()
        count = c_int()
        self._do("cuInit", c_uint(0))
        self._do("cuDeviceGetCount", byref(count))
        self._count = count.value

    def open(self, handle: bytes, device: int) -> tuple[int, int]:
        self._enter(device)
        address, base, size = c_uint64(), c_uint64(), c_size_t()
        record = _IpcHandle.from_buffer_copy(handle)
        self._do("cuIpcOpenMemHandle_v2", byref(address), record, c_uint(_LAZY_PEER_ACCESS))
        try:
            self._do("cuMemGetAddressRange_v2", byref(base), byref(size), address)
        except CudaError:
            self.close(address.value, device)
            raise
        return address.value, base.value + size.value - address.value

    def close(self, pointer: int, device: int) -> None:
        self._enter(device)
        self._do("cuIpcCloseMemHandle", c_uint64(pointer))

    def to_host(self, host: NDArray[np.generic], pointer: int, device: int) -> None:
        self._copy("cuMemcpyDtoHAsync_v2", device, c_void_p(host.ctypes.data), c_uint64(pointer), host.nbytes)

    def to_device(self, pointer: int, device: int, host: NDArray[np.generic]) -> None:
        self._copy("cuMemcpyHtoDAsync_v2", device, c_uint64(pointer), c_void_p(host.ctypes.data), host.nbytes)

    def within(self, pointer: int, device: int, source: int, byte_size: int) -> None:
        self._copy("cuMemcpyDtoDAsync_v2", device, c_uint64(pointer), c_uint64(source), byte_size)

    def _copy(self, name: str, device: int, to: object, source: object, byte_size: int) -> None:
        self._enter(device)
        stream = c_void_p(_STREAM_OF_THREAD)
        self._do(name, to, source, c_size_t(byte_size), stream)
        self._do("cuStreamSynchronize", stream)

    def _enter(self, device: int) -> None:
        """Makes the device's context the calling thread's."""
        with self._lock:
            context = self._contexts.get(device)
            if context is None:
                if not 0 <= device < self._count:
                    raise CudaError(f"this machine has no CUDA device {device}; it has {self._count}")
                number, context = c_int(), c_void_p()
                self._do("cuDeviceGet", byref(number), c_int(device))
                self._do("cuDevicePrimaryCtxRetain", byref(context), number)
                self._contexts[device] = context
        self._do("cuCtxSetCurrent", context)

    def _do(self, name: str, *arguments: object) -> None:
        error = getattr(self._cuda, name)(*arguments)
        if error:
            text = ctypes.c_char_p()
            self._cuda.cuGetErrorString(c_int(error), byref(text))
            raise CudaError(f"{name}: {(text.value or b'unknown error').decode()}")

"""Memory of a CUDA device that another process can open, through the driver's own library: no package is needed."""

import ctypes
from ctypes import byref, c_char, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Protocol

from perf_client.errors import usage_error
from perf_client.regions import RegionName

_HANDLE_BYTES = 64
_INSTEAD = "use --shared-memory system"


class CudaDevice(Protocol):
    """As much of CUDA as a region needs. All may raise OSError."""

    ordinal: int

    def allocate(self, byte_size: int) -> int: ...

    def copy_in(self, address: int, data: bytes) -> None: ...

    def copy_out(self, address: int, byte_size: int) -> bytes: ...

    def handle(self, address: int) -> bytes:
        """What another process opens the memory by (CUDA IPC)."""

    def free(self, address: int) -> None: ...


class CudaRegion:
    def __init__(self, device: CudaDevice, name: str, byte_size: int) -> None:
        self._device = device
        self._address = 0
        try:
            self._address = device.allocate(byte_size)
            handle = device.handle(self._address)
        except OSError as error:
            self.close()
            raise usage_error(f"{byte_size} bytes of CUDA memory can't be shared: {error}; {_INSTEAD}") from None
        self.name = RegionName("cuda", name, byte_size, handle=handle, device=device.ordinal)

    def write(self, offset: int, data: bytes) -> None:
        self._device.copy_in(self._address + offset, data)

    def read(self, offset: int, byte_size: int) -> bytes:
        return self._device.copy_out(self._address + offset, byte_size)

    def close(self) -> None:
        if self._address:
            self._device.free(self._address)
            self._address = 0


class _IpcHandle(ctypes.Structure):
    _fields_ = (("reserved", c_char * _HANDLE_BYTES),)


class CudaDriver:
    """One device in its primary context, which the server's CUDA runtime uses too."""

    def __init__(self, ordinal: int = 0) -> None:
        """Raises LoadError where there is no driver or no such device."""
        self.ordinal = ordinal
        try:
            self._cuda = ctypes.CDLL("libcuda.so.1")
            device, context = c_int(), c_void_p()
            self._do("cuInit", c_uint(0))
            self._do("cuDeviceGet", byref(device), c_int(ordinal))
            self._do("cuDevicePrimaryCtxRetain", byref(context), device)
            self._do("cuCtxSetCurrent", context)
        except OSError as error:
            raise usage_error(f"--shared-memory cuda: there is no CUDA device here ({error}); {_INSTEAD}") from None

    def allocate(self, byte_size: int) -> int:
        address = c_uint64()
        self._do("cuMemAlloc_v2", byref(address), c_size_t(byte_size))
        return address.value

    def copy_in(self, address: int, data: bytes) -> None:
        self._do("cuMemcpyHtoD_v2", c_uint64(address), data, c_size_t(len(data)))

    def copy_out(self, address: int, byte_size: int) -> bytes:
        data = ctypes.create_string_buffer(byte_size)
        self._do("cuMemcpyDtoH_v2", data, c_uint64(address), c_size_t(byte_size))
        return data.raw

    def handle(self, address: int) -> bytes:
        handle = _IpcHandle()
        self._do("cuIpcGetMemHandle", byref(handle), c_uint64(address))
        return bytes(handle)

    def free(self, address: int) -> None:
        self._do("cuMemFree_v2", c_uint64(address))

    def _do(self, name: str, *arguments: object) -> None:
        error = getattr(self._cuda, name)(*arguments)
        if error:
            text = ctypes.c_char_p()
            self._cuda.cuGetErrorString(c_int(error), byref(text))
            raise OSError(error, f"{name}: {(text.value or b'unknown error').decode()}")

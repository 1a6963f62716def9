"""Stands in for the CUDA driver: device memory is an array, an address a place in it, a handle names an allocation."""

import ctypes

import numpy as np

from analyzer.runtime.cuda_memory import CudaError


class FakeCuda:
    """``share`` makes what a client would: an allocation, and the handle that another process opens it by."""

    def __init__(self, devices=1):
        self.memory = {device: np.zeros(4096, np.uint8) for device in range(devices)}
        self.opened = []
        self.copies = []
        self._allocations = {}
        self._next = 256

    def share(self, data, device=0):
        data = np.frombuffer(bytes(data), np.uint8)
        handle = f"handle {len(self._allocations)}".encode().ljust(64, b"\0")
        self._allocations[handle] = (self._next, len(data))
        self.memory[device][self._next : self._next + len(data)] = data
        self._next += 512
        return handle

    def open(self, handle, device):
        if device not in self.memory:
            raise CudaError(f"this machine has no CUDA device {device}; it has {len(self.memory)}")
        if handle not in self._allocations:
            raise CudaError("cuIpcOpenMemHandle_v2: invalid resource handle")
        pointer, size = self._allocations[handle]
        self.opened.append(pointer)
        return pointer, size

    def close(self, pointer, device):
        self.opened.remove(pointer)

    def to_host(self, host, pointer, device):
        self.copies.append("to host")
        host.view(np.uint8).reshape(-1)[:] = self.memory[device][pointer : pointer + host.nbytes]

    def to_device(self, pointer, device, host):
        self.copies.append("to device")
        self.memory[device][pointer : pointer + host.nbytes] = host.reshape(-1).view(np.uint8)

    def within(self, pointer, device, source, byte_size):
        self.copies.append("within")
        memory = self.memory[device]
        memory[pointer : pointer + byte_size] = memory[source : source + byte_size]


class FakeLibCuda:
    """Stands in for libcuda.so.1 itself, with host memory as device memory: for the ctypes layer's own calls."""

    def __init__(self, devices=1):
        self.devices = devices
        self.allocation = (ctypes.c_uint8 * 64)(*range(64))
        self.calls = []

    def cuInit(self, flags):
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = self.devices
        return 0

    def cuDeviceGet(self, device, ordinal):
        device._obj.value = ordinal.value
        return 0

    def cuDevicePrimaryCtxRetain(self, context, device):
        context._obj.value = 1 + device.value
        return 0

    def cuCtxSetCurrent(self, context):
        self.calls.append(("enter", context.value))
        return 0

    def cuIpcOpenMemHandle_v2(self, address, handle, flags):
        if bytes(handle)[:4] != b"good":
            return 400
        address._obj.value = ctypes.addressof(self.allocation) + 16
        return 0

    def cuMemGetAddressRange_v2(self, base, size, address):
        base._obj.value, size._obj.value = ctypes.addressof(self.allocation), 64
        return 0

    def cuIpcCloseMemHandle(self, address):
        self.calls.append(("close", address.value))
        return 0

    def cuMemcpyDtoHAsync_v2(self, to, source, size, stream):
        ctypes.memmove(to.value, source.value, size.value)
        return 0

    cuMemcpyHtoDAsync_v2 = cuMemcpyDtoHAsync_v2
    cuMemcpyDtoDAsync_v2 = cuMemcpyDtoHAsync_v2

    def cuStreamSynchronize(self, stream):
        self.calls.append(("synchronize", stream.value))
        return 0

    def cuGetErrorString(self, error, text):
        text._obj.value = b"invalid resource handle"
        return 0

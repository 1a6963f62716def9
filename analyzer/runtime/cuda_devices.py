"""What the CUDA devices of this process are, by CUDA's own numbers for them, which records of CUPTI use too."""

import ctypes
import uuid
from collections.abc import Callable
from ctypes import byref, c_char, c_int, c_size_t, c_uint, c_uint8
from typing import Any

import msgspec

_MAJOR, _MINOR, _MULTIPROCESSORS = 75, 76, 16
_NAME_BYTES = 256


class CudaDevice(msgspec.Struct, frozen=True):
    """One that ``CUDA_VISIBLE_DEVICES`` lets this process see."""

    id: int
    name: str
    uuid: str
    memory_bytes: int
    sm_count: int
    compute_capability: tuple[int, int]


class _Refused(Exception):
    """The driver does not say."""


def cuda_devices(load: Callable[[str], Any] = ctypes.CDLL) -> tuple[CudaDevice, ...]:
    """None where there is no driver, or one that does not say."""
    try:
        driver = load("libcuda.so.1")
        count = c_int()
        _do(driver, "cuInit", c_uint(0))
        _do(driver, "cuDeviceGetCount", byref(count))
        return tuple(_device(driver, number) for number in range(count.value))
    except (OSError, AttributeError, _Refused):
        return ()


def _device(driver: Any, number: int) -> CudaDevice:
    device, memory = c_int(), c_size_t()
    name, identity = (c_char * _NAME_BYTES)(), (c_uint8 * 16)()
    _do(driver, "cuDeviceGet", byref(device), c_int(number))
    _do(driver, "cuDeviceGetName", name, c_int(_NAME_BYTES), device)
    _do(driver, "cuDeviceGetUuid_v2", identity, device)
    _do(driver, "cuDeviceTotalMem_v2", byref(memory), device)
    return CudaDevice(
        id=number,
        name=name.value.decode(errors="replace"),
        uuid=f"GPU-{uuid.UUID(bytes=bytes(identity))}",
        memory_bytes=memory.value,
        sm_count=_attribute(driver, _MULTIPROCESSORS, device),
        compute_capability=(_attribute(driver, _MAJOR, device), _attribute(driver, _MINOR, device)),
    )


def _attribute(driver: Any, which: int, device: c_int) -> int:
    value = c_int()
    _do(driver, "cuDeviceGetAttribute", byref(value), c_int(which), device)
    return value.value


def _do(driver: Any, name: str, *arguments: object) -> None:
    if getattr(driver, name)(*arguments):
        raise _Refused(name)

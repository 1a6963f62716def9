"""What the driver tells of this process's devices; nothing where there is no driver."""

import ctypes

import pytest

from analyzer.runtime.cuda_devices import cuda_devices
from analyzer.runtime.mapped_files import file_at, mapped


class FakeDriver:
    """Two devices. ``refuses`` names a function that gives an error."""

    def __init__(self, refuses=""):
        self._refuses = refuses

    def __getattribute__(self, name):
        if name == object.__getattribute__(self, "_refuses"):
            return lambda *_: 999
        return object.__getattribute__(self, name)

    def cuInit(self, flags):
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = 2
        return 0

    def cuDeviceGet(self, device, ordinal):
        device._obj.value = ordinal.value
        return 0

    def cuDeviceGetName(self, name, size, device):
        name.value = f"Device {device.value}".encode()
        return 0

    def cuDeviceGetUuid_v2(self, identity, device):
        identity[:] = bytes(range(16))
        return 0

    def cuDeviceTotalMem_v2(self, memory, device):
        memory._obj.value = 80 * 2**30
        return 0

    def cuDeviceGetAttribute(self, value, which, device):
        value._obj.value = {75: 9, 76: device.value, 16: 132}[which.value]
        return 0


def test_every_device_is_described():
    first, second = cuda_devices(lambda name: FakeDriver())
    assert (first.id, first.name, first.compute_capability) == (0, "Device 0", (9, 0))
    assert (second.id, second.name, second.compute_capability) == (1, "Device 1", (9, 1))
    assert (first.uuid, first.memory_bytes) == ("GPU-00010203-0405-0607-0809-0a0b0c0d0e0f", 80 * 2**30)
    assert first.sm_count == 132


@pytest.mark.parametrize("refuses", ["cuInit", "cuDeviceGetName", "cuDeviceGetAttribute"])
def test_a_driver_that_does_not_say_gives_none(refuses):
    assert cuda_devices(lambda name: FakeDriver(refuses)) == ()


def test_without_a_driver_there_are_none():
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    assert cuda_devices(missing) == ()


def test_the_file_of_a_loaded_library_is_found_by_its_name_and_by_an_address_in_it():
    address = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value
    assert file_at(address) in mapped("libc")
    assert file_at(0) == ""
    assert mapped("libnothingofthatname") == []

"""Memory that a server can open: made, filled, given back."""

from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import pytest

from perf_client.cuda_memory import CudaDriver, CudaRegion
from perf_client.errors import LoadError
from perf_client.regions import SystemRegion, unused_name


def leftovers(name: str) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{name}*"))


def test_what_is_written_is_there_for_whoever_opens_the_key():
    region = SystemRegion(unused_name(), 100)
    try:
        region.write(10, b"tensor")
        assert leftovers(region.name.name) == [Path("/dev/shm") / region.name.key[1:]]
        assert leftovers(region.name.name)[0].read_bytes()[10:16] == b"tensor"
        assert region.read(11, 3) == b"ens"
    finally:
        region.close()
        region.close()
    assert not leftovers(region.name.name)


def test_another_process_library_finds_it_too():
    region = SystemRegion(unused_name(), 16)
    try:
        region.write(0, b"0123456789abcdef")
        other = SharedMemory(name=region.name.key[1:])
        assert bytes(other.buf[:16]) == b"0123456789abcdef"
        other.close()
        other.unlink()  # its library watches over what it opened; ours takes it that it is gone
    finally:
        region.close()


def test_names_are_not_used_twice():
    assert len({unused_name() for _ in range(100)}) == 100


def test_memory_that_is_not_there_is_a_sentence_and_leaves_nothing():
    name = unused_name()
    with pytest.raises(LoadError, match=r"bytes of shared memory can't be made") as caught:
        SystemRegion(name, 1 << 60)
    assert caught.value.exit_code == 3
    assert not leftovers(name)


class FakeDevice:
    """Device memory as a dictionary of addresses."""

    ordinal = 3

    def __init__(self, refuses: str = "") -> None:
        self.refuses = refuses
        self.memory: dict[int, bytearray] = {}

    def allocate(self, byte_size: int) -> int:
        if self.refuses == "allocate":
            raise OSError(2, "out of memory")
        self.memory[4096] = bytearray(byte_size)
        return 4096

    def copy_in(self, address: int, data: bytes) -> None:
        self.memory[4096][address - 4096 : address - 4096 + len(data)] = data

    def copy_out(self, address: int, byte_size: int) -> bytes:
        return bytes(self.memory[4096][address - 4096 : address - 4096 + byte_size])

    def handle(self, address: int) -> bytes:
        if self.refuses == "handle":
            raise OSError(801, "operation not supported")
        return b"h" * 64

    def free(self, address: int) -> None:
        del self.memory[address]


def test_device_memory_is_filled_shared_by_its_handle_and_freed():
    device = FakeDevice()
    region = CudaRegion(device, "r", 32)
    region.write(8, b"tensor")
    assert bytes(device.memory[4096][8:14]) == b"tensor"
    assert region.read(9, 4) == b"enso"
    assert (region.name.kind, region.name.byte_size, region.name.device) == ("cuda", 32, 3)
    assert region.name.handle == b"h" * 64
    region.close()
    region.close()
    assert not device.memory


@pytest.mark.parametrize("refuses", ["allocate", "handle"])
def test_a_device_that_cant_share_is_a_sentence_and_keeps_nothing(refuses: str):
    device = FakeDevice(refuses)
    with pytest.raises(LoadError, match=r"32 bytes of CUDA memory can't be shared: .*; use --shared-memory system"):
        CudaRegion(device, "r", 32)
    assert not device.memory


def test_without_a_device_cuda_is_refused_with_a_sentence():
    with pytest.raises(LoadError, match=r"there is no CUDA device here .*; use --shared-memory system") as caught:
        CudaDriver(ordinal=999)
    assert caught.value.exit_code == 2

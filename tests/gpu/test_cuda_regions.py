"""Device memory shared with another process, as a server would open it."""

import subprocess
import sys
from ctypes import byref, c_size_t, c_uint, c_uint64, create_string_buffer
from pathlib import Path

import pytest

from perf_client.cuda_memory import CudaDriver, CudaRegion, _IpcHandle
from perf_client.errors import LoadError


def there_is_a_device() -> bool:
    try:
        CudaDriver()
    except LoadError:
        return False
    return True


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not there_is_a_device(), reason="needs a CUDA device")]


def read_through(handle: bytes, offset: int, size: int) -> bytes:
    """Opens the memory by its handle; only another process may."""
    device = CudaDriver()
    opened = c_uint64()
    device._do("cuIpcOpenMemHandle_v2", byref(opened), _IpcHandle.from_buffer_copy(handle), c_uint(1))
    data = create_string_buffer(size)
    device._do("cuMemcpyDtoH_v2", data, c_uint64(opened.value + offset), c_size_t(size))
    device._do("cuIpcCloseMemHandle", opened)
    return data.raw


def test_another_process_reads_what_was_written():
    region = CudaRegion(CudaDriver(), "r", 1 << 20)
    try:
        region.write(100, b"tensor")
        code = (
            "import sys; from tests.gpu.test_cuda_regions import read_through;"
            "sys.stdout.buffer.write(read_through(bytes.fromhex(sys.argv[1]), 100, 6))"
        )
        command = [sys.executable, "-c", code, region.name.handle.hex()]
        root = Path(__file__).parents[2]
        assert subprocess.run(command, capture_output=True, check=True, cwd=root).stdout == b"tensor"
    finally:
        region.close()


def test_what_lies_in_device_memory_is_read_back():
    region = CudaRegion(CudaDriver(), "r", 1 << 20)
    try:
        region.write(100, b"tensor")
        assert region.read(101, 4) == b"enso"
    finally:
        region.close()


def test_more_memory_than_there_is_is_a_sentence():
    with pytest.raises(LoadError, match=r"bytes of CUDA memory can't be shared: .*out of memory; use --shared-memory"):
        CudaRegion(CudaDriver(), "r", 1 << 50)

"""Memory that the server can see too: POSIX shared memory, or memory of a CUDA device."""

import mmap
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from perf_client.errors import data_error

_POSIX_FOLDER = Path("/dev/shm")  # where Linux keeps what shm_open makes


@dataclass(frozen=True, slots=True)
class RegionName:
    """How a server finds a region: by ``key`` (system) or by ``handle`` on ``device`` (cuda)."""

    kind: Literal["system", "cuda"]
    name: str
    byte_size: int
    key: str = ""
    handle: bytes = b""
    device: int = 0

    @property
    def terms(self) -> dict[str, str | int | bytes]:
        """What a server has to know of it, as the shared-memory extensions of KServe v2 name it."""
        found: dict[str, str | int | bytes] = {"byte_size": self.byte_size}
        if self.kind == "system":
            return found | {"key": self.key, "offset": 0}
        return found | {"raw_handle": self.handle, "device_id": self.device}


class Region(Protocol):
    name: RegionName

    def write(self, offset: int, data: bytes) -> None: ...

    def read(self, offset: int, byte_size: int) -> bytes: ...

    def close(self) -> None:
        """Give the memory back. Harmless when done twice."""


def unused_name() -> str:
    """No other run, of this process or another one, has a region of this name."""
    return f"perf_client_{os.getpid()}_{secrets.token_hex(4)}"


class SystemRegion:
    """POSIX shared memory, as ``shm_open`` makes it."""

    def __init__(self, name: str, byte_size: int) -> None:
        self.name = RegionName("system", name, byte_size, key=f"/{name}")
        self._path = _POSIX_FOLDER / name
        self._memory: mmap.mmap | None = None
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                # Reserved at once: a full /dev/shm is an error here, not a bus error while the load runs.
                os.posix_fallocate(file, 0, byte_size)
                self._memory = mmap.mmap(file, byte_size)
            finally:
                os.close(file)
        except OSError as error:
            self.close()
            raise data_error(
                f"{byte_size} bytes of shared memory can't be made ({error.strerror}); send less data, or make room in "
                f"{_POSIX_FOLDER}"
            ) from None

    def write(self, offset: int, data: bytes) -> None:
        assert self._memory is not None
        self._memory[offset : offset + len(data)] = data

    def read(self, offset: int, byte_size: int) -> bytes:
        assert self._memory is not None
        return self._memory[offset : offset + byte_size]

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        if self._memory is not None:
            self._memory.close()
            self._memory = None

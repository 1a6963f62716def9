"""Shared memory that clients register: tensors are read from it and written to it in place, past the socket."""

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np

from analyzer.runtime.devices import gpu_count
from analyzer.runtime.request import Delivery, ErrorKind, InferError
from analyzer.runtime.wire import Array, from_raw

_FOLDER = Path("/dev/shm")
_NAME_LIMIT = 255


@dataclass(frozen=True, slots=True)
class Region:
    """``byte_size`` bytes from ``offset`` on in the POSIX shared memory object ``key``; ``view`` are those bytes."""

    name: str
    key: str
    offset: int
    byte_size: int
    view: memoryview


class SystemMemory:
    """The registered regions of POSIX shared memory, by name.

    A region that is unregistered stays mapped until the last tensor that lies in it is gone.
    """

    def __init__(self) -> None:
        self._regions: dict[str, Region] = {}

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Maps the object that the client has made. Raises InferError."""
        if not name:
            raise InferError(ErrorKind.INVALID_ARGUMENT, "a shared memory region needs a name")
        if name in self._regions:
            raise InferError(ErrorKind.ALREADY_EXISTS, f"shared memory region '{name}' already in manager")
        if offset < 0 or byte_size <= 0:
            raise InferError(ErrorKind.INVALID_ARGUMENT, f"shared memory region '{name}' needs a byte_size above 0")
        self._regions[name] = Region(name, key, offset, byte_size, _mapped(key, offset, byte_size))

    def unregister(self, name: str = "") -> None:
        """Forgets one region, or all where none is named. That it was not registered is no error."""
        if name:
            self._regions.pop(name, None)
        else:
            self._regions.clear()

    def status(self, name: str = "") -> Iterator[Region]:
        """One region, or all by name. Raises InferError for an unknown one."""
        if name and name not in self._regions:
            raise InferError(ErrorKind.NOT_FOUND, f"Unable to find system shared memory region: '{name}'")
        return iter([self._regions[key] for key in sorted(self._regions) if name in ("", key)])

    def view(self, name: str, offset: int, byte_size: int) -> memoryview:
        """A part of a region, writable. Raises InferError."""
        region = self._regions.get(name)
        if region is None:
            raise InferError(ErrorKind.NOT_FOUND, f"Unable to find shared memory region: '{name}'")
        if offset < 0 or byte_size < 0 or offset + byte_size > region.byte_size:
            raise InferError(
                ErrorKind.INVALID_ARGUMENT, f"Invalid offset + byte size for shared memory region: '{name}'"
            )
        return region.view[offset : offset + byte_size]


def shared_input(
    memory: SystemMemory, name: str, dtype: "np.dtype[np.generic]", shape: tuple[int, ...], place: Delivery
) -> Array:
    """A tensor that lies in a region, without a copy. The model can't write to it: it is the client's."""
    return from_raw(name, dtype, shape, memory.view(place.region, place.offset, place.byte_size).toreadonly())


def refuse_cuda(name: str) -> NoReturn:
    """Always raises InferError: this runtime reads no tensors from CUDA shared memory."""
    reason = "this machine has no CUDA device" if gpu_count() == 0 else "the server does not support it"
    text = f"failed to register CUDA shared memory region '{name}': {reason}; use system shared memory"
    raise InferError(ErrorKind.UNAVAILABLE, text)


def _mapped(key: str, offset: int, byte_size: int) -> memoryview:
    """Opened as shm_open does it, so no key leads out of the folder of shared memory."""
    name = key.removeprefix("/")
    missing = InferError(ErrorKind.INTERNAL, f"Unable to open shared memory region: '{key}'")
    if not name or "/" in name or "\0" in name or name in (".", "..") or len(name.encode()) > _NAME_LIMIT:
        raise missing
    try:
        descriptor = os.open(_FOLDER / name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        raise missing from None
    try:
        if offset + byte_size > os.fstat(descriptor).st_size:
            raise InferError(ErrorKind.INTERNAL, f"Invalid shared memory region: '{key}'")
        memory = memoryview(mmap.mmap(descriptor, offset + byte_size))
    except (OSError, ValueError):
        raise missing from None
    finally:
        os.close(descriptor)
    return memory[offset:]

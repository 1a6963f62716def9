"""The memory that large request bodies take: while they come in, wait and are read by models; for the whole server."""

import os
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analyzer.runtime.request import ErrorKind, InferError
from analyzer.runtime.wire import Buffer

_ALIGNMENT_BYTES = 64
_CGROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


class BodyMemory:
    """Gives room for bodies as long as all that is held stays within ``limit_bytes``; 0 is no limit.

    Room counts until the last tensor that lies in it is gone. What fits into one read of a socket is not counted.
    """

    def __init__(self, limit_bytes: int = 0, on_refusal: Callable[[], None] | None = None) -> None:
        self._limit_bytes = limit_bytes
        self._on_refusal = on_refusal
        self._claimed_bytes = 0
        self._freed: deque[int] = deque()  # by whichever thread lets go of a body last

    @property
    def held_bytes(self) -> int:
        while self._freed:
            self._claimed_bytes -= self._freed.popleft()
        return self._claimed_bytes

    def room(self, byte_size: int, offset: int = 0) -> memoryview:
        """Memory whose byte ``offset`` is aligned. Raises InferError.

        It is numpy's, which asks for huge pages: a large ``bytes`` would be mapped, faulted in page by page and
        unmapped again, body after body.
        """
        claim = self.claim(byte_size)
        room = _Room(byte_size + _ALIGNMENT_BYTES, np.uint8)
        room.claims = (claim,)
        shift = -(room.ctypes.data + offset) % _ALIGNMENT_BYTES
        return room.data[shift : shift + byte_size]

    def keep(self, body: Buffer, claimed: "Sequence[Claim] | None" = None) -> memoryview:
        """Counts what lies in memory of its own, unless it was ``claimed`` before. Raises InferError."""
        room = _Room(len(body), np.uint8, body)
        room.claims = [self.claim(len(body))] if claimed is None else claimed
        return room.data

    def claim(self, byte_size: int) -> "Claim":
        """For memory that is not ours. Raises InferError."""
        held_bytes = self.held_bytes
        if self._limit_bytes and held_bytes + byte_size > self._limit_bytes:
            if self._on_refusal is not None:
                self._on_refusal()
            raise self._refusal(byte_size, held_bytes)
        self._claimed_bytes += byte_size
        return Claim(byte_size, self._freed)

    def _refusal(self, byte_size: int, held_bytes: int) -> InferError:
        limit = f"{self._limit_bytes}, its limit for all together (--max-body-memory-bytes)"
        if byte_size > self._limit_bytes:
            return InferError(ErrorKind.RESOURCE_EXHAUSTED, f"a request body of {byte_size} bytes is more than {limit}")
        text = (
            f"the server holds {held_bytes} bytes of request bodies, and {byte_size} more are above {limit}; try again"
        )
        return InferError(ErrorKind.UNAVAILABLE, text)


class Claim:
    """A part of the memory, given back when this object goes."""

    __slots__ = ("_byte_size", "_freed")

    def __init__(self, byte_size: int, freed: "deque[int]") -> None:
        self._byte_size = byte_size
        self._freed = freed

    def __del__(self) -> None:
        self._freed.append(self._byte_size)


class _Room(np.ndarray[Any, np.dtype[np.uint8]]):
    """No view of another array: numpy would make tensors in it views of that one, and leave this one out."""

    claims: Sequence[Claim] = ()


def memory_bytes(cgroup_files: tuple[str, ...] = _CGROUP_FILES) -> int:
    """What this process may use: of the machine, or of the container that it runs in."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in cgroup_files:
        try:
            text = Path(file).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            found = min(found, int(text))
    return found

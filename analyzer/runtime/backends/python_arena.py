"""Memory that two processes share, in one direction: one puts arrays into it, the other reads them where they lie.

The reader tells the writer which arrays nobody looks at any more, and their places are used again. The memory has no
name in the file system, so it ends with the last process that has it open.
"""

import fcntl
import mmap
import os
import weakref
from collections import deque
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_PAGE_BYTES = 4096
_FIRST_BYTES = 1 << 20
_F_ADD_SEALS, _F_SEAL_SHRINK = 1033, 2  # <linux/fcntl.h>; the module fcntl has them only from Python 3.13 on


class Places:
    """Which parts of an arena are taken: offsets for sizes. Sizes are rounded up by at most a quarter, so that places
    fit again and again; ``end`` is where the part that was never used begins.
    """

    def __init__(self) -> None:
        self.end = 0
        self._taken: dict[int, int] = {}
        self._free: dict[int, list[int]] = {}

    @property
    def taken_count(self) -> int:
        return len(self._taken)

    def take(self, byte_size: int) -> int:
        """The offset of a place that is aligned to pages."""
        size = _rounded(byte_size)
        free = self._free.get(size)
        if free:
            offset = free.pop()
        else:
            offset, self.end = self.end, self.end + size
        self._taken[offset] = size
        return offset

    def give_back(self, offset: int) -> None:
        """Raises KeyError where nothing is taken there."""
        self._free.setdefault(self._taken.pop(offset), []).append(offset)


def _rounded(byte_size: int) -> int:
    step = max(_PAGE_BYTES, 1 << max(0, byte_size.bit_length() - 3))
    return max(step, -(-byte_size // step) * step)


class Arena:
    """The writer's end. Takes no memory before the first array."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._places = Places()
        self._memory: mmap.mmap | None = None
        self._size = 0

    def put(self, array: Array) -> int:
        """Copies an array, whatever its layout, and says where to. Raises OSError where there is no memory."""
        offset = self._places.take(array.nbytes)
        memory = self._memory
        if memory is None or self._places.end > self._size:
            memory = self._grow()
        np.ndarray(array.shape, array.dtype, memory, offset)[...] = array
        return offset

    def give_back(self, offsets: list[int]) -> None:
        for offset in offsets:
            self._places.give_back(offset)

    def _grow(self) -> mmap.mmap:
        size = max(_FIRST_BYTES, self._size * 2, -(-self._places.end // _PAGE_BYTES) * _PAGE_BYTES)
        os.ftruncate(self._fd, size)
        self._memory = mmap.mmap(self._fd, size)
        self._size = size
        return self._memory


class Window:
    """The reader's end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._memory: mmap.mmap | None = None
        self._read: dict[int, weakref.ref[Array]] = {}
        self._unread: deque[int] = deque()

    def array(self, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> Array:
        """An array that lies there. Its place stays taken until it and all views of it are gone."""
        end = offset + int(dtype.itemsize) * _count(shape)
        memory = self._memory
        if memory is None or end > len(memory):
            # Arrays that were read before keep the old mapping: the same pages.
            memory = self._memory = mmap.mmap(self._fd, os.fstat(self._fd).st_size)
        array = np.ndarray(shape, dtype, memory, offset)
        # Views of an array over foreign memory have it as their base, so it goes when the last of them does.
        self._read[offset] = weakref.ref(array, partial(self._forget, offset))
        return array

    def unread(self) -> list[int]:
        """The offsets of arrays that went since the last call, for the writer's ``give_back``."""
        if not self._unread:
            return []
        return [self._unread.popleft() for _ in range(len(self._unread))]

    def _forget(self, offset: int, _: object) -> None:
        """Called by whichever thread lets go of an array last."""
        self._read.pop(offset, None)
        self._unread.append(offset)


def make_memory(name: str) -> int:
    """A file descriptor of shared memory that nobody can shrink: reading it where it was cut off would kill us."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(fd, _F_ADD_SEALS, _F_SEAL_SHRINK)
    return fd


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for dim in shape:
        count *= dim
    return count

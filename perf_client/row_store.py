"""Rows of a run that is too long for memory: the newest are bytes, the others lie in a file without a name.

What is read back is mapped, so the kernel decides how much of it is in memory, and may take that back.
"""

import os
from mmap import PROT_READ, mmap
from pathlib import Path
from tempfile import mkstemp
from typing import Any
from weakref import finalize

import numpy as np
from numpy.typing import DTypeLike, NDArray

BLOCK_BYTES = 1 << 18
"""Written at once: each 0.4 s at 20,000 requests per second."""

MAPPED_BYTES = 1 << 24
"""Arrays from this size on are mapped files."""

STEP = 1 << 18
"""Rows that are put in order at a time."""


class RowStore:
    """``recent`` is what the hot path appends to; ``spill`` is to be called from time to time."""

    def __init__(self) -> None:
        self.recent = bytearray()
        self._file = -1
        self._written = 0

    @property
    def size_bytes(self) -> int:
        return self._written + len(self.recent)

    def spill(self, least_bytes: int = BLOCK_BYTES) -> None:
        """Write out what there is, if it is a block. Without room on the disk it stays where it is."""
        if len(self.recent) < least_bytes:
            return
        try:
            if self._file < 0:
                self._file = _unnamed_file()
                finalize(self, os.close, self._file)
            written = os.pwrite(self._file, self.recent, self._written)
        except OSError:
            return
        self._written += written
        del self.recent[:written]

    def rows(self, row_type: np.dtype[Any]) -> NDArray[Any]:
        """All that was stored up to now."""
        if not self._written:
            return np.frombuffer(bytes(self.recent), dtype=row_type)
        self.spill(1)
        written = mmap(self._file, self._written, prot=PROT_READ)
        if self.recent:
            return np.frombuffer(written[:] + self.recent, dtype=row_type)
        return np.frombuffer(written, dtype=row_type)


def _unnamed_file() -> int:
    """Gone when it is closed, however the process ends."""
    file, path = mkstemp(prefix="perf_client_")
    Path(path).unlink()
    return file


def blank(count: int, kind: DTypeLike) -> NDArray[Any]:
    """An array to be filled; a large one lies in a file."""
    size_bytes = count * np.dtype(kind).itemsize
    if size_bytes < MAPPED_BYTES:
        return np.empty(count, dtype=kind)
    try:
        file = _unnamed_file()
    except OSError:
        return np.empty(count, dtype=kind)
    try:
        # Room is taken now: a full disk under a mapped page would be a crash.
        os.posix_fallocate(file, 0, size_bytes)
        return np.frombuffer(mmap(file, size_bytes), dtype=kind)
    except OSError:
        return np.empty(count, dtype=kind)
    finally:
        os.close(file)


def in_order(column: NDArray[Any], order: NDArray[np.intp]) -> NDArray[Any]:
    """``column[order]``, a part at a time."""
    found = blank(len(order), column.dtype)
    for start in range(0, len(order), STEP):
        found[start : start + STEP] = column[order[start : start + STEP]]
    return found

"""The buffers of libcupti, by ctypes: the package cupti-python would make a Python object of every record.

All is asked of the very file that the package has loaded: two copies of libcupti know nothing of each other.
"""

import ctypes
import importlib
from collections.abc import Iterator
from ctypes import POINTER, byref, c_int, c_size_t, c_uint32, c_void_p
from typing import Any

import numpy as np

from analyzer.runtime.cupti_records import WORD_BYTES, Words
from analyzer.runtime.mapped_files import file_at, mapped

BUFFER_BYTES = 4 * 1024 * 1024
"""Some 12,000 launches. CUPTI clears a buffer before it writes to it, on the thread that launches: not larger."""
MOST_BYTES = 256 * 1024 * 1024
_FLUSH_FORCED = 1
_PROBE_WORDS = 1024

Requested = ctypes.CFUNCTYPE(None, POINTER(c_void_p), POINTER(c_size_t), POINTER(c_size_t))
Completed = ctypes.CFUNCTYPE(None, c_void_p, c_uint32, c_void_p, c_size_t, c_size_t)
_kept: list[object] = []
"""What libcupti may call or write to for as long as the process lives."""


class LibraryError(Exception):
    """A function of libcupti refused. ``status`` is the number that it gave."""

    def __init__(self, function: str, status: int) -> None:
        super().__init__(f"{function} failed with CUPTI's error {status}")
        self.status = status


def open_library() -> Any:
    """The library that cupti-python uses, which it loads when it is first called. Raises OSError."""
    file = file_at(_address())
    files = [file] if file else mapped("libcupti")
    if not files:
        raise OSError("it loaded no libcupti")
    return ctypes.CDLL(files[0])


def _address() -> int:
    """Of any function of the package's library; 0 where it does not tell."""
    try:
        pointers = vars(importlib.import_module("cupti._internal.cupti"))["_inspect_function_pointers"]()
        return next((int(address) for address in pointers.values() if address), 0)
    except Exception:  # private: not in every release. Without it the only libcupti of the process is taken.
        return 0


class Buffers:
    """Memory for CUPTI's records, up to a bound: what it fills is kept until it is taken.

    CUPTI asks on the thread that launches and hands over on one of its own, so both do next to nothing. Beyond the
    bound it gets none: then CUPTI drops records, and counts them.
    """

    def __init__(self, buffer_bytes: int = BUFFER_BYTES, most_bytes: int = MOST_BYTES) -> None:
        self.requested = Requested(self._give)
        self.completed = Completed(self._take)
        self.refused = 0
        self._words = buffer_bytes // WORD_BYTES
        self._most = most_bytes // buffer_bytes
        self._out: dict[int, Words] = {}
        self._full: list[tuple[Words, int]] = []
        _kept.append(self)

    @property
    def held(self) -> int:
        return len(self._out) + len(self._full)

    def clear(self) -> None:
        """Forgets what an earlier window left. What CUPTI still has stays its own until it hands it over."""
        self._full.clear()
        self.refused = 0

    def taken(self) -> Iterator[Words]:
        """What was filled, each let go as the next is taken."""
        full, self._full = self._full, []
        full.reverse()
        while full:
            words, valid_bytes = full.pop()
            yield words[: valid_bytes // WORD_BYTES]
            del words

    def _give(self, buffer: Any, size: Any, record_count: Any) -> None:
        record_count[0] = 0  # as many as there is room for
        if len(self._out) + len(self._full) >= self._most:
            self.refused += 1
            buffer[0], size[0] = None, 0
            return
        words = np.empty(self._words, np.uint64)
        address = words.ctypes.data
        self._out[address] = words
        buffer[0], size[0] = address, words.nbytes

    def _take(self, context: object, stream: int, address: int, size: int, valid_bytes: int) -> None:
        words = self._out.pop(address, None)
        if words is not None and valid_bytes:
            self._full.append((words, valid_bytes))


class Library:
    """The few functions that are called by ctypes. Other threads run meanwhile, so callbacks get the interpreter."""

    def __init__(self, functions: Any) -> None:
        self._functions = functions

    def register(self, buffers: Buffers) -> None:
        """Raises LibraryError. Another user of CUPTI may have registered its own since: done for each window."""
        self._do("cuptiActivityRegisterCallbacks", buffers.requested, buffers.completed)

    def flush(self) -> None:
        """Raises LibraryError. When it returns, the buffers with records have been handed over."""
        self._do("cuptiActivityFlushAll", c_uint32(_FLUSH_FORCED))

    def dropped(self) -> int:
        """How many records were dropped since this was last asked."""
        count = c_size_t(0)
        self._do("cuptiActivityGetNumDroppedRecords", c_void_p(None), c_uint32(0), byref(count))
        return count.value

    def stride_bytes(self, kind: int) -> int:
        """The length of a kind's records in this version of the library; 0 where it does not know the kind."""
        words = np.full(_PROBE_WORDS, kind, np.uint64)  # so that a record of this kind begins wherever one may
        record, places = c_void_p(None), []
        for _ in range(2):
            try:
                self._do(
                    "cuptiActivityGetNextRecord", c_void_p(words.ctypes.data), c_size_t(words.nbytes), byref(record)
                )
            except LibraryError:
                return 0
            places.append(record.value or 0)
        return places[1] - places[0]

    def _do(self, name: str, *arguments: object) -> None:
        status = c_int(getattr(self._functions, name)(*arguments)).value
        if status:
            raise LibraryError(name, status)

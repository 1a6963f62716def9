"""Keeps the process alive when memory that it shares with another process is taken away while it is being used.

A page of a file mapping is gone when the other side makes the file smaller, or can't be had when the file system is
full: the touch of such a page raises SIGBUS, which ends a process. Copying by pread and pwrite instead would cost every
honest client more than twice the time of its copies. So what is gone is replaced by memory of our own, full of zeros,
and the mapping is marked: the instruction then goes on, and whoever used the mapping can say what happened.

The handler is Python, called through ctypes. That is sound here, as this signal comes out of the very instruction that
touched a tensor, never out of the middle of the interpreter's or the allocator's own work; the thread may hold the
interpreter's lock, or wait for it.
"""

import ctypes
import logging
import mmap
import signal
import weakref
from functools import cache

import numpy as np

_MAP_FIXED = 0x10
_SA_SIGINFO = 4
_FAULT_ADDRESS_OFFSET = 16  # of si_addr in siginfo_t, 64-bit Linux

log = logging.getLogger(__name__)


class GuardedMap:
    """A mapping of a whole shared file's beginning. ``is_lost`` once a page of it was gone when it was touched."""

    def __init__(self, descriptor: int, length: int) -> None:
        """Raises OSError and ValueError, as ``mmap`` does."""
        self._memory = mmap.mmap(descriptor, length)  # which keeps a descriptor of its own
        self.view = memoryview(self._memory)
        self.start = np.frombuffer(self._memory, np.uint8).ctypes.data
        self.end = self.start + length
        self._lost = _Lost()
        if _installed():
            _maps[self.start] = self.end, weakref.ref(self._memory), self._lost
            weakref.finalize(self._memory, _maps.pop, self.start, None).atexit = False

    @property
    def is_lost(self) -> bool:
        return self._lost.is_lost

    @property
    def file_bytes(self) -> int:
        """The size of the file as it is now."""
        return self._memory.size()


class _Lost:
    """Outlives the map's own object, as tensors that lie in it do."""

    is_lost = False


_maps: "dict[int, tuple[int, weakref.ref[mmap.mmap], _Lost]]" = {}
"""By where they start: where they end, what tells their file's size, and whom to tell."""


class _Action(ctypes.Structure):
    """``struct sigaction`` of 64-bit Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


_Handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


class _Signal:
    """Our handler of SIGBUS, and the one before it, which gets what is none of our maps'."""

    def __init__(self) -> None:
        # PyDLL: the interpreter's lock stays with us, as code that called us may count on it.
        self._library = ctypes.PyDLL(None)
        self._library.mmap.restype = ctypes.c_void_p
        self._library.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *3 * (ctypes.c_int,), ctypes.c_long)
        self._handler = _Handler(self._on_signal)  # as long as we are, it must be
        self._before = _Action()
        action = _Action(ctypes.cast(self._handler, ctypes.c_void_p), flags=_SA_SIGINFO)
        if self._library.sigaction(signal.SIGBUS, ctypes.byref(action), ctypes.byref(self._before)):
            raise OSError("SIGBUS can't be handled")

    def _on_signal(self, _number: int, info: int, _context: int) -> None:
        try:
            address = ctypes.c_size_t.from_address(info + _FAULT_ADDRESS_OFFSET).value
            mended = self._mend(address)
        except Exception:
            mended = False
        if not mended:  # the instruction is tried again, and meets who handled it before
            self._library.sigaction(signal.SIGBUS, ctypes.byref(self._before), None)

    def _mend(self, address: int) -> bool:
        for start, (end, reference, lost) in list(_maps.items()):
            memory = reference()
            if start <= address < end and memory is not None:
                page = mmap.PAGESIZE
                first = start + (address - start) // page * page
                beyond = start + -(-memory.size() // page) * page
                # All that lies behind the file's end at once; where the file has the page, but not the room, only that.
                first, last = (beyond, end) if first >= beyond else (first, first + page)
                protection, flags = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
                lost.is_lost = True
                return bool(self._library.mmap(first, last - first, protection, flags, -1, 0) == first)
        return False


@cache
def _installed() -> bool:
    """Once a process, with its first map."""
    try:
        _signals.append(_Signal())
    except (OSError, AttributeError, MemoryError) as error:
        log.warning("a client that makes its shared memory smaller while it is in use will end this server: %s", error)
        return False
    return True


_signals: list[_Signal] = []

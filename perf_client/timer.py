"""A timer that fires within microseconds of a moment. Event loops count in whole milliseconds; the kernel does not."""

import asyncio
import ctypes
import os
import time
from collections.abc import Callable


class _TimeSpec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("it_interval", _TimeSpec), ("it_value", _TimeSpec))


_TFD_FLAGS = 0o4000 | 0o2000000  # TFD_NONBLOCK | TFD_CLOEXEC
_TFD_TIMER_ABSTIME = 1


class PreciseTimer:
    """Calls back at absolute CLOCK_MONOTONIC times through a Linux timerfd (reached by ctypes: os has it from 3.13)."""

    def __init__(self, callback: Callable[[], None]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self._settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        self._spec = _TimerSpec()
        self._spec_address = ctypes.addressof(self._spec)
        self._fd = libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "no timerfd")
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, callback)

    def arm(self, at_ns: int) -> None:
        """Fire once at that time, at once where it has passed. Arming again also clears that it has fired."""
        value = self._spec.it_value
        value.tv_sec, value.tv_nsec = divmod(at_ns, 1_000_000_000)
        if self._settime(self._fd, _TFD_TIMER_ABSTIME, self._spec_address, None):
            raise OSError(ctypes.get_errno(), "timerfd can't be set")

    def disarm(self) -> None:
        self.arm(0)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

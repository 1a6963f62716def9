"""An alarm clock on the event loop, exact to microseconds where asyncio's timers are in whole milliseconds."""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_TFD_TIMER_ABSTIME = 1


class _TimerSpec(ctypes.Structure):
    """C's ``struct itimerspec``: interval and value, seconds and nanoseconds each."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Alarm:
    """Calls ``ring`` on the loop's thread at the time set last, on Linux's timerfd.

    Batching delays are often below a millisecond, to which uvloop and asyncio round. Ringing early or twice is
    allowed: who is rung looks at the clock again.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        if sys.platform != "linux":
            raise OSError("the serving runtime needs Linux (timerfd)")
        self._loop = loop
        self._ring = ring
        self._set_at_ns = 0
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "no timer could be made")
        self._spec = _TimerSpec()
        self._spec_ref = ctypes.byref(self._spec)
        loop.add_reader(self._fd, self._on_readable)

    def set(self, at_ns: int) -> None:
        """Rings at ``at_ns`` (CLOCK_MONOTONIC), at once where that is past."""
        if at_ns == self._set_at_ns:
            return
        self._set_at_ns = at_ns
        self._spec.value_s, self._spec.value_ns = divmod(max(at_ns, 1), 1_000_000_000)
        self._libc.timerfd_settime(self._fd, _TFD_TIMER_ABSTIME, self._spec_ref, None)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _on_readable(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # set again since it was due
        self._set_at_ns = 0
        self._ring()

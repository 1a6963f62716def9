"""A timer that fires within microseconds of a moment. Event loops count in whole milliseconds; the kernel does not."""

import asyncio
import ctypes
import os
import select
import time
from collections.abc import Callable
from statistics import median


class _TimeSpec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("it_interval", _TimeSpec), ("it_value", _TimeSpec))


_TFD_FLAGS = 0o4000 | 0o2000000  # TFD_NONBLOCK | TFD_CLOEXEC
_TFD_TIMER_ABSTIME = 1
_TRIED = 15
_TRIED_NS = 20_000
_LARGEST_COST_NS = 30_000


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
        self.sleep_cost_ns = self._measured_cost_ns()
        """Processor time that one sleep takes, arming included: whoever waits for less saves none by sleeping."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, callback)

    def arm(self, at_ns: int) -> None:
        """Fire at that time, at once where it has passed: again and again until it is armed anew."""
        value = self._spec.it_value
        value.tv_sec, value.tv_nsec = divmod(at_ns, 1_000_000_000)
        if self._settime(self._fd, _TFD_TIMER_ABSTIME, self._spec_address, None):
            raise OSError(ctypes.get_errno(), "timerfd can't be set")

    def disarm(self) -> None:
        self.arm(0)

    def _measured_cost_ns(self) -> int:
        """The median of some short sleeps. Under a hypervisor half of it is that setting the timer leaves the guest."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        costs = []
        for _ in range(_TRIED):
            before_ns = time.thread_time_ns()
            self.arm(time.monotonic_ns() + _TRIED_NS)
            poll.poll()
            costs.append(time.thread_time_ns() - before_ns)
        self.disarm()
        return min(int(median(costs)), _LARGEST_COST_NS)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

"""How much a GPU sends and receives over PCIe: from its byte counters, or from a call that watches for 20 ms."""

import time
from collections.abc import Callable
from typing import Any

from analyzer.collect.devices import PcieReading

_SPACING_NS = 1_000_000_000
"""Each of the two calls that watch takes 20 ms of the sampling thread, so they are made this rarely."""
_KIB = 1024
_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal")
"""Of a field's value, by NVML's number of its type."""


class Pcie:
    """Of one device. ``read`` may raise what pynvml raises."""

    def __init__(self, library: Any, handle: Any, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._library = library
        self._handle = handle
        self._clock = clock
        self._counted: tuple[int, int, int] | None = None
        self._has_counters = True
        self._watched_ns = 0

    def read(self, may_watch: bool) -> PcieReading | None:
        """Since the last reading; None where there is nothing to compare with, or where it is not time to watch."""
        if self._has_counters:
            counters = self._counters()
            if counters is not None:
                return self._grown(counters)
            self._has_counters = False
        if not may_watch or not self.is_due():
            return None
        self._watched_ns = self._clock()
        lib = self._library
        sent = lib.nvmlDeviceGetPcieThroughput(self._handle, lib.NVML_PCIE_UTIL_TX_BYTES)
        received = lib.nvmlDeviceGetPcieThroughput(self._handle, lib.NVML_PCIE_UTIL_RX_BYTES)
        return PcieReading(sent * _KIB, received * _KIB)

    def is_due(self) -> bool:
        return self._clock() - self._watched_ns >= _SPACING_NS

    def _counters(self) -> tuple[int, int] | None:
        """Bytes sent and received since whenever; None where this device or driver does not count them."""
        lib = self._library
        try:
            wanted = [lib.NVML_FI_DEV_PCIE_COUNT_TX_BYTES, lib.NVML_FI_DEV_PCIE_COUNT_RX_BYTES]
            values = lib.nvmlDeviceGetFieldValues(self._handle, wanted)
        except (AttributeError, lib.NVMLError):
            return None
        if any(value.nvmlReturn for value in values):
            return None
        sent, received = (int(getattr(value.value, _MEMBERS[value.valueType])) for value in values)
        return sent, received

    def _grown(self, counters: tuple[int, int]) -> PcieReading | None:
        now = (self._clock(), *counters)
        before, self._counted = self._counted, now
        if before is None:
            return None
        span_ns, sent, received = (new - old for new, old in zip(now, before))
        if span_ns <= 0 or sent < 0 or received < 0:  # counters wrap
            return None
        return PcieReading(sent * 1e9 / span_ns, received * 1e9 / span_ns)

"""NVML's GPM metrics (Hopper and newer): how much of a device worked between two samples, not whether any of it did."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from analyzer.collect.nvml_errors import NO_PERMISSION, failures, refusal

SPACING_NS = 110_000_000
"""Two samples must lie further apart than 100 ms."""
_PERCENT, _MIB = 1 / 100, 2.0**20
_FIELDS = {
    "graphics_ratio": ("NVML_GPM_METRIC_GRAPHICS_UTIL", _PERCENT),
    "sm_ratio": ("NVML_GPM_METRIC_SM_UTIL", _PERCENT),
    "sm_occupancy_ratio": ("NVML_GPM_METRIC_SM_OCCUPANCY", _PERCENT),
    "tensor_ratio": ("NVML_GPM_METRIC_ANY_TENSOR_UTIL", _PERCENT),
    "dram_ratio": ("NVML_GPM_METRIC_DRAM_BW_UTIL", _PERCENT),
    "pcie_tx_bytes_per_s": ("NVML_GPM_METRIC_PCIE_TX_PER_SEC", _MIB),
    "pcie_rx_bytes_per_s": ("NVML_GPM_METRIC_PCIE_RX_PER_SEC", _MIB),
}


@dataclass(frozen=True, slots=True)
class GpmReading:
    """Means from the sample before to this one, 1.0 is all of it. None: not offered by this device."""

    graphics_ratio: float | None = None
    sm_ratio: float | None = None
    sm_occupancy_ratio: float | None = None
    tensor_ratio: float | None = None
    dram_ratio: float | None = None
    pcie_tx_bytes_per_s: float | None = None
    pcie_rx_bytes_per_s: float | None = None
    from_ns: int = 0
    to_ns: int = 0


class Gpm:
    """Of one device, or of one MIG ``instance`` of it. ``library`` is pynvml; a device that has no GPM reads None.

    ``refused`` says why a device that has it does not give it.
    """

    def __init__(
        self, library: Any, handle: Any, clock: Callable[[], int] = time.monotonic_ns, instance: int | None = None
    ) -> None:
        self._library = library
        self._handle = handle
        self._clock = clock
        self._instance = instance
        self._samples: list[Any] = []
        self._taken_ns = 0
        self.refused = ""
        try:
            if library.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
                self._samples = [library.nvmlGpmSampleAlloc(), library.nvmlGpmSampleAlloc()]
                self._take()
        except failures(library) as error:  # an old driver or package
            self.refused = refusal(library, error)
            self.close()

    @property
    def is_on(self) -> bool:
        return bool(self._samples)

    def read(self) -> GpmReading | None:
        """Since the last reading; None where that is too recent."""
        if not self._samples or self._clock() - self._taken_ns < SPACING_NS:
            return None
        before_ns = self._taken_ns
        self._samples.reverse()
        try:
            self._take()
        except failures(self._library) as error:
            self._samples.reverse()  # the newest sample stays the one to go on from
            self.refused = refusal(self._library, error)
            return None
        try:
            self.refused = ""
            return self._metrics(before_ns)
        except failures(self._library) as error:
            self.refused = refusal(self._library, error)
            return None

    def close(self) -> None:
        samples, self._samples = self._samples, []
        for sample in samples:
            with suppress(*failures(self._library)):
                self._library.nvmlGpmSampleFree(sample)

    def _take(self) -> None:
        if self._instance is None:
            self._library.nvmlGpmSampleGet(self._handle, self._samples[1])
        else:
            self._library.nvmlGpmMigSampleGet(self._handle, self._instance, self._samples[1])
        self._taken_ns = self._clock()

    def _metrics(self, from_ns: int) -> GpmReading:
        lib = self._library
        asked = lib.c_nvmlGpmMetricsGet_t()
        asked.version, asked.numMetrics = lib.NVML_GPM_METRICS_GET_VERSION, len(_FIELDS)
        asked.sample1, asked.sample2 = self._samples
        for place, (name, _) in enumerate(_FIELDS.values()):
            asked.metrics[place].metricId = getattr(lib, name)
        lib.nvmlGpmMetricsGet(asked)
        answers = zip(_FIELDS.items(), asked.metrics)
        values = {
            field: metric.value * unit
            for (field, (_, unit)), metric in answers
            if metric.nvmlReturn == 0 and math.isfinite(metric.value)
        }
        if any(metric.nvmlReturn == NO_PERMISSION for metric in asked.metrics[: len(_FIELDS)]):
            self.refused = "Insufficient Permissions"
        return GpmReading(**values, from_ns=from_ns, to_ns=self._taken_ns)

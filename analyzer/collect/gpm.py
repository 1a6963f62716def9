"""NVML's GPM metrics (Hopper and newer): how much of a device worked between two samples, not whether any of it did."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

SPACING_NS = 110_000_000
"""Two samples must lie further apart than 100 ms."""
_FIELDS = {
    "sm_ratio": "NVML_GPM_METRIC_SM_UTIL",
    "sm_occupancy_ratio": "NVML_GPM_METRIC_SM_OCCUPANCY",
    "tensor_ratio": "NVML_GPM_METRIC_ANY_TENSOR_UTIL",
    "dram_ratio": "NVML_GPM_METRIC_DRAM_BW_UTIL",
}


@dataclass(frozen=True, slots=True)
class GpmReading:
    """Means from the sample before to this one, 1.0 is all of it. None: not offered by this device."""

    sm_ratio: float | None = None
    sm_occupancy_ratio: float | None = None
    tensor_ratio: float | None = None
    dram_ratio: float | None = None


class Gpm:
    """Of one device. ``library`` is pynvml; a device that has no GPM reads None."""

    def __init__(self, library: Any, handle: Any, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._library = library
        self._handle = handle
        self._clock = clock
        self._samples: list[Any] = []
        self._taken_ns = 0
        try:
            if library.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
                self._samples = [library.nvmlGpmSampleAlloc(), library.nvmlGpmSampleAlloc()]
                self._take()
        except (AttributeError, library.NVMLError):  # an old driver or package, or MIG
            self.close()

    def read(self) -> GpmReading | None:
        """Since the last reading; None where that is too recent."""
        if not self._samples or self._clock() - self._taken_ns < SPACING_NS:
            return None
        try:
            self._samples.reverse()
            self._take()
            return self._metrics()
        except self._library.NVMLError:
            return None

    def close(self) -> None:
        samples, self._samples = self._samples, []
        for sample in samples:
            with suppress(self._library.NVMLError):
                self._library.nvmlGpmSampleFree(sample)

    def _take(self) -> None:
        self._library.nvmlGpmSampleGet(self._handle, self._samples[1])
        self._taken_ns = self._clock()

    def _metrics(self) -> GpmReading:
        lib = self._library
        asked = lib.c_nvmlGpmMetricsGet_t()
        asked.version, asked.numMetrics = lib.NVML_GPM_METRICS_GET_VERSION, len(_FIELDS)
        asked.sample1, asked.sample2 = self._samples
        for place, name in enumerate(_FIELDS.values()):
            asked.metrics[place].metricId = getattr(lib, name)
        lib.nvmlGpmMetricsGet(asked)
        answers = zip(_FIELDS, asked.metrics)
        return GpmReading(**{name: metric.value / 100 for name, metric in answers if metric.nvmlReturn == 0})

"""GPU counters through NVML. Where there is no driver or a counter is not offered, that is said; it is never zero."""

import logging
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, TypeVar

from analyzer.collect.devices import Device, GpuReading, PcieReading
from analyzer.collect.gpm import Gpm, GpmReading
from analyzer.collect.nvml_errors import absence, failures, refusal
from analyzer.collect.pcie import Pcie

T = TypeVar("T")

log = logging.getLogger(__name__)


class Nvml:
    """All devices of this machine; of one in MIG mode its instances.

    ``absent`` says why there are none, or is empty.
    """

    def __init__(self, library: ModuleType | Any, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._library = library
        self.devices: tuple[Device, ...] = ()
        self.driver_version = ""
        self.absent = ""
        self._is_open = False
        try:
            library.nvmlInit()
            self._is_open = True
            self.driver_version = _text(library.nvmlSystemGetDriverVersion())
            self.devices = tuple(self._found())
            if not self.devices:
                self.absent = "NVML found no device"
        except failures(library) as error:
            self.absent = absence(library, error)
        self._gpm = {each.uuid: Gpm(library, each.whole or each.handle, clock, each.instance) for each in self.devices}
        self._pcie = {each.uuid: Pcie(library, each.handle, clock) for each in self.devices if each.whole is None}
        self._turn = 0

    def read(self) -> tuple[GpuReading, ...]:
        """Never raises. Of PCIe at most one device is watched at a time, as that takes long."""
        self._turn += 1
        turn = self._turn % max(len(self.devices), 1)
        return tuple(self._read(device, place == turn) for place, device in enumerate(self.devices))

    def close(self) -> None:
        for gpm in self._gpm.values():
            gpm.close()
        if self._is_open:
            self._is_open = False
            try:
                self._library.nvmlShutdown()
            except failures(self._library) as error:
                log.info("NVML did not shut down: %s", error)

    def _found(self) -> Iterator[Device]:
        """One that can't be opened does not take the others along."""
        lib = self._library
        for index in range(lib.nvmlDeviceGetCount()):
            try:
                handle = lib.nvmlDeviceGetHandleByIndex(index)
                if self._is_parted(handle):
                    yield from self._instances(handle)
                else:
                    yield Device(_text(lib.nvmlDeviceGetUUID(handle)), _text(lib.nvmlDeviceGetName(handle)), handle)
            except failures(lib) as error:
                log.warning("GPU %d can't be read (%s); it is left out", index, error)

    def _is_parted(self, handle: Any) -> bool:
        try:
            return bool(self._library.nvmlDeviceGetMigMode(handle)[0])
        except failures(self._library):
            return False

    def _instances(self, whole: Any) -> Iterator[Device]:
        lib = self._library
        for index in range(lib.nvmlDeviceGetMaxMigDeviceCount(whole)):
            try:
                part = lib.nvmlDeviceGetMigDeviceHandleByIndex(whole, index)
                name, number = _text(lib.nvmlDeviceGetName(part)), int(lib.nvmlDeviceGetGpuInstanceId(part))
                yield Device(_text(lib.nvmlDeviceGetUUID(part)), name, part, whole, number)
            except failures(lib):
                continue  # instances need not be numbered without gaps

    def _read(self, device: Device, may_watch: bool) -> GpuReading:
        lib, handle, chip = self._library, device.handle, device.whole or device.handle
        ask = _Asking(lib)
        memory = ask("memory", lambda: lib.nvmlDeviceGetMemoryInfo(handle))
        gpm = self._gpm[device.uuid]
        activity = gpm.read()
        if gpm.refused:
            ask.refused["GPM"] = gpm.refused
        is_part = device.whole is not None
        return GpuReading(
            utilization_ratio=ask("utilization", lambda: self._utilization(device, activity)),
            memory_bytes=None if memory is None else int(memory.used),
            memory_total_bytes=(None if memory is None else int(memory.total)) or None,
            process_memory_bytes=ask("processes", lambda: self._processes(handle)),
            # A part has no meter of its own, and that of the whole is not its doing.
            power_w=None if is_part else ask("power", lambda: self._power_w(handle)),
            energy_j=None if is_part else ask("energy", lambda: lib.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3),
            # Clocks and heat are those of the chip, for every part of it.
            sm_clock_mhz=ask("clocks", lambda: float(lib.nvmlDeviceGetClockInfo(chip, lib.NVML_CLOCK_SM))),
            memory_clock_mhz=ask("clocks", lambda: float(lib.nvmlDeviceGetClockInfo(chip, lib.NVML_CLOCK_MEM))),
            temperature_c=ask("heat", lambda: float(lib.nvmlDeviceGetTemperature(chip, lib.NVML_TEMPERATURE_GPU))),
            throttle_bits=ask("throttle reasons", lambda: self._throttle_bits(chip)),
            gpm=activity,
            pcie=ask("PCIe", lambda: self._traffic(device, activity, may_watch)),
            refused=ask.refused,
        )

    def _utilization(self, device: Device, activity: GpmReading | None) -> float | None:
        """Of a part the driver tells it by GPM only."""
        if device.whole is None:
            return float(self._library.nvmlDeviceGetUtilizationRates(device.handle).gpu / 100)
        return None if activity is None else activity.graphics_ratio

    def _processes(self, handle: Any) -> dict[int, int]:
        """By process; a driver that lacks today's call has the one before."""
        lib = self._library
        try:
            running = lib.nvmlDeviceGetComputeRunningProcesses(handle)
        except getattr(lib, "NVMLLibraryMismatchError", ()):
            running = lib.nvmlDeviceGetComputeRunningProcesses_v2(handle)
        return {each.pid: int(each.usedGpuMemory) for each in running if each.usedGpuMemory is not None}

    def _power_w(self, handle: Any) -> float:
        """Instant where it is offered: the other is the mean of a second, most of it before a short window."""
        lib = self._library
        try:
            (value,) = lib.nvmlDeviceGetFieldValues(handle, [lib.NVML_FI_DEV_POWER_INSTANT])
            if not value.nvmlReturn:
                return float(value.value.uiVal / 1e3)
        except failures(lib):
            pass
        return float(lib.nvmlDeviceGetPowerUsage(handle) / 1e3)

    def _throttle_bits(self, handle: Any) -> int:
        """By its new name, or the old one where a driver has only that."""
        try:
            return int(self._library.nvmlDeviceGetCurrentClocksEventReasons(handle))
        except failures(self._library):
            return int(self._library.nvmlDeviceGetCurrentClocksThrottleReasons(handle))

    def _traffic(self, device: Device, activity: GpmReading | None, may_watch: bool) -> PcieReading | None:
        """By GPM where there is any, which costs nothing more."""
        if activity is not None and activity.pcie_tx_bytes_per_s is not None:
            return PcieReading(activity.pcie_tx_bytes_per_s, activity.pcie_rx_bytes_per_s or 0.0)
        gpm = self._gpm[device.uuid]
        comes_later = gpm.is_on and not gpm.refused and activity is None
        if comes_later or device.uuid not in self._pcie:
            return None
        return self._pcie[device.uuid].read(may_watch)


class _Asking:
    """Calls that may fail; ``refused`` has those figures that the device has and did not give."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.refused: dict[str, str] = {}

    def __call__(self, figure: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except failures(self._library) as error:
            reason = refusal(self._library, error)
            if reason:
                self.refused[figure] = reason
            return None


def nvml() -> Nvml:
    """NVML by the package nvidia-ml-py."""
    import pynvml

    return Nvml(pynvml)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value

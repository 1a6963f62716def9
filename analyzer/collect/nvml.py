"""GPU counters through NVML. Where there is no driver or a counter is not offered, that is said; it is never zero."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType
from typing import Any, TypeVar

from analyzer.collect.gpm import Gpm, GpmReading
from analyzer.domain.measurement import GpuUsage

T = TypeVar("T")

SHORTEST_WINDOW_S = 2.0
_THROTTLES = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "power brake",
}
"""Bits of the clocks' event reasons that take performance away. Idling and settings are none."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One device now. ``energy_j`` counts since the driver was loaded. None: not offered by this device."""

    utilization_ratio: float | None
    memory_bytes: int | None
    process_memory_bytes: dict[int, int] | None
    power_w: float | None
    energy_j: float | None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    throttle_bits: int | None = None
    gpm: GpmReading | None = None


@dataclass(frozen=True, slots=True)
class Device:
    uuid: str
    name: str
    handle: Any


class Nvml:
    """All devices of this machine. ``absent`` says why there are none, or is empty."""

    def __init__(self, library: ModuleType | Any) -> None:
        self._library = library
        self.devices: tuple[Device, ...] = ()
        self.driver_version = ""
        self.absent = ""
        self._gpm: dict[str, Gpm] = {}
        try:
            library.nvmlInit()
            self.driver_version = _text(library.nvmlSystemGetDriverVersion())
            handles = [library.nvmlDeviceGetHandleByIndex(i) for i in range(library.nvmlDeviceGetCount())]
            self.devices = tuple(
                Device(_text(library.nvmlDeviceGetUUID(h)), _text(library.nvmlDeviceGetName(h)), h) for h in handles
            )
        except library.NVMLError as error:
            self.absent = f"no NVIDIA driver was found (NVML: {error})"
        if not self.devices and not self.absent:
            self.absent = "NVML found no device"
        self._gpm = {device.uuid: Gpm(library, device.handle) for device in self.devices}

    def read(self) -> tuple[GpuReading, ...]:
        return tuple(self._read(device) for device in self.devices)

    def close(self) -> None:
        for gpm in self._gpm.values():
            gpm.close()
        if self.devices:
            self._library.nvmlShutdown()

    def _read(self, device: Device) -> GpuReading:
        lib, handle = self._library, device.handle
        return GpuReading(
            utilization_ratio=self._get(lambda: lib.nvmlDeviceGetUtilizationRates(handle).gpu / 100),
            memory_bytes=self._get(lambda: int(lib.nvmlDeviceGetMemoryInfo(handle).used)),
            process_memory_bytes=self._get(
                lambda: {
                    process.pid: int(process.usedGpuMemory)
                    for process in lib.nvmlDeviceGetComputeRunningProcesses(handle)
                    if process.usedGpuMemory is not None
                }
            ),
            power_w=self._get(lambda: self._instant_power_w(handle))
            or self._get(lambda: lib.nvmlDeviceGetPowerUsage(handle) / 1e3),
            energy_j=self._get(lambda: lib.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3),
            sm_clock_mhz=self._get(lambda: float(lib.nvmlDeviceGetClockInfo(handle, lib.NVML_CLOCK_SM))),
            memory_clock_mhz=self._get(lambda: float(lib.nvmlDeviceGetClockInfo(handle, lib.NVML_CLOCK_MEM))),
            temperature_c=self._get(lambda: float(lib.nvmlDeviceGetTemperature(handle, lib.NVML_TEMPERATURE_GPU))),
            throttle_bits=self._get(lambda: self._throttle_bits(handle)),
            gpm=self._gpm[device.uuid].read(),
        )

    def _instant_power_w(self, handle: Any) -> float | None:
        """The other call gives the mean of a second on Ampere and newer, most of which is before a short window."""
        (value,) = self._library.nvmlDeviceGetFieldValues(handle, [self._library.NVML_FI_DEV_POWER_INSTANT])
        return None if value.nvmlReturn else value.value.uiVal / 1e3

    def _throttle_bits(self, handle: Any) -> int:
        """By its new name, or the old one where a driver has only that."""
        try:
            return int(self._library.nvmlDeviceGetCurrentClocksEventReasons(handle))
        except (AttributeError, self._library.NVMLError):
            return int(self._library.nvmlDeviceGetCurrentClocksThrottleReasons(handle))

    def _get(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except (AttributeError, self._library.NVMLError):
            return None


def nvml() -> Nvml:
    """NVML by the package nvidia-ml-py."""
    import pynvml

    return Nvml(pynvml)


def gpu_usage(
    devices: Sequence[Device], readings: Sequence[tuple[int, tuple[GpuReading, ...]]], server_pids: frozenset[int]
) -> tuple[GpuUsage, ...]:
    """Readings of all devices with their times to usage by device; of those the server runs on, where that is known."""
    if not readings:
        return ()
    series = [(device, [reading[index] for _, reading in readings]) for index, device in enumerate(devices)]
    used = [(device, of_device) for device, of_device in series if _server_memory(of_device, server_pids)]
    times = [at for at, _ in readings]
    return tuple(_usage(device, of_device, server_pids, times) for device, of_device in used or series)


def _usage(
    device: Device, readings: Sequence[GpuReading], server_pids: frozenset[int], times_ns: Sequence[int]
) -> GpuUsage:
    throttled = _present(reading.throttle_bits for reading in readings)
    gpm = _present(reading.gpm for reading in readings)
    gaps_ns = [later - earlier for earlier, later in pairwise(times_ns)]
    utilization = _present(reading.utilization_ratio for reading in readings)
    power = _present(reading.power_w for reading in readings)
    energy = _present(reading.energy_j for reading in readings)
    return GpuUsage(
        uuid=device.uuid,
        name=device.name,
        sample_count=len(readings),
        utilization_mean_ratio=sum(utilization) / len(utilization) if utilization else None,
        memory_peak_bytes=max(_present(reading.memory_bytes for reading in readings), default=None),
        server_memory_peak_bytes=_server_memory(readings, server_pids),
        power_mean_w=sum(power) / len(power) if power else None,
        energy_j=energy[-1] - energy[0] if len(energy) > 1 else None,
        sm_clock_mean_mhz=_mean(reading.sm_clock_mhz for reading in readings),
        memory_clock_mean_mhz=_mean(reading.memory_clock_mhz for reading in readings),
        temperature_max_c=max(_present(reading.temperature_c for reading in readings), default=None),
        throttled_ratio=_mean(float(bool(bits & sum(_THROTTLES))) for bits in throttled),
        throttle_reasons=tuple(name for bit, name in _THROTTLES.items() if any(bits & bit for bits in throttled)),
        foreign_pids=_foreign_pids(readings, server_pids),
        sm_ratio=_mean(reading.sm_ratio for reading in gpm),
        sm_occupancy_ratio=_mean(reading.sm_occupancy_ratio for reading in gpm),
        tensor_ratio=_mean(reading.tensor_ratio for reading in gpm),
        dram_ratio=_mean(reading.dram_ratio for reading in gpm),
        sample_gap_max_s=max(gaps_ns) / 1e9 if gaps_ns else None,
        window_too_short=times_ns[-1] - times_ns[0] < SHORTEST_WINDOW_S * 1e9,
    )


def _foreign_pids(readings: Sequence[GpuReading], server_pids: frozenset[int]) -> tuple[int, ...]:
    """Nothing where no process of the server is seen: in a container pids may be others than ours."""
    seen = {pid for held in _present(reading.process_memory_bytes for reading in readings) for pid in held}
    return tuple(sorted(seen - server_pids)) if seen & server_pids else ()


def _mean(values: Iterable[float | None]) -> float | None:
    present = _present(values)
    return sum(present) / len(present) if present else None


def _server_memory(readings: Sequence[GpuReading], server_pids: frozenset[int]) -> int | None:
    """Peak over time of the server's processes together; None where no process of it was seen."""
    by_process = _present(reading.process_memory_bytes for reading in readings)
    seen = [sum(held[pid] for pid in held.keys() & server_pids) for held in by_process if held.keys() & server_pids]
    return max(seen, default=None)


def _present(values: Iterable[T | None]) -> list[T]:
    return [value for value in values if value is not None]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value

"""GPU counters through NVML. Where there is no driver or a counter is not offered, that is said; it is never zero."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from analyzer.domain.measurement import GpuUsage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One device now. ``energy_j`` counts since the driver was loaded. None: not offered by this device."""

    utilization_ratio: float | None
    memory_bytes: int | None
    process_memory_bytes: dict[int, int] | None
    power_w: float | None
    energy_j: float | None


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

    def read(self) -> tuple[GpuReading, ...]:
        return tuple(self._read(device.handle) for device in self.devices)

    def close(self) -> None:
        if self.devices:
            self._library.nvmlShutdown()

    def _read(self, handle: Any) -> GpuReading:
        lib = self._library
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
            power_w=self._get(lambda: lib.nvmlDeviceGetPowerUsage(handle) / 1e3),
            energy_j=self._get(lambda: lib.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3),
        )

    def _get(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except self._library.NVMLError:
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
    return tuple(_usage(device, of_device, server_pids) for device, of_device in used or series)


def _usage(device: Device, readings: Sequence[GpuReading], server_pids: frozenset[int]) -> GpuUsage:
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
    )


def _server_memory(readings: Sequence[GpuReading], server_pids: frozenset[int]) -> int | None:
    """Peak over time of the server's processes together; None where no process of it was seen."""
    by_process = _present(reading.process_memory_bytes for reading in readings)
    seen = [sum(held[pid] for pid in held.keys() & server_pids) for held in by_process if held.keys() & server_pids]
    return max(seen, default=None)


def _present(values: Iterable[T | None]) -> list[T]:
    return [value for value in values if value is not None]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value

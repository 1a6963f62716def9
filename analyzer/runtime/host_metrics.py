"""Figures of the machine for the metrics page: its processors, its memory and its GPUs, read from time to time."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostFamily:
    name: str
    help: str
    kind: str = "gauge"


@dataclass(frozen=True, slots=True)
class Reading:
    family: HostFamily
    value: float
    gpu_uuid: str = ""


CPU_UTILIZATION = HostFamily("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]")
CPU_MEMORY_TOTAL = HostFamily("nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes")
CPU_MEMORY_USED = HostFamily("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes")
GPU_UTILIZATION = HostFamily("nv_gpu_utilization", "GPU utilization rate [0.0 - 1.0)")
GPU_MEMORY_TOTAL = HostFamily("nv_gpu_memory_total_bytes", "GPU total memory, in bytes")
GPU_MEMORY_USED = HostFamily("nv_gpu_memory_used_bytes", "GPU used memory, in bytes")
GPU_POWER_USAGE = HostFamily("nv_gpu_power_usage", "GPU power usage in watts")
GPU_POWER_LIMIT = HostFamily("nv_gpu_power_limit", "GPU power management limit in watts")
GPU_ENERGY = HostFamily(
    "nv_energy_consumption", "GPU energy consumption in joules since the Triton Server started", "counter"
)


class Processors:
    """Linux' own counters. ``read`` gives a file's text; utilization is that since the reading before."""

    def __init__(self, read: Callable[[str], str] = lambda path: Path(path).read_text(encoding="ascii")) -> None:
        self._read = read
        self._busy, self._total = self._ticks()

    def readings(self) -> Iterator[Reading]:
        """What can't be read is left out."""
        with suppress(OSError, ValueError, KeyError):
            busy, total = self._ticks()
            passed = total - self._total
            if passed > 0:
                yield Reading(CPU_UTILIZATION, min(1.0, max(0.0, (busy - self._busy) / passed)))
                self._busy, self._total = busy, total
        with suppress(OSError, ValueError, KeyError):
            found = dict(line.split(":", 1) for line in self._read("/proc/meminfo").splitlines() if ":" in line)
            total_bytes, available_bytes = (int(found[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
            yield Reading(CPU_MEMORY_TOTAL, total_bytes)
            yield Reading(CPU_MEMORY_USED, total_bytes - available_bytes)

    def _ticks(self) -> tuple[int, int]:
        try:
            user, nice, system, idle, wait, *others = map(int, self._read("/proc/stat").split("\n", 1)[0].split()[1:9])
        except (OSError, ValueError):
            return 0, 0
        total = user + nice + system + idle + wait + sum(others)
        return total - idle - wait, total


class Gpus:
    """All NVIDIA devices, by the module pynvml or what stands in for it."""

    def __init__(self, nvml: Any) -> None:
        """Raises the module's NVMLError."""
        self._nvml = nvml
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        self._devices = [(_text(nvml.nvmlDeviceGetUUID(handle)), handle) for handle in handles]
        self._energy: dict[str, tuple[int, int]] = {}

    def readings(self) -> Iterator[Reading]:
        """What a device does not tell is left out."""
        nvml = self._nvml
        for uuid, handle in self._devices:
            with suppress(nvml.NVMLError):
                yield Reading(GPU_UTILIZATION, nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100, uuid)
            with suppress(nvml.NVMLError):
                memory = nvml.nvmlDeviceGetMemoryInfo(handle)
                yield Reading(GPU_MEMORY_TOTAL, memory.total, uuid)
                yield Reading(GPU_MEMORY_USED, memory.used, uuid)
            with suppress(nvml.NVMLError):
                yield Reading(GPU_POWER_USAGE, nvml.nvmlDeviceGetPowerUsage(handle) / 1000, uuid)
            with suppress(nvml.NVMLError):
                yield Reading(GPU_POWER_LIMIT, nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000, uuid)
            with suppress(nvml.NVMLError):
                used_mj = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
                yield Reading(GPU_ENERGY, self._since_start_mj(uuid, used_mj) / 1000, uuid)

    def _since_start_mj(self, uuid: str, used_mj: int) -> int:
        """A counter never falls: where the device's own begins anew, what was used until then stays."""
        last_mj, sum_mj = self._energy.get(uuid, (used_mj, 0))
        self._energy[uuid] = used_mj, sum_mj + max(0, used_mj - last_mj)
        return self._energy[uuid][1]


def open_gpus() -> Gpus | None:
    """None where there is no NVIDIA GPU, no driver, or no library to ask it with."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        gpus = Gpus(pynvml)
    except pynvml.NVMLError:
        return None
    return gpus


class HostSampler:
    """``latest`` are the readings of the last look; the page is written from them without waiting for a driver."""

    def __init__(self, sources: Sequence[Processors | Gpus]) -> None:
        self.latest: tuple[Reading, ...] = ()
        self._sources = sources

    async def run(self, period_s: float) -> None:
        """Until it is cancelled."""
        while self._sources:
            try:
                self.latest = await asyncio.to_thread(self.look)
            except Exception:  # a driver that breaks must not take more than its figures along
                log.exception("the machine's figures could not be read")
                self.latest = ()
            await asyncio.sleep(period_s)

    def look(self) -> tuple[Reading, ...]:
        return tuple(reading for source in self._sources for reading in source.readings())


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value

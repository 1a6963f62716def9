"""GPUs and what one look at them gives; from the driver of this machine, or the metrics page of a server elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from analyzer.collect.gpm import GpmReading


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or a part of one: a MIG instance has the handle of its ``whole`` and its number in it."""

    uuid: str
    name: str
    handle: Any
    whole: Any = None
    instance: int | None = None


@dataclass(frozen=True, slots=True)
class PcieReading:
    """Bytes a second that left the device and came to it."""

    tx_bytes_per_s: float
    rx_bytes_per_s: float


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One device now. ``energy_j`` counts since the driver was loaded. None: not offered by this device.

    ``refused`` are figures that the device has and did not give, with the driver's reason.
    """

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
    memory_total_bytes: int | None = None
    pcie: PcieReading | None = None
    refused: Mapping[str, str] = field(default_factory=dict)


class Gpus(Protocol):
    """``absent`` says why there are none, or is empty. ``read`` gives a reading a device and never raises."""

    devices: tuple[Device, ...]
    driver_version: str
    absent: str

    def read(self) -> tuple[GpuReading, ...]: ...

    def close(self) -> None: ...

"""Where readings of GPUs come from: the driver of this machine, or the metrics page of a server elsewhere."""

from typing import Protocol

from analyzer.collect.nvml import Device, GpuReading


class Gpus(Protocol):
    """``absent`` says why there are none, or is empty. ``read`` gives a reading a device and never raises."""

    devices: tuple[Device, ...]
    driver_version: str
    absent: str

    def read(self) -> tuple[GpuReading, ...]: ...

    def close(self) -> None: ...

"""One look at a server's processes and the GPUs together, again and again while load is driven."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from analyzer.collect.devices import Device, GpuReading, Gpus
from analyzer.collect.host import HostProbe, HostReading
from analyzer.collect.sampler import Samples, sampling

Reading = tuple[HostReading | None, tuple[GpuReading, ...]]


@dataclass(frozen=True, slots=True)
class Sampled:
    """What was read, with times by CLOCK_MONOTONIC, and which processes are the server's.

    ``server_pid`` is 0 for a server of which no process is known.
    """

    devices: tuple[Device, ...]
    readings: Sequence[tuple[int, Reading]]
    server_pid: int
    server_pids: frozenset[int]


def looking(server_pid: int | None, gpus: Gpus, interval_s: float) -> AbstractContextManager[Samples[Reading]]:
    probe = None if server_pid is None else HostProbe(server_pid)
    return sampling(lambda: (probe.read() if probe else None, gpus.read()), interval_s)


def sampled(server_pid: int | None, gpus: Gpus, samples: Samples[Reading]) -> Sampled:
    """To be asked while the server still runs."""
    readings = list(zip(samples.times_ns, samples.readings, strict=True))
    return Sampled(gpus.devices, readings, server_pid or 0, pids_of(server_pid))


def pids_of(pid: int | None) -> frozenset[int]:
    """A process and those it has started."""
    return frozenset() if pid is None else HostProbe(pid).pids()

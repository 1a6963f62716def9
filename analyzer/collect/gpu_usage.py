"""Readings of GPUs over a window to what was used in it, and what has to be said of it."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TypeVar

from analyzer.collect.devices import Device, GpuReading
from analyzer.collect.gpm import GpmReading
from analyzer.domain.measurement import GpuUsage

T = TypeVar("T")
Readings = Sequence[tuple[int, tuple[GpuReading, ...]]]

SHORTEST_WINDOW_S = 2.0
_THROTTLES = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "power brake",
}
"""Bits of the clocks' event reasons that take performance away. Idling and settings are none."""
THROTTLED = sum(_THROTTLES)


def gpu_usage(
    devices: Sequence[Device],
    readings: Readings,
    server_pids: frozenset[int],
    own_pids: frozenset[int] = frozenset(),
) -> tuple[GpuUsage, ...]:
    """By device; of those the server runs on, where that is known. ``own_pids`` are ours, and so are not foreign."""
    if not readings:
        return ()
    times = [at for at, _ in readings]
    return tuple(
        _usage(device, [reading[index] for _, reading in readings], (server_pids, own_pids), times)
        for index, device in of_server(devices, readings, server_pids)
    )


def of_server(
    devices: Sequence[Device], readings: Readings, server_pids: frozenset[int]
) -> Sequence[tuple[int, Device]]:
    """The devices that the server runs on, each with its place; all of them where that is not known."""
    places = list(enumerate(devices))
    used = [each for each in places if _server_memory([reading[each[0]] for _, reading in readings], server_pids)]
    return used or places


def doubts(usages: Sequence[GpuUsage]) -> Iterator[str]:
    """What a reader must know of these figures, a sentence each."""
    for usage in usages:
        if usage.foreign_pids:
            count = len(usage.foreign_pids)
            who = "Another process was" if count == 1 else f"{count} other processes were"
            yield f"{who} on {usage.name} meanwhile: its figures are not the server's alone."
        by_reason: dict[str, list[str]] = {}
        for figure, reason in usage.refused.items():
            by_reason.setdefault(reason, []).append(figure)
        for reason, figures in by_reason.items():
            told = ", ".join(figures)
            yield f"{usage.name} did not give {told} ({reason}): not measured, or only for a part of the window."


def _usage(
    device: Device,
    readings: Sequence[GpuReading],
    pids: tuple[frozenset[int], frozenset[int]],
    times_ns: Sequence[int],
) -> GpuUsage:
    server_pids, own_pids = pids
    throttled = _present(reading.throttle_bits for reading in readings)
    gpm = [each for each in _present(reading.gpm for reading in readings) if each.from_ns >= times_ns[0]]
    pcie = _present(reading.pcie for reading in readings)
    gaps_ns = [later - earlier for earlier, later in pairwise(times_ns)]
    refused = {figure: reason for reading in readings for figure, reason in reading.refused.items()}
    energy_j, energy_s = _energy(readings, times_ns, refused)
    return GpuUsage(
        uuid=device.uuid,
        name=device.name,
        sample_count=len(readings),
        utilization_mean_ratio=_mean(reading.utilization_ratio for reading in readings),
        memory_peak_bytes=max(_present(reading.memory_bytes for reading in readings), default=None),
        memory_total_bytes=max(_present(reading.memory_total_bytes for reading in readings), default=None),
        server_memory_peak_bytes=_server_memory(readings, server_pids),
        power_mean_w=_mean(reading.power_w for reading in readings),
        energy_j=energy_j,
        energy_s=energy_s,
        sm_clock_mean_mhz=_mean(reading.sm_clock_mhz for reading in readings),
        memory_clock_mean_mhz=_mean(reading.memory_clock_mhz for reading in readings),
        temperature_max_c=max(_present(reading.temperature_c for reading in readings), default=None),
        throttled_ratio=_mean(float(bool(bits & THROTTLED)) for bits in throttled),
        throttle_reasons=tuple(name for bit, name in _THROTTLES.items() if any(bits & bit for bits in throttled)),
        foreign_pids=_foreign_pids(readings, server_pids, own_pids),
        sm_ratio=_weighed(gpm, "sm_ratio"),
        sm_occupancy_ratio=_weighed(gpm, "sm_occupancy_ratio"),
        tensor_ratio=_weighed(gpm, "tensor_ratio"),
        dram_ratio=_weighed(gpm, "dram_ratio"),
        pcie_tx_mean_bytes_per_s=_mean(each.tx_bytes_per_s for each in pcie),
        pcie_rx_mean_bytes_per_s=_mean(each.rx_bytes_per_s for each in pcie),
        sample_gap_max_s=max(gaps_ns) / 1e9 if gaps_ns else None,
        window_too_short=times_ns[-1] - times_ns[0] < SHORTEST_WINDOW_S * 1e9,
        refused=refused,
    )


def _energy(
    readings: Sequence[GpuReading], times_ns: Sequence[int], refused: dict[str, str]
) -> tuple[float | None, float | None]:
    """Joules, and the seconds in which they were used. A counter that went back tells nothing."""
    known = [(at, reading.energy_j) for at, reading in zip(times_ns, readings) if reading.energy_j is not None]
    if len(known) < 2:
        return None, None
    if any(later < earlier for (_, earlier), (_, later) in pairwise(known)):
        refused["energy"] = "its counter went back"
        return None, None
    return known[-1][1] - known[0][1], (known[-1][0] - known[0][0]) / 1e9


def _weighed(readings: Sequence[GpmReading], name: str) -> float | None:
    """Mean of a GPM figure, each by the time it is of."""
    known = [(value, each.to_ns - each.from_ns) for each in readings if (value := getattr(each, name)) is not None]
    total_ns = sum(span_ns for _, span_ns in known)
    return sum(value * span_ns for value, span_ns in known) / total_ns if total_ns > 0 else None


def _foreign_pids(
    readings: Sequence[GpuReading], server_pids: frozenset[int], own_pids: frozenset[int]
) -> tuple[int, ...]:
    """Nothing where no process of the server is seen: in a container pids may be others than ours."""
    seen = {pid for held in _present(reading.process_memory_bytes for reading in readings) for pid in held}
    return tuple(sorted(seen - server_pids - own_pids)) if seen & server_pids else ()


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

"""Readings of the host and its GPUs over a watched window to counters of its timeline, on the timeline's clock.

A mean over an interval stands at its begin: counters are drawn as steps, so it is seen where it holds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from analyzer.collect.devices import GpuReading
from analyzer.collect.gpu_usage import THROTTLED, of_server
from analyzer.collect.host import HostReading
from analyzer.collect.readings import Sampled
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.table import ABSENT, Device, Meta, Series, Timeline

_Sample = tuple[str, str, int, float]
"""Name, unit, time in ns, value."""

_BEFORE_NS = 1_000_000_000
"""So long before the first event readings are kept: a viewer shows where a counter came from."""
_GPM = {
    "graphics_ratio": "graphics active",
    "sm_ratio": "SM active",
    "sm_occupancy_ratio": "SM occupancy",
    "tensor_ratio": "tensor active",
    "dram_ratio": "DRAM bandwidth",
}


def with_counters(timeline: Timeline, sampled: Sampled) -> Timeline:
    """The timeline, whose clock is the monotonic one, with what was read during it."""
    from_ns, to_ns = timeline.start_ns - _BEFORE_NS, timeline.end_ns
    readings = [(at, each) for at, each in sampled.readings if from_ns <= at <= to_ns]
    if len(readings) < 2:
        return timeline
    build = TimelineBuilder()
    for name, unit, at, value in _host([(at, host) for at, (host, _) in readings if host is not None]):
        build.sample(Series(name=name, unit=unit, process=sampled.server_pid), at, value)
    gpus = [(at, of_all) for at, (_, of_all) in readings]
    known = {device.uuid: device.id for device in timeline.devices}
    added: list[Device] = []
    for place, device in of_server(sampled.devices, gpus, sampled.server_pids):
        number = known.get(device.uuid, ABSENT)
        if number < 0:
            number = _free(place, [*known.values(), *(each.id for each in added)])
            added.append(Device(id=number, name=device.name, uuid=device.uuid))
        for name, unit, at, value in _gpu([(at, of_all[place]) for at, of_all in gpus]):
            build.sample(Series(name=name, unit=unit, device=number), at, value)
    counters = build.build(Meta(producer="")).counters
    return replace(timeline, devices=(*timeline.devices, *added), counters=counters)


def _free(wanted: int, taken: Sequence[int]) -> int:
    """The driver's number, or where CUDA gave that to another device the next that is free."""
    return wanted if wanted not in taken else max(taken) + 1


def _host(readings: Sequence[tuple[int, HostReading]]) -> Iterator[_Sample]:
    for (begin, before), (end, after) in pairwise(readings):
        if end > begin:
            share = max(0, after.cpu_ns - before.cpu_ns) / (end - begin)
            yield "CPU of the server", "%", begin, 100 * share
    for at, reading in readings:
        yield "memory of the server", "B", at, float(reading.memory_bytes)


def _gpu(readings: Sequence[tuple[int, GpuReading]]) -> Iterator[_Sample]:
    for at, reading in readings:
        yield from _now(at, reading)
    for (begin, _), (_, reading) in pairwise(readings):
        if reading.pcie is not None:
            yield "PCIe sent", "B/s", begin, reading.pcie.tx_bytes_per_s
            yield "PCIe received", "B/s", begin, reading.pcie.rx_bytes_per_s
        if reading.gpm is not None and reading.gpm.from_ns >= readings[0][0]:
            for field, name in _GPM.items():
                ratio = getattr(reading.gpm, field)
                if ratio is not None:
                    yield name, "%", reading.gpm.from_ns, 100 * ratio


def _now(at: int, reading: GpuReading) -> Iterator[_Sample]:
    figures = (
        ("utilization", "%", reading.utilization_ratio, 100.0),
        ("memory used", "B", reading.memory_bytes, 1.0),
        ("power", "W", reading.power_w, 1.0),
        ("SM clock", "MHz", reading.sm_clock_mhz, 1.0),
        ("temperature", "°C", reading.temperature_c, 1.0),
    )
    for name, unit, value, factor in figures:
        if value is not None:
            yield name, unit, at, factor * value
    if reading.throttle_bits is not None:
        yield "throttled", "", at, float(bool(reading.throttle_bits & THROTTLED))

"""What was read of host and GPUs stands in the timeline as counters, on its clock and at its devices."""

import pytest

from analyzer.collect.counters import with_counters
from analyzer.collect.devices import Device as Gpu
from analyzer.collect.devices import GpuReading, PcieReading
from analyzer.collect.gpm import GpmReading
from analyzer.collect.host import HostReading
from analyzer.collect.merge import merged
from analyzer.collect.readings import Sampled
from analyzer.timeline import archive
from analyzer.timeline.analyses.counters import counter_sums
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kinds import Kind
from analyzer.timeline.summary import summarize
from analyzer.timeline.table import Anchor, Device, Meta, Series
from analyzer.timeline.text import summary_lines
from analyzer.timeline.window import within

MS = 1_000_000
BEGIN = 5_000 * MS
H100, OTHER = Gpu("GPU-a", "H100", None), Gpu("GPU-b", "H100", None)


def reading(power, gpm=None, pcie=None, pids=None):
    return GpuReading(
        0.5, 2**30, pids, power, 1.0, sm_clock_mhz=1980.0, temperature_c=40.0, throttle_bits=0x4, gpm=gpm, pcie=pcie
    )


def timeline(devices=()):
    build = TimelineBuilder()
    build.add(Kind.REQUEST, [BEGIN, BEGIN + 300 * MS], [BEGIN + 1, BEGIN + 400 * MS], build.name_id("request"))
    return build.build(Meta(producer="test"), devices=devices, anchors=[Anchor("monotonic", 0, 0)])


def sampled(rows, devices=(H100,), pids=frozenset({7})):
    return Sampled(devices, rows, 7, pids)


def values(found, name, device=-1):
    number = next(i for i, each in enumerate(found.counters.series) if (each.name, each.device) == (name, device))
    mine = found.counters.series_id == number
    return list(zip((found.counters.time_ns[mine] - BEGIN).tolist(), found.counters.value[mine].tolist(), strict=True))


def test_cpu_is_told_from_the_begin_of_each_interval_and_memory_when_it_was_read():
    rows = [(BEGIN + at * MS, (HostReading(cpu * MS, 2**20), ())) for at, cpu in ((0, 0), (100, 50), (200, 250))]
    found = with_counters(timeline(), sampled(rows, ()))
    assert values(found, "CPU of the server") == [(0, 50.0), (100 * MS, 200.0)]
    assert [at for at, _ in values(found, "memory of the server")] == [0, 100 * MS, 200 * MS]
    assert {each.process for each in found.counters.series} == {7}
    assert found.devices == ()


def test_gpu_counters_stand_at_the_device_of_the_timeline_with_that_uuid():
    gpm = GpmReading(sm_ratio=0.25, tensor_ratio=0.0, from_ns=BEGIN + 100 * MS, to_ns=BEGIN + 210 * MS)
    early = GpmReading(sm_ratio=0.9, from_ns=BEGIN - 9_000 * MS, to_ns=BEGIN)
    rows = [
        (BEGIN, (None, (reading(300.0), reading(70.0, early)))),
        (BEGIN + 100 * MS, (None, (reading(300.0), reading(80.0)))),
        (BEGIN + 210 * MS, (None, (reading(300.0), reading(90.0, gpm, PcieReading(1e6, 2e6))))),
    ]
    cuda = Device(id=0, name="H100", uuid="GPU-b")
    found = with_counters(timeline([cuda]), sampled(rows, (H100, OTHER)))
    assert values(found, "power", 0) == [(0, 70.0), (100 * MS, 80.0), (210 * MS, 90.0)]
    assert values(found, "SM active", 0) == [(100 * MS, 25.0)], "what began before the window is not of it"
    assert values(found, "tensor active", 0) == [(100 * MS, 0.0)], "a zero that was measured is one"
    assert values(found, "PCIe received", 0) == [(100 * MS, 2e6)]
    assert values(found, "throttled", 0)[0] == (0, 1.0)
    assert [each.uuid for each in found.devices] == ["GPU-b", "GPU-a"]
    assert found.devices[1].id == 1, "the other device, which the timeline did not know, gets a free number"


def test_only_devices_that_the_server_runs_on_are_told_where_that_is_known():
    rows = [(BEGIN + at, (None, (reading(300.0), reading(70.0, pids={7: 99})))) for at in (0, MS)]
    found = with_counters(timeline(), sampled(rows, (H100, OTHER)))
    assert [each.uuid for each in found.devices] == ["GPU-b"]
    assert {each.device for each in found.counters.series} == {1}


@pytest.mark.parametrize(
    "rows", [[], [(BEGIN, (HostReading(0, 1), ()))], [(BEGIN - 10**12 + i, (None, ())) for i in (0, 1)]]
)
def test_without_two_readings_of_the_window_there_are_no_counters(rows):
    assert with_counters(timeline(), sampled(rows)).counters.series == ()


def test_counters_are_kept_by_the_file_a_window_and_a_merge(tmp_path):
    rows = [(BEGIN + at * MS, (HostReading(at * MS, 2**20), (reading(100.0 + at),))) for at in (0, 100, 200, 300)]
    found = with_counters(timeline(), sampled(rows))
    archive.save(found, tmp_path / "a.timeline")
    assert archive.load(tmp_path / "a.timeline").counters.series == found.counters.series
    assert len(within(found, BEGIN, BEGIN + 150 * MS).counters.time_ns) < len(found.counters.time_ns)
    build = TimelineBuilder()
    build.sample(Series(name="load", unit="%"), [1, 2], [3.0, 4.0])
    alone = build.build(Meta(producer="sampler"), anchors=[Anchor("monotonic", BEGIN, 0)])
    both = merged([found, alone])
    assert len(both.counters.time_ns) == len(found.counters.time_ns) + 2
    assert values(both, "load") == [(1, 3.0), (2, 4.0)], "a capture that has nothing but counters loses none of them"


def test_the_mean_of_a_counter_weighs_samples_by_how_long_they_hold():
    build = TimelineBuilder()
    build.sample(Series(name="power", unit="W", device=0), [0, 10, 40], [100.0, 200.0, 100.0])
    build.sample(Series(name="memory used", unit="B", device=0), [5], [2.0**30])
    found = build.build(Meta(producer="test"))
    power, memory = counter_sums(found)
    assert (power.mean, power.least, power.most, power.sample_count) == (pytest.approx(150.0), 100.0, 200.0, 3)
    assert memory.mean == 2.0**30
    lines = summary_lines(summarize(found, "a", 0), 5)
    first = lines.index("Counters")
    assert [" ".join(line.split()) for line in lines[first + 2 :]] == [
        "150 W 200 W GPU 0 power", "1.0 GiB 1.0 GiB GPU 0 memory used",
    ]  # fmt: skip

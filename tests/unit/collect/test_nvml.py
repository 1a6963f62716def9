from dataclasses import replace

from analyzer.collect.devices import GpuReading
from analyzer.collect.gpm import SPACING_NS, Gpm, GpmReading
from analyzer.collect.gpu_usage import gpu_usage
from analyzer.collect.nvml import Nvml
from tests.fakes.nvml import FakeGpm, FakeNvml, fake_device

GIB = 2**30
EMPTY = GpuReading(None, None, None, None, None)


def test_without_a_driver_it_says_why_and_reads_nothing():
    nvml = Nvml(FakeNvml(error=9))
    assert nvml.devices == ()
    assert "Driver Not Loaded" in nvml.absent
    assert nvml.read() == ()


def test_a_driver_without_devices_is_absent_too():
    assert Nvml(FakeNvml()).absent == "NVML found no device"


def test_a_counter_that_is_not_offered_is_none_not_zero():
    nvml = Nvml(FakeNvml([fake_device(memory=3 * GIB)]))
    (reading,) = nvml.read()
    assert reading.memory_bytes == 3 * GIB
    assert (reading.utilization_ratio, reading.power_w, reading.energy_j) == (None, None, None)
    (usage,) = gpu_usage(nvml.devices, [(0, (reading,))], frozenset({1}))
    assert (usage.utilization_mean_ratio, usage.power_mean_w, usage.energy_j) == (None, None, None)
    assert usage.server_memory_peak_bytes is None


def test_usage_is_mean_peak_and_growth_over_the_window():
    device = fake_device()
    nvml = Nvml(FakeNvml([device]))
    readings = []
    for at, (utilization, memory, power, energy) in enumerate(
        [(10, 5, 100, 1000), (30, 9, 300, 1500), (50, 7, 200, 4000)]
    ):
        device |= {"utilization": utilization, "memory": memory * GIB, "power_mw": power * 1000, "energy_mj": energy}
        device |= {"processes": {7: at * GIB, 8: GIB, 99: 5 * GIB}}
        readings.append((at, nvml.read()))
    (usage,) = gpu_usage(nvml.devices, readings, frozenset({7, 8}))
    assert usage.utilization_mean_ratio == 0.3
    assert usage.memory_peak_bytes == 9 * GIB
    assert usage.server_memory_peak_bytes == 3 * GIB
    assert usage.power_mean_w == 200
    assert usage.energy_j == 3.0
    assert (usage.name, usage.sample_count) == ("Fake H100", 3)


def test_only_devices_that_the_server_runs_on_are_counted():
    devices = [
        fake_device("GPU-0", memory=GIB, processes={5: GIB}),
        fake_device("GPU-1", memory=GIB, processes={7: GIB}),
    ]
    nvml = Nvml(FakeNvml(devices))
    readings = [(0, nvml.read())]
    assert [usage.uuid for usage in gpu_usage(nvml.devices, readings, frozenset({7}))] == ["GPU-1"]
    assert [usage.uuid for usage in gpu_usage(nvml.devices, readings, frozenset({1}))] == ["GPU-0", "GPU-1"]


def test_nothing_read_is_nothing_used():
    nvml = Nvml(FakeNvml([fake_device()]))
    assert gpu_usage(nvml.devices, [], frozenset()) == ()


def test_closing_shuts_the_library_down():
    library = FakeNvml([fake_device()])
    Nvml(library).close()
    assert library.is_shut_down


def usage_of(device, steps, pids=frozenset({1}), spacing_ns=10**9):
    nvml = Nvml(FakeNvml([device]))
    readings = []
    for place, step in enumerate(steps):
        device |= step
        readings.append((place * spacing_ns, nvml.read()))
    (usage,) = gpu_usage(nvml.devices, readings, pids)
    return usage


def test_clocks_heat_and_throttling_are_summed_up_and_idling_is_no_throttling():
    steps = [
        {"sm_clock": 1000, "memory_clock": 2000, "temperature": 50, "event_reasons": 0x1},
        {"sm_clock": 2000, "memory_clock": 2000, "temperature": 70, "event_reasons": 0x4 | 0x40},
    ]
    usage = usage_of(fake_device(), steps)
    assert (usage.sm_clock_mean_mhz, usage.memory_clock_mean_mhz, usage.temperature_max_c) == (1500, 2000, 70)
    assert (usage.throttled_ratio, usage.throttle_reasons) == (0.5, ("power cap", "heat (hardware)"))


def test_an_old_driver_knows_the_reasons_by_their_former_name():
    assert usage_of(fake_device(), [{"throttle_reasons": 0x8}]).throttle_reasons == ("hardware slowdown",)


def test_power_is_the_instant_one_where_it_is_offered():
    assert usage_of(fake_device(), [{"power_mw": 100_000, "instant_power_mw": 250_000}]).power_mean_w == 250
    assert usage_of(fake_device(), [{"power_mw": 100_000}]).power_mean_w == 100


def test_processes_that_are_not_the_servers_are_noticed():
    steps = [{"processes": {1: GIB, 9: GIB}}]
    assert usage_of(fake_device(), steps).foreign_pids == (9,)
    assert usage_of(fake_device(), steps, frozenset({1, 9})).foreign_pids == ()
    assert usage_of(fake_device(), steps, frozenset({5})).foreign_pids == (), "the pids may be of another namespace"


def test_a_short_window_and_late_samples_say_so():
    usage = usage_of(fake_device(), [{}, {}], spacing_ns=1_900_000_000)
    assert (usage.window_too_short, usage.sample_gap_max_s) == (True, 1.9)
    assert not usage_of(fake_device(), [{}, {}], spacing_ns=2_000_000_000).window_too_short


def test_what_old_drivers_lack_is_none():
    usage = usage_of(fake_device(), [{}])
    assert (usage.sm_ratio, usage.throttled_ratio, usage.temperature_max_c, usage.power_mean_w) == (None,) * 4


def test_gpm_goes_on_from_its_newest_sample_where_one_could_not_be_taken():
    now = [0]
    device = fake_device(gpm={2: 40.0})
    gpm = Gpm(FakeGpm([device]), device, lambda: now[0])
    now[0] += SPACING_NS
    device["gpm_sample"] = {"error": 4}
    assert gpm.read() is None
    assert gpm.refused == "Insufficient Permissions"
    del device["gpm_sample"]
    now[0] += SPACING_NS
    reading = gpm.read()
    assert reading is not None
    assert (reading.from_ns, reading.to_ns, gpm.refused) == (0, 2 * SPACING_NS, "")


def test_activity_counts_by_the_time_it_is_of():
    device = fake_device()
    (known,) = Nvml(FakeNvml([device])).devices
    spans = [(1.0, 0, 100), (0.0, 100, 400)]
    readings = [
        (to, (replace(EMPTY, gpm=GpmReading(sm_ratio=ratio, from_ns=start, to_ns=to)),)) for ratio, start, to in spans
    ]
    (usage,) = gpu_usage([known], [(0, (EMPTY,)), *readings], frozenset())
    assert usage.sm_ratio == 0.25


def test_gpm_reads_between_two_samples_that_lie_far_enough_apart():
    now = [0]
    device = fake_device(gpm={2: 40.0, 5: 12.5, 10: 30.0})
    library = FakeGpm([device])
    gpm = Gpm(library, device, lambda: now[0])
    assert gpm.read() is None
    for _ in range(3):
        now[0] += SPACING_NS
        reading = gpm.read()
        assert reading is not None
        assert (reading.sm_ratio, reading.tensor_ratio, reading.dram_ratio) == (0.4, 0.125, 0.3)
        assert reading.sm_occupancy_ratio is None
    gpm.close()
    assert library.allocated == 0


def test_a_device_without_gpm_reads_nothing_of_it():
    device = fake_device()
    gpm = Gpm(FakeGpm([device]), device, lambda: 10**12)
    assert gpm.read() is None


def test_a_call_that_takes_long_is_made_for_one_device_at_a_time_and_once_a_second():
    now = [10**12]
    asked: list[str] = []

    class Watched(FakeNvml):
        def nvmlDeviceGetPcieThroughput(self, device, side):
            asked.append(device["uuid"])
            return super().nvmlDeviceGetPcieThroughput(device, side)

    nvml = Nvml(Watched([fake_device(uuid, pcie_tx_kb=1, pcie_rx_kb=2) for uuid in ("GPU-0", "GPU-1")]), lambda: now[0])
    for _ in range(20):  # two seconds of readings
        before = len(asked)
        nvml.read()
        assert len(asked) - before in (0, 2)
        now[0] += 10**8
    assert sorted(asked) == ["GPU-0"] * 4 + ["GPU-1"] * 4

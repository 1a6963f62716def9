from analyzer.collect.nvml import Nvml, gpu_usage
from tests.fakes.nvml import FakeNvml, fake_device

GIB = 2**30


def test_without_a_driver_it_says_why_and_reads_nothing():
    nvml = Nvml(FakeNvml(error="Driver Not Loaded"))
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

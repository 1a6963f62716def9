"""One set of scenarios for the stand-in of pynvml and for the real pynvml over a fake libnvidia-ml."""

import copy
import json

import pytest

from analyzer.collect.devices import Device, GpuReading
from analyzer.collect.gpu_usage import doubts, gpu_usage
from analyzer.domain.measurement import GpuUsage
from tests.fakes.nvml import FakeGpm, fake_device
from tests.fakes.nvml_library import STEP_NS, OverLibrary, compiled, played, readings_of

GIB = 2**30
NO_PERMISSION, OLD, LOST = {"error": 4}, {"error": 13}, {"error": 15}
FULL = {
    "utilization": 60,
    "memory": 30 * GIB,
    "memory_total": 80 * GIB,
    "processes": {"7": 20 * GIB},
    "power_mw": 300_000,
    "energy_mj": 1_000_000,
    "sm_clock": 1_980,
    "memory_clock": 2_619,
    "temperature": 55,
    "event_reasons": 0x1,
    "pcie_tx_kb": 2_048,
    "pcie_rx_kb": 4_096,
}


class OverModule:
    """Plays scenarios by the stand-in."""

    def play(self, steps):
        library = FakeGpm()

        def put(step):
            library.driver, library.error = step.get("driver", "570.1"), step.get("init", 0)
            given = copy.deepcopy(step["devices"])
            for device, told in zip(library.devices, given):
                device.clear()
                device.update(told)
            library.devices = library.devices or given

        return json.loads(json.dumps(played(library, steps, put)))

    def close(self):
        """Nothing is held."""


@pytest.fixture(scope="module", params=["module", "library"])
def driver(request, tmp_path_factory):
    if request.param == "module":
        yield OverModule()
        return
    folder = compiled(tmp_path_factory.mktemp("nvml"))
    if folder is None:
        pytest.skip("no C compiler is here to build the fake libnvidia-ml with")
    made = OverLibrary(folder, folder / "state")
    yield made
    made.close()


def read(driver, *steps, devices=1) -> tuple[list[Device], list[tuple[GpuReading, ...]]]:
    """Each step is the figures of the devices, one after another."""
    states = [{"devices": step if isinstance(step, list) else [step]} for step in steps]
    found = driver.play(states)
    assert len(found["devices"]) == devices, found
    known = [Device(each["uuid"], each["name"], None, None, each["instance"]) for each in found["devices"]]
    return known, readings_of(found)


def used(driver, *steps, pids=frozenset({7}), devices=1, own=frozenset()) -> tuple[GpuUsage, ...]:
    known, readings = read(driver, *steps, devices=devices)
    return gpu_usage(known, [(place * STEP_NS, reading) for place, reading in enumerate(readings, 2)], pids, own)


def test_every_figure_of_a_device_is_read(driver):
    later = {**FULL, "energy_mj": 1_600_000, "utilization": 80, "event_reasons": 0x4}
    (usage,) = used(driver, fake_device(**FULL), fake_device(**later), fake_device(**later))
    assert usage.utilization_mean_ratio == pytest.approx((0.6 + 0.8 + 0.8) / 3)
    assert (usage.memory_peak_bytes, usage.memory_total_bytes) == (30 * GIB, 80 * GIB)
    assert usage.server_memory_peak_bytes == 20 * GIB
    assert (usage.power_mean_w, usage.energy_j, usage.energy_s) == (300, 600, 2)
    assert (usage.sm_clock_mean_mhz, usage.memory_clock_mean_mhz, usage.temperature_max_c) == (1980, 2619, 55)
    assert usage.throttle_reasons == ("power cap",)
    assert (usage.pcie_tx_mean_bytes_per_s, usage.pcie_rx_mean_bytes_per_s) == (2048 * 1024, 4096 * 1024)
    assert (usage.sm_ratio, usage.refused, usage.foreign_pids) == (None, {}, ())
    assert not list(doubts([usage]))


def test_two_devices_are_told_apart(driver):
    two = [fake_device("GPU-0", **FULL), fake_device("GPU-1", **{**FULL, "utilization": 5, "processes": {}})]
    devices, readings = read(driver, two, devices=2)
    assert [each.uuid for each in devices] == ["GPU-0", "GPU-1"]
    assert [each.utilization_ratio for each in readings[0]] == [0.6, 0.05]
    (usage,) = used(driver, two, two, devices=2)
    assert usage.uuid == "GPU-0", "the server runs on it"


def test_what_is_not_supported_is_not_measured_and_nothing_is_said_of_it(driver):
    (usage,) = used(driver, fake_device(memory=GIB), fake_device(memory=GIB))
    assert (usage.utilization_mean_ratio, usage.energy_j, usage.power_mean_w, usage.temperature_max_c) == (None,) * 4
    assert (usage.pcie_tx_mean_bytes_per_s, usage.throttled_ratio, usage.memory_total_bytes) == (None, None, None)
    assert usage.refused == {}


def test_a_counter_that_is_locked_is_told_and_the_others_are_read(driver):
    locked = {**FULL, "energy_mj": NO_PERMISSION, "power_mw": NO_PERMISSION, "utilization": NO_PERMISSION}
    (usage,) = used(driver, fake_device(**locked), fake_device(**locked))
    assert (usage.utilization_mean_ratio, usage.energy_j, usage.power_mean_w) == (None, None, None)
    assert usage.memory_peak_bytes == 30 * GIB
    assert usage.refused.keys() == {"utilization", "power", "energy"}
    (told,) = doubts([usage])
    assert "Insufficient Permissions" in told
    assert "utilization, power, energy" in told


def test_a_device_that_is_lost_in_the_middle_is_told(driver):
    gone = dict.fromkeys(FULL, LOST)
    (usage,) = used(driver, fake_device(**FULL), fake_device(**FULL), fake_device(**gone))
    assert usage.utilization_mean_ratio == 0.6
    assert set(usage.refused.values()) == {"GPU is lost"}
    assert any("GPU is lost" in told and "only for a part of the window" in told for told in doubts([usage]))


def test_an_energy_counter_that_goes_back_tells_nothing(driver):
    steps = [fake_device(**{**FULL, "energy_mj": energy}) for energy in (5_000, 9_000, 100, 4_000)]
    (usage,) = used(driver, *steps)
    assert (usage.energy_j, usage.refused) == (None, {"energy": "its counter went back"})


def test_pcie_is_counted_where_the_device_counts_and_a_counter_that_wraps_is_left_out(driver):
    counts = [(0, 0), (4_000_000, 1_000_000), (100, 2_000_000), (2_000_100, 2_000_000)]
    steps = [fake_device(**FULL, pcie_tx_bytes=sent, pcie_rx_bytes=received) for sent, received in counts]
    _, readings = read(driver, *steps)
    found = [reading.pcie for (reading,) in readings]
    assert found[0] is None
    assert found[2] is None
    assert [(each.tx_bytes_per_s, each.rx_bytes_per_s) for each in found if each] == [(4e6, 1e6), (2e6, 0)]


def test_gpm_gives_activity_and_traffic(driver):
    gpm = {"1": 70, "2": 40, "3": 25, "5": 12.5, "10": 30, "20": 8, "21": 16}
    first, second = fake_device(**FULL, gpm=gpm), fake_device(**FULL, gpm={**gpm, "2": 60})
    (usage,) = used(driver, first, second, second)
    assert usage.sm_ratio == pytest.approx(0.6), "the reading that began before the window is left out"
    assert (usage.sm_occupancy_ratio, usage.tensor_ratio, usage.dram_ratio) == (0.25, 0.125, 0.3)
    assert (usage.pcie_tx_mean_bytes_per_s, usage.pcie_rx_mean_bytes_per_s) == (8 * 2**20, 16 * 2**20)


def test_gpm_that_offers_a_part_gives_that_part(driver):
    (usage,) = used(driver, *[fake_device(**FULL, gpm={"2": 40})] * 3)
    assert (usage.sm_ratio, usage.tensor_ratio) == (0.4, None)
    assert usage.pcie_tx_mean_bytes_per_s == 2048 * 1024, "from the call that watches"


def test_gpm_that_is_locked_is_told(driver):
    (usage,) = used(driver, *[fake_device(**FULL, gpm={"2": 40}, gpm_sample=NO_PERMISSION)] * 3)
    assert (usage.sm_ratio, usage.refused) == (None, {"GPM": "Insufficient Permissions"})


def test_a_parted_device_is_its_instances(driver):
    def part(number, **more):
        figures = {"memory": 2 * GIB, "memory_total": 10 * GIB, "processes": {"7": GIB}}
        return {"uuid": f"MIG-{number}", "name": "Fake H100 MIG 1g.10gb", **figures, **more}

    whole = {**FULL, "utilization": None, "gpm": {"1": 90}}
    parts = [part(0, gpm={"1": 50, "2": 20}), part(1, gpm={"1": 10, "2": 4}, processes={})]
    device = fake_device(**whole, mig=parts)
    devices, readings = read(driver, device, device, devices=2)
    assert [(each.uuid, each.instance) for each in devices] == [("MIG-0", 0), ("MIG-1", 1)]
    assert [each.utilization_ratio for each in readings[1]] == [0.5, 0.1]
    assert [each.power_w for each in readings[1]] == [None, None], "the meter is that of the whole"
    assert [each.sm_clock_mhz for each in readings[1]] == [1980, 1980]
    (usage,) = used(driver, device, device, device, devices=2)
    assert (usage.uuid, usage.memory_peak_bytes, usage.memory_total_bytes) == ("MIG-0", 2 * GIB, 10 * GIB)
    assert (usage.energy_j, usage.pcie_tx_mean_bytes_per_s, usage.sm_ratio) == (None, None, 0.2)


def test_other_processes_on_the_device_are_counted_and_ours_are_not(driver):
    device = fake_device(**{**FULL, "processes": {"7": GIB, "8": GIB, "9": GIB, "11": None}})
    (usage,) = used(driver, device, device, own=frozenset({7, 9}))
    assert usage.foreign_pids == (8,)
    (told,) = doubts([usage])
    assert told.startswith("Another process was on Fake H100")


def test_a_driver_that_lacks_todays_list_of_processes_has_the_one_before(driver):
    device = fake_device(**FULL, old_processes=1)
    (usage,) = used(driver, device, device)
    assert usage.server_memory_peak_bytes == 20 * GIB


@pytest.mark.parametrize(
    ("error", "words"),
    [(9, "no NVIDIA driver was found"), (13, "update it"), (4, "see that this user may use it")],
)
def test_a_driver_that_can_not_be_asked_says_why(driver, error, words):
    found = driver.play([{"devices": [], "init": error}])
    assert (found["devices"], found["readings"]) == ([], [[]])
    assert words in found["absent"]


def test_no_device_is_said_too(driver):
    assert driver.play([{"devices": []}])["absent"] == "NVML found no device"


def test_a_device_that_can_not_be_opened_does_not_take_the_others_along(driver):
    devices = [fake_device("GPU-0", open=LOST), fake_device("GPU-1", **FULL)]
    known, _ = read(driver, devices, devices=1)
    assert known[0].uuid == "GPU-1"

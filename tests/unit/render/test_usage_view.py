"""What the server used, in sentences, and what is missing of it."""

from msgspec.structs import replace

from analyzer.domain.measurement import GpuUsage
from analyzer.render import listing, usage
from tests.fakes.outcomes import measurement, run_config, server_config

GIB = 2**30
POINT = measurement(run_config(server_config(1), 4))


def gpu(**figures) -> GpuUsage:
    empty = dict.fromkeys(
        ("utilization_mean_ratio", "memory_peak_bytes", "server_memory_peak_bytes", "power_mean_w", "energy_j")
    )
    return GpuUsage(**{"uuid": "GPU-0", "name": "H100", "sample_count": 20, **empty, **figures})


def replaced(**fields):
    return replace(POINT, **fields)


def test_every_gpu_has_a_sentence():
    full = gpu(
        utilization_mean_ratio=0.63, sm_ratio=0.41, tensor_ratio=0.02, memory_peak_bytes=3 * GIB,
        memory_total_bytes=80 * GIB, server_memory_peak_bytes=2 * GIB, power_mean_w=312.4, temperature_max_c=61.0,
        pcie_tx_mean_bytes_per_s=5 * 2.0**20, throttled_ratio=0.25, throttle_reasons=("power cap",),
        sample_gap_max_s=0.12,
    )  # fmt: skip
    host, first, second = usage.sentences(replaced(gpus=(full, gpu(name="L4", window_too_short=True))))
    assert host.startswith("Used by the server: ")
    assert first == (
        "H100: 63% busy, multiprocessors 41%, tensor cores 2%, 3,072 of 81,920 MB of memory (2,048 the server's), "
        "312 W, 61 °C, 5.00 MB/s sent over PCIe, throttled in 25% of the samples (power cap), "
        "20 samples at most 0.120 s apart."
    )
    assert second == (
        "L4: utilization not measured, memory not measured. The window was too short for the driver's averages."
    )


def test_without_a_gpu_the_reason_stands_there_and_without_a_server_process_so():
    told = usage.sentences(replaced(gpus=(), gpus_unmeasured="no driver", host=None))
    assert told == ("Used by the server: processor and memory not measured.", "GPU not measured: no driver.")
    assert usage.sentences(None) == ()


def rows(point) -> dict[str, tuple[str, ...]]:
    table = listing.certainty(point)
    return {row.cells[0].text: tuple(cell.text for cell in row.cells[1:]) for row in table.rows}


def test_the_table_has_not_measured_where_a_gpu_figure_would_stand():
    assert rows(replaced(gpus=(), gpus_unmeasured="no driver"))["GPU"] == ("not measured", "none", "no driver")
    locked = rows(replaced(gpus=(gpu(memory_peak_bytes=GIB, refused={"power": "Insufficient Permissions"}),)))
    assert locked["GPU memory"][0] == "1,024 MB"
    assert locked["GPU power"] == ("not measured", "none", "The driver says: Insufficient Permissions.")
    assert rows(replaced(gpus=(gpu(),)))["GPU utilization"][2] == "not offered by this device"


def test_figures_that_reach_beyond_a_short_window_say_so():
    short = rows(replaced(gpus=(gpu(memory_peak_bytes=GIB, power_mean_w=90.0, window_too_short=True),)))
    assert short["GPU power"][2] == "20 samples, in a window too short for it"
    assert short["GPU memory"][2] == "20 samples"

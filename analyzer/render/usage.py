"""What the server used while a point was measured, in sentences: host, and each GPU."""

from collections.abc import Iterable, Iterator

from analyzer.domain.figures import NOT_MEASURED, number
from analyzer.domain.measurement import GpuUsage, Measurement
from analyzer.render import words


def sentences(about: Measurement | None) -> tuple[str, ...]:
    """One of the host and one of each GPU, or why there is none."""
    if about is None or about.load.verdict == "not judged":
        return ()
    return (f"Used by the server: {_host(about)}.", *_gpus(about))


def _host(about: Measurement) -> str:
    if about.host is None:
        return f"processor and memory {NOT_MEASURED}"
    cores = NOT_MEASURED if about.host.cpu_ratio is None else f"{number(about.host.cpu_ratio)} cores"
    return f"{cores}, {number(about.host.memory_peak_bytes / 2**20)} MB of memory"


def _gpus(about: Measurement) -> Iterator[str]:
    if not about.gpus:
        yield f"GPU {NOT_MEASURED}" + (f": {about.gpus_unmeasured}." if about.gpus_unmeasured else ".")
    for gpu in about.gpus:
        short = " The window was too short for the driver's averages." if gpu.window_too_short else ""
        yield f"{gpu.name}: {', '.join(_parts(gpu))}.{short}"


def _parts(gpu: GpuUsage) -> Iterable[str]:
    if gpu.utilization_mean_ratio is not None:
        yield f"{gpu.utilization_mean_ratio:.0%} busy"
    else:
        yield f"utilization {NOT_MEASURED}"
    activity = (("multiprocessors", gpu.sm_ratio), ("tensor cores", gpu.tensor_ratio), ("bandwidth", gpu.dram_ratio))
    yield from (f"{name} {ratio:.0%}" for name, ratio in activity if ratio is not None)
    yield _memory(gpu)
    if gpu.power_mean_w is not None:
        yield f"{number(gpu.power_mean_w)} W"
    if gpu.temperature_max_c is not None:
        yield f"{gpu.temperature_max_c:.0f} °C"
    sides = (("sent", gpu.pcie_tx_mean_bytes_per_s), ("received", gpu.pcie_rx_mean_bytes_per_s))
    yield from (f"{number(rate / 2**20)} MB/s {name} over PCIe" for name, rate in sides if rate is not None)
    if gpu.throttled_ratio:
        yield f"throttled in {gpu.throttled_ratio:.0%} of the samples ({', '.join(gpu.throttle_reasons)})"
    if gpu.sample_gap_max_s is not None:
        yield f"{words.counted(gpu.sample_count, 'sample')} at most {number(gpu.sample_gap_max_s)} s apart"


def _memory(gpu: GpuUsage) -> str:
    if gpu.memory_peak_bytes is None:
        return f"memory {NOT_MEASURED}"
    of = "" if gpu.memory_total_bytes is None else f" of {number(gpu.memory_total_bytes / 2**20)}"
    own = gpu.server_memory_peak_bytes
    part = "" if own is None else f" ({number(own / 2**20)} the server's)"
    return f"{number(gpu.memory_peak_bytes / 2**20)}{of} MB of memory{part}"

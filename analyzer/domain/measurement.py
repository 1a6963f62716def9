"""What was measured at one point, or why it could not be."""

import msgspec

from analyzer.domain.record import Record
from analyzer.domain.run import RunConfig
from perf_client.profile import LoadResult


class HostUsage(Record, frozen=True):
    """The server's process tree over the counted window, from /proc. ``cpu_ratio`` 1.0 is one core kept busy, None is
    not measured.

    ``memory_peak_bytes`` is the largest sum of proportional set sizes seen (resident where those can't be read).
    """

    cpu_ratio: float | None
    memory_peak_bytes: int
    sample_count: int


class GpuUsage(Record, frozen=True):
    """One device over the counted window, from NVML. ``None`` is "not measured", never zero.

    ``memory_peak_bytes`` is of the device, ``server_memory_peak_bytes`` of the server's processes on it. ``energy_j``
    was used in ``energy_s``, which the samples around the window make a little longer than that. PCIe's ``tx`` is what
    the device sent. ``refused`` has the figures that the device has and did not give, with the driver's reason.
    Of a MIG instance power and energy are not measured; clocks, heat and throttling are those of the whole GPU.
    ``throttled_ratio`` is the share of samples with a reason of power or heat; ``foreign_pids`` are processes on it
    that are not the server's. ``sm_ratio`` to ``dram_ratio`` are GPM's (Hopper and newer): busy
    multiprocessors, warps held, tensor cores at work, memory bandwidth. In a window that is too short (2 s) averages of
    the driver and its energy counter reach beyond the window.
    """

    uuid: str
    name: str
    sample_count: int
    utilization_mean_ratio: float | None
    memory_peak_bytes: int | None
    server_memory_peak_bytes: int | None
    power_mean_w: float | None
    energy_j: float | None
    energy_s: float | None = None
    memory_total_bytes: int | None = None
    sm_clock_mean_mhz: float | None = None
    memory_clock_mean_mhz: float | None = None
    temperature_max_c: float | None = None
    throttled_ratio: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    foreign_pids: tuple[int, ...] = ()
    sm_ratio: float | None = None
    sm_occupancy_ratio: float | None = None
    tensor_ratio: float | None = None
    dram_ratio: float | None = None
    pcie_tx_mean_bytes_per_s: float | None = None
    pcie_rx_mean_bytes_per_s: float | None = None
    sample_gap_max_s: float | None = None
    window_too_short: bool = False
    refused: dict[str, str] = msgspec.field(default_factory=dict)


class Collected(Record, frozen=True):
    """What one collector of timelines did while a point was measured. ``state`` is absent, busy or on."""

    collector: str
    state: str
    reason: str = ""
    records: int = 0
    dropped: int = 0


class Measurement(Record, frozen=True, tag="measurement", tag_field="outcome"):
    """One point, measured. ``gpus_unmeasured`` says why there are no GPU figures, where there are none.

    ``measured_at`` is wall time (ISO 8601, UTC), ``overhead_s`` what this point cost beyond its load (launch apart).
    ``beside`` are the results of the other driven models, in the order of ``config.beside``. ``price_per_hour`` is that
    of one device in whatever currency; it is put in when a run is read, so that another price needs no measuring.
    ``collected`` says which collectors watched; what they saw is in the run folder. ``captured_ns`` is from when
    to when (CLOCK_MONOTONIC) they did where they had a window of their own, after the one that the figures are of; None
    where they watched the counted window itself.
    """

    config: RunConfig
    load: LoadResult
    host: HostUsage | None
    gpus: tuple[GpuUsage, ...]
    gpus_unmeasured: str
    measured_at: str
    overhead_s: float
    warnings: tuple[str, ...] = ()
    beside: tuple[LoadResult, ...] = ()
    price_per_hour: float | None = None
    collected: tuple[Collected, ...] = ()
    captured_ns: tuple[int, int] | None = None

    @property
    def loads(self) -> tuple[LoadResult, ...]:
        """The results of every driven model."""
        return (self.load, *self.beside)


class Failure(Record, frozen=True, tag="failure", tag_field="outcome"):
    """One point that could not be measured: a failed run is data. ``stage`` is where it broke."""

    config: RunConfig
    stage: str
    reason: str
    measured_at: str
    log_tail: str = ""


Outcome = Measurement | Failure

"""The limits at which each rule fires, as settings: ``R1.gap_us`` is ``Thresholds().R1.gap_us``."""

from collections.abc import Mapping

import msgspec

from analyzer.domain.record import Record


class StepGap(Record, frozen=True):
    """R1: the median gap between two steps, and the part of a request's time that all its gaps have."""

    gap_us: float = 100.0
    share_ratio: float = 0.05


class QueueBound(Record, frozen=True):
    """R2: the queue's part of a request's time, and what is busy enough to be the cause or idle enough not to be."""

    queue_ratio: float = 0.5
    busy_ratio: float = 0.8
    idle_ratio: float = 0.5


class UnderfilledBatch(Record, frozen=True):
    """R3: mean batch over the wanted one, and the part of the batches that left because their time was up."""

    fill_ratio: float = 0.5
    timer_ratio: float = 0.5


class HostToDevice(Record, frozen=True):
    """R4: copies to the device that no kernel hides, over the device's span."""

    exposed_ratio: float = 0.15


class PageableCopies(Record, frozen=True):
    """R5: pageable copies, all together and over the device's span."""

    total_kib: float = 64.0
    share_ratio: float = 0.02


class CopyChurn(Record, frozen=True):
    """R6: copies between two steps on the same device, over its span."""

    share_ratio: float = 0.03


class LaunchBound(Record, frozen=True):
    """R7: short kernels, at least so many of them; or idle time that waits for the host, with no work queued."""

    kernel_us: float = 10.0
    launches: float = 100.0
    host_wait_ratio: float = 0.5
    queued: float = 1.0


class SyncStall(Record, frozen=True):
    """R8: waits of a thread for an idle device, over the time in which it executes."""

    wait_ratio: float = 0.2


class Serialised(Record, frozen=True):
    """R9: the part of their time in which instances compute together, and how much slower two are together.

    Of more instances, each one adds as much to the slowdown.
    """

    overlap_ratio: float = 0.05
    slowdown: float = 1.6


class LowUse(Record, frozen=True):
    """R10: the device's busy part of its span, and its multiprocessors' activity."""

    busy_ratio: float = 0.5
    sm_ratio: float = 0.3


class Precision(Record, frozen=True):
    """R11: activity of the tensor cores, full-precision kernels' part of kernel time, and what is hoped for."""

    tensor_ratio: float = 0.05
    math_ratio: float = 0.5
    speedup: float = 2.0


class Contended(Record, frozen=True):
    """R12: throttled part of the window, and the part of the device's memory in use."""

    throttled_ratio: float = 0.05
    memory_ratio: float = 0.9


class Thresholds(Record, frozen=True):
    """All rules' limits. Those that no published tool or definition gives are first values, to be tuned."""

    R1: StepGap = StepGap()
    R2: QueueBound = QueueBound()
    R3: UnderfilledBatch = UnderfilledBatch()
    R4: HostToDevice = HostToDevice()
    R5: PageableCopies = PageableCopies()
    R6: CopyChurn = CopyChurn()
    R7: LaunchBound = LaunchBound()
    R8: SyncStall = SyncStall()
    R9: Serialised = Serialised()
    R10: LowUse = LowUse()
    R11: Precision = Precision()
    R12: Contended = Contended()


DEFAULTS = Thresholds()


def names() -> tuple[str, ...]:
    """``R1.gap_us`` and so on, in order."""
    return tuple(
        f"{rule}.{field}" for rule in DEFAULTS.__struct_fields__ for field in getattr(DEFAULTS, rule).__struct_fields__
    )


def thresholds(changed: Mapping[str, float]) -> Thresholds:
    """The defaults with some limits changed, each under its name."""
    made = DEFAULTS
    for name, value in changed.items():
        rule, _, field = name.partition(".")
        made = msgspec.structs.replace(made, **{rule: msgspec.structs.replace(getattr(made, rule), **{field: value})})
    return made

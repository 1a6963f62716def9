"""What each sampled counter was on the whole."""

import numpy as np

from analyzer.domain.record import Record
from analyzer.timeline.table import Column, Ns, Timeline


class CounterSum(Record, frozen=True):
    """``mean`` weighs each sample by the time until the next one, as a counter holds until then."""

    name: str
    unit: str
    device: int
    process: int
    sample_count: int
    mean: float
    least: float
    most: float


def counter_sums(timeline: Timeline) -> tuple[CounterSum, ...]:
    """Of those with samples, the host's first, then device by device."""
    counters = timeline.counters
    found = []
    for number, series in enumerate(counters.series):
        mine = counters.series_id == number
        values = counters.value[mine]
        if not len(values):
            continue
        told = CounterSum(
            name=series.name,
            unit=series.unit,
            device=series.device,
            process=series.process,
            sample_count=len(values),
            mean=_mean(counters.time_ns[mine], values),
            least=float(values.min()),
            most=float(values.max()),
        )
        found.append(told)
    return tuple(sorted(found, key=lambda each: each.device))


def _mean(times: Ns, values: Column) -> float:
    """The last sample holds for as long as the usual one."""
    held = np.diff(times).astype(np.float64)
    if not held.sum():
        return float(values.mean())
    return float(np.average(values, weights=np.append(held, np.median(held))))

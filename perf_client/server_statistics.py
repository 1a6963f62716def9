"""The server's own counters, sampled along a run, and their growth over the counted window.

Which window counts is known only after the run (warm-up may be cut automatically). So the counters are read at a low
rate all along, at the start, at the end and where an explicit warm-up ends; the growth is that from the first sample
within the window, so that nothing of the warm-up is in it, to the sample nearest to its end. Its counts may therefore
differ from the client's by what passes in an interval; its times for a request don't.
"""

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from perf_client.control import Control, Refused
from perf_client.profile import ServerTimes
from perf_client.record import MetricsSample, ServerSample
from perf_client.sampling import Sampling, Unmeasured
from perf_client.target import Step
from perf_client.transports.base import Clock

INTERVAL_S = 0.25

_COUNTERS = tuple(name for name in ServerTimes.__struct_fields__ if name not in ("model", "version"))


def between(samples: Sequence[ServerSample], from_ns: int, to_ns: int) -> tuple[ServerTimes, ...]:
    """Growth over the window as near as the samples tell it; empty where they don't.

    Of a model with several versions those are left out that did nothing, unless none did anything.
    """
    bounds = window_bounds(samples, from_ns, to_ns)
    if bounds is None:
        return ()
    first, last = bounds
    before = {(entry.model, entry.version): entry for entry in first.times}
    grown = [_growth(before.get((entry.model, entry.version)), entry) for entry in last.times]
    busy = {entry.model for entry in grown if entry.success_count or entry.fail_count}
    return tuple(entry for entry in grown if entry.model not in busy or entry.success_count or entry.fail_count)


Sample = TypeVar("Sample", ServerSample, MetricsSample)


def window_bounds(samples: Sequence[Sample], from_ns: int, to_ns: int) -> tuple[Sample, Sample] | None:
    """Where nothing was cut the first sample is the last before the load; where no sample fits it is the nearest."""
    if not samples:
        return None
    last = min(samples, key=lambda sample: abs(sample.at_ns - to_ns))
    earlier = [sample for sample in samples if sample.at_ns < last.at_ns]
    if not earlier:
        return None
    if from_ns <= 0 and (before := [sample for sample in earlier if sample.at_ns <= 0]):
        return before[-1], last
    within = [sample for sample in earlier if sample.at_ns >= from_ns]
    return within[0] if within else earlier[-1], last


def _growth(before: ServerTimes | None, after: ServerTimes) -> ServerTimes:
    if before is None:
        return after
    # A counter that fell belongs to a model that was loaded again: what it shows is all new.
    deltas = {name: getattr(after, name) - getattr(before, name) for name in _COUNTERS}
    return after if min(deltas.values()) < 0 else msgspec.structs.replace(after, **deltas)


class StatisticsSampler(Sampling[tuple[ServerTimes, ...]]):
    """Reads the counters of a model, and of the models an ensemble is made of, and keeps what it read."""

    def __init__(self, control: Control, models: Sequence[Step], clock: Clock) -> None:
        super().__init__(self._statistics, clock, INTERVAL_S)
        self._control = control
        self._models = models

    async def _statistics(self) -> tuple[ServerTimes, ...]:
        try:
            answers = [await self._control.statistics(entry.model, entry.version) for entry in self._models]
        except Refused as error:
            raise Unmeasured(f"the server offers no statistics extension ({error})") from None
        except (OSError, TimeoutError) as error:
            raise Unmeasured(f"the server's statistics could not be read ({str(error) or 'no answer'})") from None
        return tuple(entry for answer in answers for entry in answer)

    def samples(self, start_ns: int) -> tuple[ServerSample, ...]:
        return tuple(ServerSample(at_ns - start_ns, times, spread_ns) for at_ns, spread_ns, times in self.taken)

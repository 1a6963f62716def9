"""The server's own counters, sampled along a run, and their growth over the counted window.

Which window counts is known only after the run (warm-up may be cut automatically). So the counters are read at a low
rate all along, at the start, at the end and where an explicit warm-up ends; the growth is that from the first sample
within the window, so that nothing of the warm-up is in it, to the sample nearest to its end. Its counts may therefore
differ from the client's by what passes in an interval; its times for a request don't.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from perf_client.control import Control, Refused
from perf_client.profile import ServerTimes
from perf_client.record import ServerSample
from perf_client.target import Step
from perf_client.transports.base import Clock

INTERVAL_S = 0.25

_COUNTERS = tuple(name for name in ServerTimes.__struct_fields__ if name not in ("model", "version"))


def between(samples: Sequence[ServerSample], from_ns: int, to_ns: int) -> tuple[ServerTimes, ...]:
    """Growth over the window as near as the samples tell it; empty where they don't.

    Of a model with several versions those are left out that did nothing, unless none did anything.
    """
    bounds = _bounds(samples, from_ns, to_ns)
    if bounds is None:
        return ()
    first, last = bounds
    before = {(entry.model, entry.version): entry for entry in first.times}
    grown = [_growth(before.get((entry.model, entry.version)), entry) for entry in last.times]
    busy = {entry.model for entry in grown if entry.success_count or entry.fail_count}
    return tuple(entry for entry in grown if entry.model not in busy or entry.success_count or entry.fail_count)


def _bounds(samples: Sequence[ServerSample], from_ns: int, to_ns: int) -> tuple[ServerSample, ServerSample] | None:
    """Where nothing was cut the first sample is the one before the load; where no sample fits it is the nearest."""
    if not samples:
        return None
    last = min(samples, key=lambda sample: abs(sample.at_ns - to_ns))
    earlier = [sample for sample in samples if sample.at_ns < last.at_ns]
    if not earlier:
        return None
    within = [sample for sample in earlier if sample.at_ns >= from_ns]
    if from_ns <= 0 or not within:
        return min(earlier, key=lambda sample: abs(sample.at_ns - from_ns)), last
    return within[0], last


def _growth(before: ServerTimes | None, after: ServerTimes) -> ServerTimes:
    if before is None:
        return after
    # A counter that fell belongs to a model that was loaded again: what it shows is all new.
    deltas = {name: getattr(after, name) - getattr(before, name) for name in _COUNTERS}
    return after if min(deltas.values()) < 0 else msgspec.structs.replace(after, **deltas)


class StatisticsSampler:
    """Reads the counters of a model, and of the models an ensemble is made of, and keeps what it read."""

    def __init__(self, control: Control, models: Sequence[Step], clock: Clock) -> None:
        self._control = control
        self._models = models
        self._clock = clock
        self._samples: list[tuple[int, tuple[ServerTimes, ...]]] = []
        self.unmeasured = ""

    async def sample(self) -> None:
        """Take one sample. The first refusal ends the sampling and is remembered as the reason."""
        if self.unmeasured:
            return
        before_ns = self._clock()
        try:
            answers = [await self._control.statistics(entry.model, entry.version) for entry in self._models]
        except Refused as error:
            self.unmeasured = f"the server offers no statistics extension ({error})"
        except (OSError, TimeoutError) as error:
            self.unmeasured = f"the server's statistics could not be read ({str(error) or 'no answer'})"
        else:
            at_ns = (before_ns + self._clock()) // 2
            self._samples.append((at_ns, tuple(entry for answer in answers for entry in answer)))

    async def keep_sampling(self, also_at_ns: int | None) -> None:
        """Sample at the interval until cancelled, and at one more moment."""
        if also_at_ns is not None:
            while (left_s := (also_at_ns - self._clock()) / 1e9) > 0:
                await asyncio.sleep(min(left_s, INTERVAL_S))
                await self.sample()
        while not self.unmeasured:
            await asyncio.sleep(INTERVAL_S)
            await self.sample()

    def samples(self, start_ns: int) -> tuple[ServerSample, ...]:
        return tuple(ServerSample(at_ns=at_ns - start_ns, times=times) for at_ns, times in self._samples)

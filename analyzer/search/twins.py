"""Candidates that a load can't tell apart: only how large a batch may get differs, and none gets as large."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal

from analyzer.search.candidates import Slots
from analyzer.search.evidence import Level

NEAR_RATIO = 0.015
"""Loads closer than this are not worth two measurements."""

Alike = Literal["same", "about", "apart"]


class Twins:
    """Of what was measured. ``never``: other figures than speed are asked about, or the load comes in bursts."""

    def __init__(self, slots: Sequence[Slots], seen_slots: Sequence[Slots], seen: Sequence[Level], never: bool) -> None:
        self._slots = slots
        self._seen: dict[Slots, list[tuple[int, float]]] = {}
        for own, level in zip(seen_slots, seen):
            if level.eligible and not never:
                self._seen.setdefault(_beside_batches(own), []).append((own.batch_limit, level.load))

    def alike(self, row: int, load: float) -> Alike:
        """Whether a candidate at so many in flight must, or should, behave as one that was measured.

        It must where either server could take all that is in flight in one batch. It should where the instances
        share it out and their parts fit. A queue delay is waited for until a batch is full: there only the first holds,
        and where neither can be.
        """
        own = self._slots[row]
        if not self._seen:
            return "apart"
        found: Alike = "apart"
        for limit, seen_load in self._seen.get(_beside_batches(own), []):
            if abs(math.log(load / seen_load)) >= NEAR_RATIO or limit == own.batch_limit:
                continue
            most = max(load, seen_load)
            narrower = min(limit, own.batch_limit)
            if narrower > most or (narrower == most and not own.delay_us):
                return "same"
            if narrower * own.instances >= most and not own.delay_us:
                found = "about"
        return found


@lru_cache(maxsize=4096)
def _beside_batches(slots: Slots) -> Slots:
    return replace(slots, max_batch=0, batch_limit=0)

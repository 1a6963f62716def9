"""The bounds of a run as absolute times, and the schedule of an open loop cut to them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perf_client.profile import LoadProfile


@dataclass(frozen=True, slots=True)
class Window:
    """From zero of the schedule, over the end of an explicit warm-up, to the end; None where a count decides that."""

    start_ns: int
    warm_ns: int
    end_ns: int | None

    @staticmethod
    def starting_at(start_ns: int, profile: LoadProfile) -> "Window":
        warm_ns = start_ns + round((profile.warmup_s or 0.0) * 1e9)
        counted = profile.request_count is not None
        return Window(start_ns, warm_ns, None if counted else warm_ns + round(profile.duration_s * 1e9))


def scheduled_times(arrivals: Iterable[NDArray[np.int64]], window: Window, request_count: int | None) -> Iterator[int]:
    """Absolute times of the requests: up to the window's end, or so many from the end of the warm-up on."""
    left = request_count
    for block in arrivals:
        for at_ns in (block + window.start_ns).tolist():
            if window.end_ns is not None and at_ns >= window.end_ns:
                return
            if left is not None and at_ns >= window.warm_ns:
                if left == 0:
                    return
                left -= 1
            yield at_ns

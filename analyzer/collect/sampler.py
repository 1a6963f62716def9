"""Takes a reading every interval in a thread of its own, each with the time it was really taken."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Samples(Generic[T]):
    """Readings with their CLOCK_MONOTONIC times in ns, in order. Lateness shows in the times: nothing is made up."""

    def __init__(self) -> None:
        self.times_ns: list[int] = []
        self.readings: list[T] = []

    def add(self, time_ns: int, reading: T) -> None:
        self.times_ns.append(time_ns)
        self.readings.append(reading)

    def between(self, from_ns: int, to_ns: int) -> list[tuple[int, T]]:
        """Readings inside the bounds, and the last one before and first one after, so that the bounds are covered."""
        inside = [index for index, at in enumerate(self.times_ns) if from_ns <= at <= to_ns]
        first = (inside[0] if inside else sum(at < from_ns for at in self.times_ns)) - 1
        last = (inside[-1] if inside else first) + 1
        picked = range(max(0, first), min(len(self.times_ns), last + 1))
        return [(self.times_ns[index], self.readings[index]) for index in picked]


@contextmanager
def sampling(read: Callable[[], T], interval_s: float) -> Iterator[Samples[T]]:
    """Sample ``read`` from now until the context ends, once at each end too. ``read`` must not raise."""
    samples: Samples[T] = Samples()
    done = threading.Event()

    def loop() -> None:
        due = time.monotonic()
        while True:
            samples.add(time.monotonic_ns(), read())
            due = max(due + interval_s, time.monotonic())
            if done.wait(due - time.monotonic()):
                samples.add(time.monotonic_ns(), read())
                return

    thread = threading.Thread(target=loop, name="sampler", daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()

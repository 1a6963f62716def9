"""Which cores the server and which the load generator run on, so that neither takes time from the other."""

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CoreSplit:
    """Core numbers, as the system counts them. Empty: wherever the system likes."""

    server: tuple[int, ...] = ()
    client: tuple[int, ...] = ()


@contextmanager
def on_cores(cores: Collection[int]) -> Iterator[None]:
    """What this thread starts meanwhile, processes and threads, runs on these cores and stays there."""
    if not cores:
        yield
        return
    usual = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, usual)

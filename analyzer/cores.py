"""Which cores the server and which the load generator run on, so that neither takes time from the other."""

import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module


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


def import_numpy_alone() -> None:
    """Its linear algebra gets no threads in this process: they would spin on the cores that a server is measured on.

    OpenBLAS reads the variable once, when it is loaded; what is started later must not find it in its environment.
    """
    name = "OPENBLAS_NUM_THREADS"
    if "numpy" in sys.modules or name in os.environ:
        return
    os.environ[name] = "1"
    try:
        import_module("numpy")
    finally:
        del os.environ[name]

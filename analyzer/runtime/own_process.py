"""What the server asks of its own process: its stdout, its garbage collector, and to end with its parent."""

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_PR_SET_PDEATHSIG = 1


@contextmanager
def own_stdout() -> Iterator[TextIO]:
    """Stdout for the ready line alone: what models and libraries print there goes to stderr meanwhile."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "w") as stdout:
            yield stdout
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def settle_memory() -> None:
    """What was made at the start stays: the collector need not look at it again for the life of the server."""
    gc.collect()
    gc.freeze()


def end_with_parent() -> None:
    """Has the kernel send SIGTERM when the thread that started this process ends."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the request was in place
        os.kill(os.getpid(), signal.SIGTERM)

"""Recorded requests made from simulated queues, as the load generator would have recorded them."""

import numpy as np
from numpy.typing import NDArray

from perf_client.profile import Concurrency, LoadProfile, RequestRate
from perf_client.record import Columns, RunFacts

Ints = NDArray[np.int64]
NOTHING = np.empty(0, dtype=np.int64)
CLOSED = LoadProfile(model="m", load=Concurrency(in_flight=4), warmup_s=0.0)
OPEN = LoadProfile(model="m", load=RequestRate(per_second=100.0), warmup_s=0.0)


def columns(
    seen: tuple[Ints, Ints],
    *,
    lag_ns: Ints | int = 0,
    failures: dict[int, str] | None = None,
    dropped_ns: Ints = NOTHING,
) -> Columns:
    """``failures`` names the class of each failed row. The first byte comes 1 us before the last."""
    due, done = seen
    names = ("", *sorted(set((failures or {}).values())))
    code = np.zeros(len(due), dtype=np.uint8)
    for row, name in (failures or {}).items():
        code[row] = names.index(name)
    return Columns(
        scheduled_ns=due,
        sent_ns=due + lag_ns,
        first_byte_ns=done - 1000,
        last_byte_ns=done,
        failure=code,
        failure_names=names,
        dropped_ns=dropped_ns,
    )


def facts(ended_ns: int, *, cpu_ratio: float = 0.2, incomplete: bool = False) -> RunFacts:
    return RunFacts(
        start_ns=1_000,
        started_unix_ns=1_700_000_000_000_000_000,
        ended_ns=ended_ns,
        cpu_s=cpu_ratio * ended_ns / 1e9,
        wall_s=ended_ns / 1e9,
        loop_stall_max_ns=1_200_000,
        incomplete=incomplete,
        server_unmeasured="the server keeps no statistics",
    )

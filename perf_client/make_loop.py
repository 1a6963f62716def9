"""The loop that applies a kind of load, with as many slots as it may use."""

import resource
from math import ceil

from perf_client.closed_loop import ClosedLoop
from perf_client.errors import usage_error
from perf_client.loads import Concurrency, PeriodicConcurrency
from perf_client.loop import Loop
from perf_client.open_loop import OpenLoop
from perf_client.profile import LoadProfile
from perf_client.record import Recorder
from perf_client.schedule import opening_rate
from perf_client.stepped_loop import SteppedLoop
from perf_client.transports.base import Clock, Transport

_SPARE_FILES = 64
_OPENING_S = 0.02
_MOST_OPENED_FIRST = 64


def make_loop(profile: LoadProfile, transport: Transport, recorder: Recorder, clock: Clock) -> Loop:
    load = profile.load
    match load:
        case Concurrency():
            _allow_connections(load.in_flight // transport.slots_per_connection)
            return ClosedLoop(transport, recorder, clock)
        case PeriodicConcurrency():
            _allow_connections(load.end // transport.slots_per_connection)
            return SteppedLoop(transport, recorder, clock, load)
        case _:
            slots = _allow_connections(0) * transport.slots_per_connection
            if profile.sequences is not None:
                slots = min(slots, profile.sequences.parallel)
            cap = load.max_in_flight
            dropping = cap is not None and cap <= slots
            return OpenLoop(transport, recorder, clock, cap if cap is not None and dropping else slots, dropping)


def first_slots(profile: LoadProfile) -> int:
    """Connections that are there when the clock starts: all of a closed loop, 20 ms worth of an open one."""
    load = profile.load
    match load:
        case Concurrency():
            return load.in_flight
        case PeriodicConcurrency():
            return load.start
        case _:
            return min(_MOST_OPENED_FIRST, ceil(opening_rate(load) * _OPENING_S) + 1)


def _allow_connections(needed: int) -> int:
    """Raise the limit of open files as far as allowed; how many connections that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return 1 << 20
    if needed > hard - _SPARE_FILES:
        raise usage_error(f"{needed} connections are more than the limit of {hard} open files; raise it with ulimit -n")
    return max(1, hard - _SPARE_FILES)

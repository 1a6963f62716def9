"""Simulated queues in numpy: what a request generator would have seen of a server whose truth is known.

Every function gives (due, done) in ns: when each request was scheduled and when its answer came.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Seen = tuple[Ints, Ints]


def first_in_first_out(due_s: Floats, service_s: Floats) -> Seen:
    """One server, no limit on the queue. Lindley's recursion, unrolled into a running maximum."""
    work = np.cumsum(service_s)
    done_s = work + np.maximum.accumulate(due_s - (work - service_s))
    return to_ns(due_s), to_ns(done_s)


def to_ns(seconds: Floats) -> Ints:
    return np.rint(seconds * 1e9).astype(np.int64)


def poisson_due(rng: np.random.Generator, per_second: float, count: int) -> Floats:
    return np.cumsum(rng.exponential(1 / per_second, count))


def mm1(rng: np.random.Generator, load: float, count: int, service_s: float = 0.005) -> Seen:
    return first_in_first_out(poisson_due(rng, load / service_s, count), rng.exponential(service_s, count))


def md1(rng: np.random.Generator, load: float, count: int, service_s: float = 0.005) -> Seen:
    return first_in_first_out(poisson_due(rng, load / service_s, count), np.full(count, service_s))


def dd1(load: float, count: int, service_s: float = 0.005) -> Seen:
    """Even arrivals, fixed service: above a load of 1 the queue grows without a pause."""
    return first_in_first_out(np.arange(count) * service_s / load, np.full(count, service_s))


def frozen(rng: np.random.Generator, at_ratio: float, freeze_s: float, count: int, per_second: float = 50.0) -> Seen:
    """A quick server that stops once, at this part of the run."""
    due_s = np.arange(count) / per_second
    service_s = rng.normal(0.005, 0.0005, count).clip(0.001)
    service_s[int(at_ratio * count)] += freeze_s
    return first_in_first_out(due_s, service_s)


def freezing(rng: np.random.Generator, every_s: float, freeze_s: float, count: int, per_second: float = 200.0) -> Seen:
    """A server that stops again and again."""
    due_s = np.arange(count) / per_second
    service_s = rng.normal(0.002, 0.0002, count).clip(0.001)
    service_s[:: int(every_s * per_second)] += freeze_s
    return first_in_first_out(due_s, service_s)


def drifting(rng: np.random.Generator, growth_ratio: float, count: int, per_second: float = 100.0) -> Seen:
    """No queue; service gets slower by this ratio over the run."""
    due_s = np.arange(count) / per_second
    service_s = rng.lognormal(np.log(0.005), 0.2, count) * np.linspace(1.0, 1.0 + growth_ratio, count)
    return to_ns(due_s), to_ns(due_s + service_s)


def starting_up(rng: np.random.Generator, slow_ratio: float, factor: float, count: int, per_second: float) -> Seen:
    """No queue; service is ``factor`` times slower over the first part of the run."""
    due_s = np.arange(count) / per_second
    service_s = rng.lognormal(np.log(0.005), 0.2, count)
    service_s[: int(slow_ratio * count)] *= factor
    return to_ns(due_s), to_ns(due_s + service_s)


def closed_loop(rng: np.random.Generator, in_flight: int, count: int, service_s: float = 0.005) -> Seen:
    """So many callers of one exponential server; each calls again when it is answered."""
    waiting = [0.0] * in_flight
    free_s, due, done = 0.0, [], []
    for service in rng.exponential(service_s, count):
        called = waiting.pop(0)
        free_s = max(free_s, called) + float(service)
        due.append(called)
        done.append(free_s)
        waiting.append(free_s)
    return to_ns(np.array(due)), to_ns(np.array(done))

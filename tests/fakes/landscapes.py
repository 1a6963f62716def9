"""Known landscapes: an analytic server, its exact optimum, and the loop that lets a planner search it.

A batch of k takes ``(t0 + t1 * k) * (1 + a * (n - 1))`` ms on n instances; ``k = clamp(ceil(c / n), 1, B)`` at
concurrency c with max batch size B (1 without dynamic batching); ``X = 1000 * min(c, n * k) / service``, the mean
latency is ``max(service, 1000 * c / X)`` and p99 ``1.25 * mean + 0.3``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import count
from math import ceil

import numpy as np

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.measurement import Failure, HostUsage, Measurement, Outcome
from analyzer.domain.metrics import METRICS, Estimate
from analyzer.domain.run import ModelVariant, RunConfig
from analyzer.domain.space import LoadRange, ModelSpace, SearchSpace
from analyzer.search.planner import Planner
from analyzer.stats import Z95, pool
from perf_client.profile import (
    ClientCost,
    Concurrency,
    Latency,
    LoadProfile,
    LoadResult,
    Percentile,
    Rate,
    RequestRate,
)

MODEL = "synthetic"
INSTANCES = (1, 2, 3, 4, 5)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
MAX_CONCURRENCY = 1024
CONCURRENCY = LoadRange(kind="concurrency", minimum=1, maximum=MAX_CONCURRENCY)
OBJECTIVES = (Objective(metric="throughput"),)
P99_20 = (Budget(metric="p99_latency_ms", limit=20.0),)
BASE = ModelVariant(model=MODEL, instance_count=1, max_batch_size=8, dynamic_batching=False)
"""What the repository has: one instance, no dynamic batching."""


@dataclass(frozen=True, slots=True)
class Landscape:
    """``cores``: beyond so many instances the time is shared out, as on a CPU-bound host; None: no such wall.

    ``noise`` is the standard deviation of each figure, relative; with ``noise_at_s`` that of so many seconds, and
    shorter measurements have more of it. ``slot_limit``: loading fails if n * B exceeds it.
    ``delay_cost``: how much of the queue delay is added to a batch's time when a load can't fill it.
    """

    name: str
    t0: float
    t1: float
    a: float
    slot_limit: int | None = None
    cores: int | None = None
    noise: float = 0.0
    seed: int = 0
    delay_cost: float = 0.0
    noise_at_s: float | None = None

    def service_ms(self, n: int, k: int) -> float:
        shared = 1.0 if self.cores is None else max(1.0, n / self.cores)
        return (self.t0 + self.t1 * k) * (1 + self.a * (n - 1)) * shared

    def exact(
        self, n: int, max_batch: int, c: int, client_batch: int = 1, delay_ms: float = 0.0
    ) -> tuple[float, float]:
        """Throughput in infer/s and mean latency in ms."""
        k = min(max(ceil(c / n), 1), max(1, max_batch // client_batch))
        service = self.service_ms(n, k * client_batch)
        if k * client_batch < max_batch:
            service += self.delay_cost * delay_ms
        throughput = 1000 * min(c, n * k) / service
        return throughput * client_batch, max(service, 1000 * c / throughput)

    def loads(self, n: int, max_batch: int) -> bool:
        return self.slot_limit is None or n * max_batch <= self.slot_limit

    def measure(self, config: RunConfig) -> Outcome:
        n, max_batch, delay_ms = effective(config)
        if not self.loads(n, config.server.variants[0].max_batch_size or BASE.max_batch_size or 1):
            return Failure(config=config, stage="launch", reason="out of memory", measured_at=now())
        throughput, mean = self._at(config, n, max_batch, delay_ms)
        rng = np.random.default_rng([int(config.key, 16), self.seed])
        noise = self.noise * (1 if self.noise_at_s is None else (self.noise_at_s / config.load.duration_s) ** 0.5)
        seen = 1 + noise * np.clip(rng.standard_normal(2), -3, 3)
        return made_measurement(config, throughput * seen[0], mean, p99_ms(mean) * seen[1], noise)

    def _at(self, config: RunConfig, n: int, max_batch: int, delay_ms: float) -> tuple[float, float]:
        load, b = config.load.load, config.load.batch_size
        if isinstance(load, Concurrency):
            return self.exact(n, max_batch, load.in_flight, b, delay_ms)
        # Open loop: the fewest in flight that carry the rate, or a queue that grows.
        for c in range(1, 4 * n * max_batch + 1):
            throughput, mean_ms = self.exact(n, max_batch, c, b, delay_ms)
            if throughput >= load.per_second * b:
                return load.per_second * b, mean_ms
        return throughput, 10_000.0


_TICKS = count()


def now() -> str:
    """A clock that moves on with each measurement."""
    return f"2026-01-01T00:00:00.{next(_TICKS):09d}Z"


def effective(config: RunConfig) -> tuple[int, int, float]:
    """Instances, the largest batch the server can form, and the delay in ms."""
    variant = config.server.variants[0]
    batching = variant.dynamic_batching if variant.dynamic_batching is not None else BASE.dynamic_batching
    largest = (variant.max_batch_size or BASE.max_batch_size or 1) if batching else config.load.batch_size
    return variant.instance_count or BASE.instance_count or 1, largest, (variant.queue_delay_us or 0) / 1000


def p99_ms(mean_ms: float) -> float:
    return 1.25 * mean_ms + 0.3


_NAMED = {
    "batchy": Landscape("batchy", 5.0, 0.1, 0.6),
    "insty": Landscape("insty", 1.0, 4.0, 0.05),
    "mixed": Landscape("mixed", 3.0, 0.6, 0.25),
    "oom": Landscape("oom", 3.0, 0.6, 0.25, slot_limit=48),
    "cores": Landscape("cores", 3.0, 0.6, 0.02, cores=2),
    "flat": Landscape("flat", 0.3, 5.0, 0.0, cores=1),
}
NAMES = ("batchy", "insty", "mixed", "oom")


def landscape(name: str, noise: float = 0.0, seed: int = 0) -> Landscape:
    return replace(_NAMED[name], noise=noise, seed=seed)


def random_landscape(seed: int) -> Landscape:
    """One of the family: from work that only batching helps to work that only instances help."""
    rng = np.random.default_rng(seed)
    t0 = float(np.exp(rng.uniform(np.log(0.5), np.log(8.0))))
    t1 = float(np.exp(rng.uniform(np.log(0.05), np.log(4.0))))
    a = float(rng.uniform(0.0, 1.0))
    return Landscape(f"random {seed}", t0, t1, a, slot_limit=int(rng.integers(16, 640)) if rng.random() < 0.3 else None)


def space(
    instances: tuple[int, ...] = INSTANCES,
    batches: tuple[int, ...] = BATCHES,
    *,
    load: LoadRange = CONCURRENCY,
    batching: tuple[bool, ...] = (True, False),
    delays_us: tuple[int, ...] = (),
    client_batches: tuple[int, ...] = (1,),
) -> SearchSpace:
    model = ModelSpace(
        model=MODEL,
        load=load,
        instance_counts=instances,
        max_batch_sizes=batches,
        dynamic_batching=batching,
        queue_delays_us=delays_us,
    )
    return SearchSpace(models=(model,), batch_sizes=client_batches)


def load_template() -> LoadProfile:
    return LoadProfile(model=MODEL, load=Concurrency(in_flight=1))


def best_throughput(land: Landscape, limit_ms: float | None) -> float:
    """Of every configuration and every whole concurrency: the exact optimum."""
    found = 0.0
    for n in INSTANCES:
        for max_batch in BATCHES:
            if land.loads(n, max_batch):
                found = max(found, *(_kept(land, n, max_batch, c, limit_ms) for c in range(1, MAX_CONCURRENCY + 1)))
    return found


def _kept(land: Landscape, n: int, max_batch: int, c: int, limit_ms: float | None) -> float:
    throughput, mean = land.exact(n, max_batch, c)
    return throughput if limit_ms is None or p99_ms(mean) <= limit_ms else 0.0


def explore(planner: Planner, answer: Callable[[RunConfig], Outcome], at_most: int = 1000) -> list[Outcome]:
    """Ask, measure, tell, until the planner has enough or ``at_most`` points were measured."""
    outcomes: list[Outcome] = []
    while len(outcomes) < at_most and (config := planner.ask()) is not None:
        outcomes.append(answer(config))
        planner.tell(outcomes[-1])
    return outcomes


def pick(outcomes: Iterable[Outcome], limit_ms: float | None) -> Measurement | None:
    """The point to deploy: highest throughput of those whose upper bound keeps the limit, repeats pooled."""
    groups: dict[tuple[str, str, int], list[Measurement]] = {}
    for outcome in outcomes:
        if isinstance(outcome, Measurement):
            config = outcome.config
            groups.setdefault((config.server.key, repr(config.load.load), config.load.batch_size), []).append(outcome)
    best: tuple[float, Measurement] | None = None
    for group in groups.values():
        p99 = pool([read_p99(m) for m in group])
        value = float(np.mean([m.load.throughput.per_second for m in group]))
        if (limit_ms is None or (p99.high or p99.value) <= limit_ms) and (best is None or value > best[0]):
            best = (value, group[0])
    return None if best is None else best[1]


def read_p99(measurement: Measurement) -> Estimate:
    estimate = METRICS["p99_latency_ms"].read(measurement)
    assert estimate is not None
    return estimate


def true_figures(land: Landscape, config: RunConfig) -> tuple[float, float]:
    """Throughput and p99 in ms without noise."""
    n, max_batch, delay_ms = effective(config)
    throughput, mean = land._at(config, n, max_batch, delay_ms)
    return throughput, p99_ms(mean)


def made_measurement(config: RunConfig, throughput: float, mean_ms: float, p99: float, noise: float) -> Measurement:
    half = Z95 * noise
    latency = Latency(
        count=100_000,
        mean_ns=mean_ms * 1e6,
        std_ns=mean_ms * 1e5,
        min_ns=int(mean_ms * 0.8e6),
        max_ns=int(p99 * 1.2e6),
        percentiles=(
            Percentile(
                percent=99.0,
                value_ns=round(p99 * 1e6),
                low_ns=round(p99 * (1 - half) * 1e6),
                high_ns=round(p99 * (1 + half) * 1e6),
                supported=True,
            ),
        ),
    )
    overloaded = isinstance(config.load.load, RequestRate) and mean_ms >= 10_000
    return Measurement(
        config=config,
        load=LoadResult(
            profile=config.load,
            start_ns=0,
            started_unix_ns=0,
            counted_from_ns=0,
            counted_to_ns=int(config.load.duration_s * 1e9),
            request_count=100_000,
            throughput=Rate(
                per_second=float(throughput), low=float(throughput * (1 - half)), high=float(throughput * (1 + half))
            ),
            response=latency,
            service=latency,
            first_byte=None,
            verdict="overloaded" if overloaded else "steady",
            verdict_reason="synthetic",
            client=ClientCost(cpu_s=0.1, cpu_ratio=0.1, loop_stall_max_ns=0, bound=False),
        ),
        host=HostUsage(cpu_ratio=1.0, memory_peak_bytes=_memory_bytes(config), sample_count=10),
        gpus=(),
        gpus_unmeasured="synthetic",
        measured_at=now(),
        overhead_s=0.0,
    )


def _memory_bytes(config: RunConfig) -> int:
    n, max_batch, _ = effective(config)
    return (100 + n * (50 + max_batch)) * 2**20

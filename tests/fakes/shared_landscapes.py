"""Two models on one device: what one does slows the other down, and the exact optimum of both together.

Each model alone follows its landscape; its service time grows by ``1 + slowdown * u`` with the other's ``u``: the share
of the five instances that are busy (``kind`` "busy"), or its throughput alone over the most it can have alone
(``kind`` "work").
"""

from dataclasses import dataclass
from math import ceil

import msgspec
import numpy as np

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.measurement import Failure, Measurement, Outcome
from analyzer.domain.run import ModelVariant, RunConfig
from analyzer.domain.space import ModelSpace, SearchSpace
from analyzer.stats import pool
from perf_client.profile import Concurrency, LoadProfile
from tests.fakes.landscapes import (
    BATCHES,
    CONCURRENCY,
    INSTANCES,
    Landscape,
    landscape,
    made_measurement,
    now,
    p99_ms,
    random_landscape,
)

NAMES = ("A", "B")
TEMPLATES = tuple(LoadProfile(model=name, load=Concurrency(in_flight=1)) for name in NAMES)
BASES = tuple(ModelVariant(model=name, instance_count=1, max_batch_size=8, dynamic_batching=False) for name in NAMES)
OBJECTIVES = (Objective(metric="throughput"),)


@dataclass(frozen=True, slots=True)
class SharedLandscape:
    """``limits_ms`` are of the p99 of each; ``noise`` and ``noise_at_s`` as in ``Landscape``."""

    name: str
    models: tuple[Landscape, Landscape]
    slowdown: float = 1.0
    kind: str = "busy"
    limits_ms: tuple[float, float] = (20.0, 20.0)
    noise: float = 0.0
    seed: int = 0
    noise_at_s: float | None = None

    @property
    def budgets(self) -> tuple[Budget, ...]:
        return tuple(Budget(metric="p99_latency_ms", limit=ms, model=name) for name, ms in zip(NAMES, self.limits_ms))

    def most(self, place: int) -> float:
        return max(self.models[place].exact(n, 128, n * 128)[0] for n in INSTANCES)

    def activity(self, place: int, n: int, batch: int, c: int, most: float) -> float:
        return min(c, n) / max(INSTANCES) if self.kind == "busy" else self.models[place].exact(n, batch, c)[0] / most

    def figures(self, config: RunConfig) -> list[tuple[float, float]]:
        """Throughput and mean latency in ms of each, without noise."""
        at = [_effective(config, place) for place in (0, 1)]
        found = []
        for place in (0, 1):
            other = 1 - place
            slow = 1 + self.slowdown * self.activity(other, *at[other], self.most(other))
            throughput, mean = self.models[place].exact(*at[place])
            found.append((throughput / slow, mean * slow))
        return found

    def measure(self, config: RunConfig) -> Outcome:
        for place, land in enumerate(self.models):
            n, batch, _ = _effective(config, place)
            if not land.loads(n, batch):
                return Failure(config=config, stage="launch", reason="out of memory", measured_at=now())
        rng = np.random.default_rng([int(config.key, 16), self.seed])
        noise = self.noise * (1 if self.noise_at_s is None else (self.noise_at_s / config.load.duration_s) ** 0.5)
        parts: list[Measurement] = []
        for load, (throughput, mean) in zip(config.loads, self.figures(config)):
            seen = 1 + noise * np.clip(rng.standard_normal(2), -3, 3)
            alone = msgspec.structs.replace(config, load=load, beside=())
            parts.append(made_measurement(alone, throughput * seen[0], mean, p99_ms(mean) * seen[1], noise))
        return msgspec.structs.replace(parts[0], config=config, beside=(parts[1].load,))

    def best(self) -> float:
        """The largest sum of throughputs within both limits, of all instances, batches and whole concurrencies."""
        points = [self._operating_points(place) for place in (0, 1)]
        (xa, la, ua), (xb, lb, ub) = points
        slow_a, slow_b = 1 + self.slowdown * ub[None, :], 1 + self.slowdown * ua[:, None]
        kept = (p99_ms(la[:, None] * slow_a) <= self.limits_ms[0]) & (p99_ms(lb[None, :] * slow_b) <= self.limits_ms[1])
        total = xa[:, None] / slow_a + xb[None, :] / slow_b
        return float(np.where(kept, total, 0.0).max())

    def _operating_points(self, place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is worth asking for: more in flight than fill the batches only waits, and a smaller batch is a load."""
        land, most = self.models[place], self.most(place)
        found = []
        for n in INSTANCES:
            for batch in BATCHES:
                for c in range(1, n * batch + 1):
                    throughput, mean = land.exact(n, batch, c)
                    if (batch == 1 or ceil(c / n) > batch // 2) and p99_ms(mean) <= self.limits_ms[place]:
                        found.append((throughput, mean, self.activity(place, n, batch, c, most)))
        if not found:
            return np.zeros(0), np.zeros(0), np.zeros(0)
        columns = np.array(found).T
        return columns[0], columns[1], columns[2]


def _effective(config: RunConfig, place: int) -> tuple[int, int, int]:
    variant, load = config.server.variants[place], config.loads[place].load
    assert isinstance(load, Concurrency)
    batching = bool(variant.dynamic_batching)
    return variant.instance_count or 1, (variant.max_batch_size or 8) if batching else 1, load.in_flight


def shared(name: str, noise: float = 0.0, seed: int = 0) -> SharedLandscape:
    """``mixed+insty`` and such; ``/work`` at the end for the other kind of slow-down."""
    pair, _, kind = name.partition("/")
    first, second = pair.split("+")
    return SharedLandscape(name, (landscape(first), landscape(second)), kind=kind or "busy", noise=noise, seed=seed)


def random_shared(seed: int) -> SharedLandscape:
    rng = np.random.default_rng(seed)
    models = (random_landscape(2 * seed), random_landscape(2 * seed + 1))
    alone = [p99_ms(2 * land.service_ms(1, 1)) for land in models]
    limits = tuple(float(max(20.0, 2.5 * each)) for each in alone)
    kind = "busy" if rng.random() < 0.5 else "work"
    without = tuple(Landscape(land.name, land.t0, land.t1, land.a) for land in models)
    return SharedLandscape(f"random {seed} {kind}", without, float(rng.uniform(0.3, 2.0)), kind, limits)


def shared_space(batches: tuple[int, ...] = BATCHES) -> SearchSpace:
    return SearchSpace(
        models=tuple(
            ModelSpace(
                model=name,
                load=CONCURRENCY,
                instance_counts=INSTANCES,
                max_batch_sizes=batches,
                dynamic_batching=(True,),
            )
            for name in NAMES
        )
    )


def shared_pick(land: SharedLandscape, outcomes: list[Outcome]) -> tuple[float, bool]:
    """True total throughput of the point to deploy, and whether it truly keeps both limits."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for outcome in outcomes:
        if isinstance(outcome, Measurement):
            loads = repr([load.load for load in outcome.config.loads])
            groups.setdefault((outcome.config.server.key, loads), []).append(outcome)
    best: tuple[float, Measurement] | None = None
    for group in groups.values():
        figures = [pool([b.read(m) for m in group]) for b in land.budgets]
        kept = all((f.high or f.value) <= b.limit for f, b in zip(figures, land.budgets))
        value = float(np.mean([OBJECTIVES[0].read(m).value for m in group]))
        if kept and (best is None or value > best[0]):
            best = (value, group[0])
    if best is None:
        return 0.0, land.best() == 0.0
    figures = land.figures(best[1].config)
    kept = all(p99_ms(mean) <= limit for (_, mean), limit in zip(figures, land.limits_ms))
    return sum(x for x, _ in figures), kept

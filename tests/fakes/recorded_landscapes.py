"""Landscapes that were measured: the whole grid of a real model on a real machine, to be searched again and again.

``tests/data/landscapes`` has a line a point: the server, the load, and what the load generator saw of it in one short
window. Between recorded loads the logarithms are interpolated. A search sees the recorded value with a noise of its
own, and the interval that was told, which for few and large batches is far wider than repeats scatter.
"""

import csv
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from analyzer.domain.measurement import Failure, Outcome
from analyzer.domain.run import ModelVariant, RunConfig
from analyzer.domain.space import LoadRange, ModelSpace, SearchSpace
from perf_client.profile import Concurrency, LoadProfile
from tests.fakes.landscapes import MODEL, made_measurement, now

FOLDER = Path(__file__).parents[1] / "data" / "landscapes"
_Server = tuple[int, int, bool, int]
"""Instances, largest batch, dynamic batching, queue delay in microseconds."""


@dataclass(frozen=True)
class Recorded:
    """``noise`` is the standard deviation of a figure, relative, and ``window_s`` how long each point was measured."""

    name: str
    limit_ms: float
    window_s: float
    noise: float
    seed: int = 0

    @cached_property
    def _curves(self) -> dict[_Server, np.ndarray]:
        curves: dict[_Server, list[list[float]]] = {}
        with (FOLDER / f"{self.name}.csv").open() as file:
            for row in csv.DictReader(file):
                server = int(row["instances"]), int(row["max_batch"]), row["batching"] == "1", int(row["delay_us"])
                columns = ("in_flight", "throughput", "mean_ms", "p99_ms", "half_ratio")
                curves.setdefault(server, []).append([max(float(row[column]), 1e-3) for column in columns])
        return {server: np.log(np.array(sorted(rows))) for server, rows in curves.items()}

    @property
    def base(self) -> ModelVariant:
        """What the repository had: the first line's server."""
        instances, max_batch, batching, _ = next(iter(self._curves))
        return ModelVariant(model=MODEL, instance_count=instances, max_batch_size=max_batch, dynamic_batching=batching)

    @property
    def point_count(self) -> int:
        return sum(len(rows) for rows in self._curves.values())

    @property
    def space(self) -> SearchSpace:
        instances, batches, _, delays = (tuple(sorted(set(values))) for values in zip(*self._curves))
        most = max(math.exp(rows[-1][0]) for rows in self._curves.values())
        model = ModelSpace(
            model=MODEL,
            load=LoadRange(kind="concurrency", minimum=1, maximum=round(most)),
            instance_counts=instances,
            max_batch_sizes=tuple(size for size in batches if size <= 32),
            dynamic_batching=(True, False),
            queue_delays_us=delays,
        )
        return SearchSpace(models=(model,))

    @property
    def load_template(self) -> LoadProfile:
        return LoadProfile(model=MODEL, load=Concurrency(in_flight=1), duration_s=self.window_s)

    def seeded(self, seed: int) -> "Recorded":
        return replace(self, seed=seed)

    def measure(self, config: RunConfig) -> Outcome:
        figures = self.figures(config)
        if figures is None:
            return Failure(config=config, stage="launch", reason="was not recorded", measured_at=now())
        throughput, mean_ms, p99_ms, told = figures
        shorter = math.sqrt(self.window_s / config.load.duration_s)
        rng = np.random.default_rng([int(config.key, 16), self.seed])
        seen = 1 + self.noise * shorter * np.clip(rng.standard_normal(2), -3, 3)
        return made_measurement(config, throughput * seen[0], mean_ms, p99_ms * seen[1], told / 1.96 * shorter)

    def figures(self, config: RunConfig) -> tuple[float, ...] | None:
        """Throughput in infer/s, mean and p99 in ms, and the half width that was told, relative."""
        variant, load = config.server.variants[0], config.load.load
        base, largest = self.base, variant.max_batch_size
        batching = base.dynamic_batching if variant.dynamic_batching is None else variant.dynamic_batching
        rows = self._curves.get(
            (
                variant.instance_count or base.instance_count or 1,
                largest or base.max_batch_size or 1,
                bool(batching),
                (variant.queue_delay_us or 0) if batching else 0,
            )
        )
        if rows is None or not isinstance(load, Concurrency):
            return None
        at = math.log(load.in_flight)
        return tuple(float(np.exp(np.interp(at, rows[:, 0], rows[:, place]))) for place in (1, 2, 3, 4))

    @property
    def best(self) -> float:
        """The highest throughput of the grid within the limit."""
        limit = math.log(self.limit_ms)
        return max(
            float(np.exp(throughput))
            for rows in self._curves.values()
            for _, throughput, _, p99, _ in rows
            if p99 <= limit
        )


RECORDED = (
    Recorded("filetype_cpu", limit_ms=20.0, window_s=0.5, noise=0.05),
    Recorded("resnet50_cpu", limit_ms=400.0, window_s=3.0, noise=0.05),
    Recorded("resnet50_h100", limit_ms=20.0, window_s=1.0, noise=0.05),
    Recorded("resnet50_h100_padded", limit_ms=20.0, window_s=1.0, noise=0.05),
)

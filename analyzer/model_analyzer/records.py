"""What a checkpoint of Triton Model Analyzer holds, in records of our own that know nothing of its layouts.

Figures keep Model Analyzer's tags and units (ms, MB of 10**6 bytes, percent) and its numbers as they stand there, whole
or not, so that its tables can be made of them digit by digit.
"""

from collections.abc import Iterator
from typing import Any

from analyzer.domain.record import Record

Number = int | float
Figures = dict[str, Number]


class Variant(Record, frozen=True):
    """One model as it was served. ``config`` is its ``config.pbtxt`` as a mapping, with the field names used there."""

    model: str
    name: str
    config: dict[str, Any]
    cpu_only: bool = False

    @property
    def is_default(self) -> bool:
        return self.name.endswith("_config_default")

    @property
    def is_ensemble(self) -> bool:
        return self.config.get("platform") == "ensemble" or self.config.get("ensemble_scheduling") is not None

    @property
    def max_batch_size(self) -> int:
        return int(self.config.get("max_batch_size", 0))

    @property
    def instance_groups(self) -> list[dict[str, Any]]:
        """One group without anything said where the configuration has none."""
        return self.config.get("instance_group") or [{}]

    @property
    def batcher(self) -> dict[str, Any] | None:
        """The dynamic batcher's settings; None where it is off."""
        found: dict[str, Any] | None = self.config.get("dynamic_batching")
        return found


class ModelPoint(Record, frozen=True):
    """One model's part of a point: the load put on it and what the load generator saw."""

    batch_size: Number | None
    concurrency: Number | None
    request_rate: Number | None
    figures: Figures


class Point(Record, frozen=True):
    """One measurement. ``key`` is the load generator's command line; ``gpus`` are figures by device."""

    key: str
    models: tuple[ModelPoint, ...]
    gpus: dict[str, Figures]


class Configuration(Record, frozen=True):
    """All points of one server configuration of the models that ``model`` names, joined by commas."""

    model: str
    name: str
    protocol: str
    variants: tuple[Variant, ...]
    composing: tuple[Variant, ...]
    points: tuple[Point, ...]

    @property
    def shown_variants(self) -> tuple[Variant, ...]:
        """An ensemble has no instances of its own: its parts stand for it."""
        is_ensemble = any(variant.is_ensemble for variant in self.variants)
        return self.composing if is_ensemble and self.composing else self.variants

    @property
    def cpu_only(self) -> bool:
        return all(variant.cpu_only for variant in self.variants)


class Gpu(Record, frozen=True):
    name: str
    total_memory_bytes: int


class Checkpoint(Record, frozen=True):
    """``server_only`` are figures by device before any model was loaded."""

    configurations: tuple[Configuration, ...]
    server_only: dict[str, Figures]
    gpus: dict[str, Gpu]

    @property
    def models(self) -> tuple[str, ...]:
        """What was profiled, each once; models that were profiled together are one."""
        return tuple(dict.fromkeys(configuration.model for configuration in self.configurations))

    def of(self, model: str) -> tuple[Configuration, ...]:
        return tuple(configuration for configuration in self.configurations if configuration.model == model)

    @property
    def points(self) -> Iterator[Point]:
        for configuration in self.configurations:
            yield from configuration.points

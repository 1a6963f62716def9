"""The space of a search: for each model what may be changed and which load it may get, and what clients may send."""

from collections.abc import Iterator
from functools import reduce
from itertools import product
from operator import mul
from typing import Literal

from analyzer.domain.record import Record
from analyzer.domain.run import Edit, EditValue, ModelVariant, ServerConfig

LoadKind = Literal["concurrency", "request_rate", "streams"]

Shapes = tuple[tuple[str, tuple[int, ...]], ...]
"""Sizes of inputs of variable shape, without the batch, sorted by the input's name."""


class LoadRange(Record, frozen=True, omit_defaults=True):
    """What load may be asked for, bounds included. Rates are requests per second; each of the
    ``streams`` sends ``requests_each`` of them.

    ``values`` are the loads of a grid, rising and within the bounds; without them it doubles.
    """

    kind: LoadKind
    minimum: float
    maximum: float
    requests_each: float = 1.0
    values: tuple[float, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Requests in flight and streams are counted; a rate is not."""
        return self.kind != "request_rate"


class Axis(Record, frozen=True):
    """One field of ``config.pbtxt``, named as in an Edit, and the values to try."""

    path: str
    values: tuple[EditValue, ...]


class ModelSpace(Record, frozen=True, omit_defaults=True):
    """Values of each axis of one model; empty means "as the repository has it".

    ``load`` None: no requests go to the model itself, as to those that an ensemble calls. ``queue_delays_us`` and
    ``preferred_batch_sizes`` are tried with dynamic batching on; ``dynamic_batching`` false is tried without them.
    """

    model: str
    load: LoadRange | None = None
    instance_counts: tuple[int, ...] = ()
    max_batch_sizes: tuple[int, ...] = ()
    dynamic_batching: tuple[bool, ...] = ()
    queue_delays_us: tuple[int, ...] = ()
    preferred_batch_sizes: tuple[tuple[int, ...], ...] = ()
    axes: tuple[Axis, ...] = ()

    def variants(self) -> tuple[ModelVariant, ...]:
        """All variants without repetition, the default (nothing changed) first."""
        found = {ModelVariant(model=self.model): None}
        for instances, batch, batching, delay, preferred, edited in product(
            self.instance_counts or (None,),
            self.max_batch_sizes or (None,),
            self.dynamic_batching or (None,),
            self.queue_delays_us or (None,),
            self.preferred_batch_sizes or (None,),
            self._edits(),
        ):
            on = batching is not False
            variant = ModelVariant(
                model=self.model,
                instance_count=instances,
                max_batch_size=batch,
                dynamic_batching=batching,
                queue_delay_us=delay if on else None,
                preferred_batch_sizes=preferred if on else None,
                edits=tuple(edit for edit in edited if on or not edit.path.startswith("dynamic_batching")),
            )
            found[variant] = None
        return tuple(found)

    def _edits(self) -> list[tuple[Edit, ...]]:
        """Every combination of the values of ``axes``."""
        axes = sorted(self.axes, key=lambda axis: axis.path)
        each = [[Edit(path=axis.path, value=value) for value in axis.values] for axis in axes]
        return list(product(*each))


class SearchSpace(Record, frozen=True):
    """The models of one server, the first being the one that is asked about; one at least has a load.

    ``batch_sizes`` are of the client's requests, to whichever model. ``shapes`` are alternatives for the inputs of the
    first driven model.
    """

    models: tuple[ModelSpace, ...]
    batch_sizes: tuple[int, ...] = (1,)
    shapes: tuple[Shapes, ...] = ((),)

    @property
    def driven(self) -> tuple[ModelSpace, ...]:
        """The models that get requests, all at the same time."""
        return tuple(model for model in self.models if model.load is not None)

    @property
    def model(self) -> str:
        """The first driven model."""
        return self.driven[0].model

    @property
    def load(self) -> LoadRange:
        """That of the first driven model."""
        load = self.driven[0].load
        assert load is not None
        return load

    def server_configs(self) -> Iterator[ServerConfig]:
        """All server configurations without repetition, the default (nothing changed) first."""
        for variants in product(*(model.variants() for model in self.models)):
            yield ServerConfig(variants=variants)

    @property
    def server_config_count(self) -> int:
        """How many ``server_configs`` yields, without making them."""
        return reduce(mul, (len(model.variants()) for model in self.models), 1)

    @property
    def candidate_count(self) -> int:
        """Server configurations times what clients may send."""
        return self.server_config_count * len(set(self.batch_sizes)) * len(set(self.shapes))

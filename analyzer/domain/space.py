"""The space of a search: server-side axes and the range of the load, for one model."""

from itertools import product
from typing import Literal

from analyzer.domain.record import Record
from analyzer.domain.run import ModelVariant, ServerConfig

LoadKind = Literal["concurrency", "request_rate"]


class LoadRange(Record, frozen=True):
    """What load may be asked for, bounds included. Rates are requests per second."""

    kind: LoadKind
    minimum: float
    maximum: float


class SearchSpace(Record, frozen=True):
    """Values of each server-side axis and of the client batch; empty means "as the repository has it".

    ``queue_delays_us`` are tried with dynamic batching on; ``dynamic_batching`` false is tried without delay.
    """

    model: str
    load: LoadRange
    instance_counts: tuple[int, ...] = ()
    max_batch_sizes: tuple[int, ...] = ()
    dynamic_batching: tuple[bool, ...] = ()
    queue_delays_us: tuple[int, ...] = ()
    batch_sizes: tuple[int, ...] = (1,)

    def server_configs(self) -> tuple[ServerConfig, ...]:
        """All server configurations without repetition, the default (nothing changed) first."""
        found = {ServerConfig(variants=(ModelVariant(model=self.model),)): None}
        axes = (
            self.instance_counts or (None,),
            self.max_batch_sizes or (None,),
            self.dynamic_batching or (None,),
            self.queue_delays_us or (None,),
        )
        for instances, batch, batching, delay in product(*axes):
            variant = ModelVariant(
                model=self.model,
                instance_count=instances,
                max_batch_size=batch,
                dynamic_batching=batching,
                queue_delay_us=delay if batching is not False else None,
            )
            found[ServerConfig(variants=(variant,))] = None
        return tuple(found)

"""Several models that share one load: which of them each request goes to, and which of them each row is about."""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perf_client.answer_times import NOT_SAID
from perf_client.profile import ModelShare
from perf_client.record import Columns, Recorder

_BLOCK = 4096
MOST_MODELS = 255


def draws(shares: Sequence[ModelShare], seed: int) -> Iterator[int]:
    """Endless indices of models, each request's drawn for itself: so Poisson arrivals are Poisson for each model."""
    rng = np.random.default_rng([seed, len("which model")])
    weights = np.array([share.weight for share in shares])
    while True:
        yield from rng.choice(len(shares), _BLOCK, p=weights / weights.sum()).tolist()


class MixRecorder(Recorder):
    """Keeps beside each row the model that it is about.

    A request that never left was meant for no model in particular: it counts for one drawn like all others.
    """

    __slots__ = ("_draws", "_dropped_models", "_models")

    def __init__(self, drawn: Iterator[int]) -> None:
        super().__init__()
        self._draws = drawn
        self._models = bytearray()
        self._dropped_models = bytearray()

    def add(self, scheduled_ns: int, sent_ns: int, first_byte_ns: int, last_byte_ns: int, code: int) -> None:
        self.next_is_of(next(self._draws))
        super().add(scheduled_ns, sent_ns, first_byte_ns, last_byte_ns, code)

    def next_is_of(self, model: int) -> None:
        """Say which model the next row is about; ``add_known`` then records it."""
        self._models.append(model)

    add_known = Recorder.add

    def drop(self, scheduled_ns: int) -> None:
        self._dropped_models.append(next(self._draws))
        super().drop(scheduled_ns)

    def columns(self, start_ns: int) -> Columns:
        return replace(
            super().columns(start_ns),
            model=_frozen(self._models)[self.order()],
            dropped_model=_frozen(self._dropped_models),
        )


def _frozen(models: bytearray) -> NDArray[np.uint8]:
    return np.frombuffer(bytes(models), dtype=np.uint8)


class MixLane:
    """The requests of one connection, each from the pool of the model that is drawn for it."""

    def __init__(self, pools: Sequence[Iterator[Any]], drawn: Iterator[int]) -> None:
        self._pools = pools
        self._draws = drawn
        self.model = 0

    def __iter__(self) -> "MixLane":
        return self

    def __next__(self) -> Any:
        self.model = next(self._draws)
        return next(self._pools[self.model])

    def recorder(self, whole: Recorder) -> Recorder:
        assert isinstance(whole, MixRecorder)
        return _LaneRecorder(whole, self)


class _LaneRecorder(Recorder):
    """What a lane's connection records is about the model that the lane drew last: it has one request in flight."""

    __slots__ = ("_lane", "_whole")

    def __init__(self, whole: MixRecorder, lane: MixLane) -> None:
        super().__init__()
        self._whole = whole
        self._lane = lane

    def add(self, scheduled_ns: int, sent_ns: int, first_byte_ns: int, last_byte_ns: int, code: int) -> None:
        self._whole.next_is_of(self._lane.model)
        self._whole.add_known(scheduled_ns, sent_ns, first_byte_ns, last_byte_ns, code)

    def add_answers(self, times_ns: "array[int]", tokens: int = NOT_SAID) -> None:
        self._whole.add_answers(times_ns, tokens)

    def code(self, name: str, example: str = "") -> int:
        return self._whole.code(name, example)

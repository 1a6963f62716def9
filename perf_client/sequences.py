"""Requests of stateful models: which sequence each belongs to, and the marks that say so in bytes made beforehand.

A lane is a row of sequences, one after the other, on a connection of its own that has one request in flight. So the
requests of a sequence arrive in order, and none leaves before the one before it was answered. A connection that is lost
leaves its sequence behind unfinished, as a client that dies does.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, cycle
from typing import Generic, Protocol, TypeVar

import numpy as np

from perf_client.loads import Sequences
from perf_client.profile import Parameter
from perf_client.transports.http2 import GrpcRequest
from perf_client.wire import varint

DEFAULT_LENGTH = 20
PLACEHOLDER_ID = 2**62
"""Stands for the id in requests that are encoded before it is known: nineteen digits, nine bytes as a varint."""

_JSON_PLACEHOLDER = f'"sequence_id":{PLACEHOLDER_ID}'.encode()
_PROTOBUF_BEFORE = b"sequence_id\x12\x0a\x10"
_PROTOBUF_PLACEHOLDER = _PROTOBUF_BEFORE + varint(PLACEHOLDER_ID)

Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where in its sequence a request stands."""

    start: bool
    end: bool

    def parameters(self) -> dict[str, Parameter]:
        """As request parameters, named as Triton's clients name them, the id still open."""
        return {"sequence_id": PLACEHOLDER_ID, "sequence_start": self.start, "sequence_end": self.end}


MARKS = (Mark(True, False), Mark(False, False), Mark(False, True), Mark(True, True))
Step = dict[Mark, Made]
"""One request of the pool, encoded once for each mark."""


class Steps(Protocol[Made]):
    """The requests of a sequence, in order; their number is ``length`` where the data decide it."""

    length: int | None

    def __call__(self, step: int) -> dict[Mark, Made]: ...


class FromStream(Generic[Made]):
    """The entries of a stream of input data, from its first, around again for a longer sequence."""

    def __init__(self, entries: Sequence[dict[Mark, Made]]) -> None:
        self._entries = entries
        self.length: int | None = len(entries)

    def __call__(self, step: int) -> dict[Mark, Made]:
        return self._entries[step % len(self._entries)]


class FromPool(Generic[Made]):
    """Made-up data: whatever is next, so that sequences differ."""

    length: int | None = None

    def __init__(self, entries: Sequence[dict[Mark, Made]]) -> None:
        self._entries = cycle(entries)

    def __call__(self, step: int) -> dict[Mark, Made]:
        return next(self._entries)


class Lengths:
    """How many requests each sequence has: spread evenly around the asked length, never below one."""

    def __init__(self, asked: Sequences, seed: int) -> None:
        self._rng = np.random.default_rng([seed, len("sequence lengths")])
        self._asked = asked

    def draw(self, of_data: int | None) -> int:
        if self._asked.length is None and of_data is not None:
            return of_data
        length = self._asked.length or DEFAULT_LENGTH
        spread = length * self._asked.length_variation_percent / 100
        low, high = max(1, round(length - spread)), max(1, round(length + spread))
        return int(self._rng.integers(low, high + 1))


def sequence_ids(asked: Sequences) -> Iterator[int]:
    return count(asked.id_from) if asked.id_to is None else cycle(range(asked.id_from, asked.id_to))


class SequenceLane(Generic[Made]):
    """An endless iterator over the encoded requests of one sequence after the other."""

    def __init__(
        self, data: Iterator[Steps[Made]], fill: Callable[[Made, int], Made], ids: Iterator[int], lengths: Lengths
    ) -> None:
        self._data = data
        self._fill = fill
        self._ids = ids
        self._lengths = lengths
        self._steps: Steps[Made] | None = None
        self._id = self._sent = self._length = 0
        self.ending = False

    @property
    def unfinished(self) -> bool:
        """Whether a sequence has begun whose last request has not left."""
        return 0 < self._sent < self._length

    def __iter__(self) -> "SequenceLane[Made]":
        return self

    def __next__(self) -> Made:
        if self._steps is None or not self.unfinished:
            self._steps = next(self._data)
            self._id, self._length, self._sent = next(self._ids), self._lengths.draw(self._steps.length), 0
        step = self._sent
        self._sent = self._length if self.ending else step + 1
        mark = Mark(start=step == 0, end=self._sent == self._length)
        return self._fill(self._steps(step)[mark], self._id)


def fill_http(encoded: bytes, sequence_id: int) -> bytes:
    """The id in as many characters as its placeholder, so that no length changes: JSON takes spaces after a number."""
    return encoded.replace(_JSON_PLACEHOLDER, b'"sequence_id":%-19d' % sequence_id, 1)


def fill_grpc(encoded: GrpcRequest, sequence_id: int) -> GrpcRequest:
    """The id as a varint of as many bytes as its placeholder: protobuf takes ones longer than they have to be."""
    padded = bytes((sequence_id >> 7 * at) & 0x7F | 0x80 for at in range(8)) + bytes([sequence_id >> 56 & 0x7F])
    parts = list(encoded.parts)
    at = next(at for at, part in enumerate(parts) if _PROTOBUF_PLACEHOLDER in part)
    parts[at] = parts[at].replace(_PROTOBUF_PLACEHOLDER, _PROTOBUF_BEFORE + padded, 1)
    return replace(encoded, parts=tuple(parts))

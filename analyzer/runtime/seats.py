"""Sequences on the seats of a model's instances, decided purely: who sits where, who waits, whose request is next.

A sequence keeps its seat from its first request to the answer of its last one, or until it has been idle too long.
Where no seat is free it waits in a line, and so do its requests. Clocks are passed in.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

CorrelationId = int | str
_T = TypeVar("_T")
_LOST_LIMIT = 1000
"""So many lost sequences are remembered, to say why they can't go on."""


class SequenceFault(Exception):
    """A request that can't be part of a sequence; says why."""


@dataclass(frozen=True, slots=True, order=True)
class Seat:
    """``index`` is the sequence's row in the batches of its instance."""

    index: int
    instance: int


@dataclass(slots=True, eq=False)
class Sequence(Generic[_T]):
    """``requests`` wait, at most one more is being executed. ``is_open`` until the END flag was seen.

    ``has_begun`` once a request of it was given to its instance.
    """

    id: CorrelationId
    last_ns: int
    seat: Seat | None = None
    requests: deque[_T] = field(default_factory=deque)
    is_open: bool = True
    is_executing: bool = False
    has_begun: bool = False

    @property
    def is_quiet(self) -> bool:
        return not self.requests and not self.is_executing


class Seats(Generic[_T]):
    def __init__(self, model: str, instances: int, seats_each: int, idle_ns: int) -> None:
        self._model = model
        self._idle_ns = idle_ns
        # The lowest row first, so that batches stay small, and of equal rows the first instance.
        self._free = [Seat(index, instance) for index in range(seats_each) for instance in range(instances)]
        self._seated: list[dict[int, Sequence[_T]]] = [{} for _ in range(instances)]
        self._open: dict[CorrelationId, Sequence[_T]] = {}
        self._line: deque[Sequence[_T]] = deque()
        self._lost: dict[CorrelationId, None] = {}

    def arrive(self, identity: CorrelationId, request: _T, now_ns: int, *, start: bool, end: bool) -> Sequence[_T]:
        """Puts a request behind those of its sequence. Raises SequenceFault.

        START on a sequence that is open begins it anew, on the same seat, as in Triton.
        """
        if not identity:
            raise SequenceFault(
                f"inference request to model '{self._model}' must specify a non-zero or non-empty correlation ID"
            )
        sequence = self._open.get(identity)
        if sequence is None:
            if not start:
                raise SequenceFault(self._start_needed(identity, is_lost=identity in self._lost))
            self._lost.pop(identity, None)
            sequence = self._open[identity] = Sequence(identity, now_ns)
            self._line.append(sequence)
            self._seat_next()
        sequence.requests.append(request)
        sequence.last_ns = now_ns
        if end:
            sequence.is_open = False
            del self._open[identity]
        return sequence

    def seated(self, instance: int) -> dict[int, Sequence[_T]]:
        """The sequences of an instance by their row."""
        return self._seated[instance]

    def ready(self, instance: int) -> Iterator[Sequence[_T]]:
        """Those of an instance that have a request to execute."""
        return (item for item in self._seated[instance].values() if item.requests and not item.is_executing)

    def take(self, sequence: Sequence[_T]) -> _T:
        """The next request of a ready sequence, which is executed now."""
        sequence.is_executing = sequence.has_begun = True
        return sequence.requests.popleft()

    def executed(self, sequence: Sequence[_T], now_ns: int) -> None:
        """The request taken last is answered; a sequence that has ended leaves its seat to the next in line."""
        sequence.is_executing = False
        sequence.last_ns = now_ns
        self._leave_if_over(sequence)

    def lose(self, instance: int, starts: Callable[[_T], bool]) -> Iterator[tuple[_T, str]]:
        """An instance has forgotten its sequences: gives the requests that can't go on, and why.

        A sequence that has not begun, or begins anew with a request that waits, goes on from there.
        """
        for sequence in list(self._seated[instance].values()):
            if not sequence.has_begun:
                continue
            while sequence.requests and not starts(sequence.requests[0]):
                yield sequence.requests.popleft(), self._start_needed(sequence.id, is_lost=True)
            if sequence.requests:
                sequence.has_begun = False
            elif sequence.is_open:
                sequence.is_open = False
                del self._open[sequence.id]
                self._remember_lost(sequence.id)
            self._leave_if_over(sequence)

    def _remember_lost(self, identity: CorrelationId) -> None:
        if len(self._lost) >= _LOST_LIMIT:
            del self._lost[next(iter(self._lost))]
        self._lost[identity] = None

    def _start_needed(self, identity: CorrelationId, *, is_lost: bool) -> str:
        text = (
            f"inference request for sequence {identity} to model '{self._model}' must specify the START flag on the "
            "first request of the sequence"
        )
        if is_lost:
            text += "; what the model knew of this sequence was lost with the process of its instance"
        return text

    def expire(self, now_ns: int) -> int | None:
        """Ends the sequences that have been idle too long. Gives the time to call again, None where none is idle."""
        next_ns: int | None = None
        for sequence in list(self._open.values()):
            if not sequence.is_quiet:
                continue
            due_ns = sequence.last_ns + self._idle_ns
            if due_ns <= now_ns:
                sequence.is_open = False
                del self._open[sequence.id]
                self._leave_if_over(sequence)
            else:
                next_ns = due_ns if next_ns is None else min(next_ns, due_ns)
        return next_ns

    def abandon(self) -> Iterator[_T]:
        """Every request that waits, which nobody will execute any more."""
        everyone = [*self._line, *(item for seated in self._seated for item in seated.values())]
        for sequence in everyone:
            while sequence.requests:
                yield sequence.requests.popleft()

    def _leave_if_over(self, sequence: Sequence[_T]) -> None:
        if sequence.is_open or not sequence.is_quiet or sequence.seat is None:
            return
        seat, sequence.seat = sequence.seat, None
        del self._seated[seat.instance][seat.index]
        heapq.heappush(self._free, seat)
        self._seat_next()

    def _seat_next(self) -> None:
        while self._line and self._free:
            sequence = self._line.popleft()
            seat = sequence.seat = heapq.heappop(self._free)
            self._seated[seat.instance][seat.index] = sequence


@dataclass(frozen=True, slots=True)
class DirectPolicy:
    """When a direct batch leaves: at once, or at ``utilization`` of the seats, or after the delay of its oldest."""

    seats: int
    max_delay_ns: int = 0
    utilization: float = 0.0

    def wait_until_ns(self, ready: int, oldest_ns: int, now_ns: int) -> int | None:
        """When to look again; None to send now."""
        due_ns = oldest_ns + self.max_delay_ns
        return due_ns if self.max_delay_ns and ready / self.seats < self.utilization and now_ns < due_ns else None

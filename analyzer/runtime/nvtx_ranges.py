"""Spans as NVTX ranges, live, while a tool such as Nsight Systems listens; nothing at all while none does.

A domain for each model, a category for each stage, the number of rows as payload. Batches and their stages are ranges
of the thread that launches the work, as tools project kernels on the ranges of the thread that launched them; requests
and queueing, which cross threads, are start/end ranges.
"""

from collections.abc import Sequence
from typing import Any, Protocol

STAGES = ("compute_input", "compute_infer", "compute_output")


class Correlator(Protocol):
    """Tells a GPU tracer which batch the calling thread launches work for."""

    def push(self, number: int) -> None: ...

    def pop(self) -> None: ...


class Domain(Protocol):
    """What is used of ``nvtx.Domain``."""

    def get_event_attributes(self, message: str, *, category: str, payload: int) -> Any: ...

    def push_range(self, attributes: Any) -> object: ...

    def pop_range(self) -> object: ...

    def start_range(self, attributes: Any) -> int: ...

    def end_range(self, range_id: int) -> object: ...


class Ranges:
    """The ranges of one model. Attributes are made once for each stage and number of rows."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._made: dict[tuple[str, int], Any] = {}
        self.pop = domain.pop_range
        self.end = domain.end_range

    def push(self, stage: str, rows: int) -> None:
        self._domain.push_range(self._attributes(stage, rows))

    def start(self, stage: str, rows: int) -> int:
        return self._domain.start_range(self._attributes(stage, rows))

    def open_request(self, rows: int) -> tuple[int, int]:
        """The range of a request, and that of its stay in the queue."""
        return self.start("request", rows), self.start("queue", rows)

    def _attributes(self, stage: str, rows: int) -> Any:
        made = self._made.get((stage, rows))
        if made is None:
            made = self._domain.get_event_attributes(stage, category=stage, payload=rows)
            self._made[stage, rows] = made
        return made


class BatchWatch:
    """Told on the instance's thread how far a batch is. ``waiting`` are the queue ranges of its requests."""

    __slots__ = ("_correlator", "_number", "_ranges", "_rows", "_stage", "_waiting")

    def __init__(
        self, ranges: Ranges | None, correlator: Correlator | None, number: int, rows: int, *, waiting: Sequence[int]
    ) -> None:
        self._ranges = ranges
        self._correlator = correlator
        self._number = number
        self._rows = rows
        self._waiting = waiting
        self._stage = -1

    def begin(self) -> None:
        self._stage = 0
        if self._ranges is not None:
            self.close()
            self._ranges.push("batch", self._rows)
            self._ranges.push(STAGES[0], self._rows)
        if self._correlator is not None:
            self._correlator.push(self._number)

    def next_stage(self) -> None:
        self._stage += 1
        if self._ranges is not None and 0 < self._stage < len(STAGES):
            self._ranges.pop()
            self._ranges.push(STAGES[self._stage], self._rows)

    def end(self) -> None:
        if self._correlator is not None:
            self._correlator.pop()
        if self._ranges is not None:
            self._ranges.pop()
            self._ranges.pop()

    def close(self) -> None:
        """Ends the queue ranges, where that was not done yet: an instance in a process of its own does not."""
        waiting, self._waiting = self._waiting, ()
        if self._ranges is not None:
            for opened in waiting:
                self._ranges.end(opened)


def open_ranges(model: str) -> Ranges | None:
    """None where no tool listens: then the package gives a dummy."""
    import nvtx

    domain = nvtx.get_domain(model)
    return None if "Dummy" in type(domain).__name__ else Ranges(domain)

"""Where each request's time went, in a ring: a row for each request, batch and step of an ensemble.

Rows are written when what they tell of has ended, from stamps that the runtime takes anyway, on the event loop's thread
only. Times are CLOCK_MONOTONIC in ns, which the load generator uses too. While a tool listens the same spans are NVTX
ranges, live (see ``nvtx_ranges``); a GPU tracer gets each batch's number on the thread that launches its kernels.
"""

import json
import time
from collections.abc import Callable, Sequence
from enum import IntEnum
from itertools import count
from pathlib import Path
from struct import Struct
from time import monotonic_ns

import numpy as np
import numpy.typing as npt

from analyzer.runtime.answered import Answered
from analyzer.runtime.backends.base import Answers, Execution, Worker
from analyzer.runtime.nvtx_ranges import BatchWatch, Correlator, Ranges, open_ranges
from analyzer.runtime.request import InferRequest
from analyzer.runtime.servable import Job

FORMAT_VERSION = 1
COLUMNS = ("kind", "model", "id", "link", "step", "worker", "t0_ns", "t1_ns", "t2_ns", "t3_ns", "rows", "failed")
"""
REQUEST  link: its batch; step: of the ensemble that made it; t0 arrival, t1 queued, t2 execution begins, t3 answered.
         One that is not executed, or is an ensemble's, has t1 or t2 of 0.
BATCH    worker: the instance; t0 begins, t1 inputs there, t2 computed, t3 ends; ``failed`` counts requests.
STEP     link: the ensemble's request; model: the composing model; t0 begins, t3 ends.
Ids are unique in a process, over all kinds; 0 is none.
"""
DEFAULT_ROWS = 2**17

_ROW = Struct(f"={len(COLUMNS)}q")


class Row(IntEnum):
    """Numbers of the column ``kind``: they stand in files."""

    REQUEST = 1
    BATCH = 2
    STEP = 3


_REQUEST, _BATCH, _STEP = map(int, Row)  # plain numbers are read faster
_GIVEN = dict, Answered  # the types of answers that are no failures


class Spans:
    """The ring. When it is full the oldest rows are overwritten, and counted."""

    def __init__(self, size: int = DEFAULT_ROWS) -> None:
        self.is_on = False
        self.correlator: Correlator | None = None
        self.next_id: Callable[[], int] = count(1).__next__
        self._size = size
        self._rows = bytearray(size * _ROW.size)  # memory is taken as it is first written
        self._count = 0
        self._models: dict[tuple[str, str], int] = {}
        self._workers: dict[Worker, int] = {}
        self._utc_offsets_ns: list[int] = []

    def model(self, name: str, version: str) -> "ModelSpans":
        """What a model version writes by."""
        return ModelSpans(self, self.model_id(name, version), open_ranges(name))

    def model_id(self, name: str, version: str) -> int:
        return self._models.setdefault((name, version), len(self._models))

    def start(self) -> None:
        """Begins a window: what an earlier one left is forgotten."""
        self._count = 0
        self._utc_offsets_ns = [_utc_offset_ns()]
        self.is_on = True

    def stop(self) -> None:
        self.is_on = False
        self._utc_offsets_ns.append(_utc_offset_ns())

    @property
    def written(self) -> int:
        return self._count

    @property
    def dropped(self) -> int:
        return max(0, self._count - self._size)

    def write(self, *row: int) -> None:
        _ROW.pack_into(self._rows, self._count % self._size * _ROW.size, *row)
        self._count += 1

    def worker_id(self, worker: Worker) -> int:
        number = self._workers.get(worker)
        if number is None:
            number = self._workers[worker] = len(self._workers)
        return number

    def rows(self) -> npt.NDArray[np.int64]:
        """A copy of what the ring holds, oldest first, one column of ``COLUMNS`` each."""
        held = min(self._count, self._size)
        table = np.frombuffer(self._rows, np.int64).reshape(-1, len(COLUMNS))[:held]
        return np.roll(table, -(self._count % self._size), axis=0) if self.dropped else table.copy()

    def header(self) -> dict[str, object]:
        """What a reader needs besides the rows, as plain JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "columns": COLUMNS,
            "models": [list(key) for key in self._models],
            "workers": [list(worker) for worker in self._workers],
            "utc_offsets_ns": self._utc_offsets_ns,
            "written": self._count,
            "dropped": self.dropped,
        }


def save(path: Path, rows: npt.NDArray[np.int64], header: dict[str, object]) -> None:
    """Write a window to a file of NumPy's format; the header is JSON in an array of bytes."""
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez(file, rows=rows, header=text)


class ModelSpans:
    """Writes the rows of one model version. Who calls it looks at ``ring.is_on`` first, so that off costs nothing."""

    def __init__(self, ring: Spans, number: int, ranges: Ranges | None) -> None:
        self.ring = ring
        self.number = number
        self.ranges = ranges

    def queued(self, job: Job) -> None:
        """A request is queued: its ranges open where a tool listens."""
        if self.ranges is not None:
            job.ranges = self.ranges.open_request(job.rows)

    def sent(self, jobs: Sequence[Job], execution: Execution) -> None:
        """A batch goes to an instance: it gets its number, and who listens will be told on the instance's thread."""
        ring = self.ring
        execution.number = ring.next_id()
        if self.ranges is not None or ring.correlator is not None:
            waiting = [job.ranges[1] for job in jobs if job.ranges is not None]
            execution.watch = BatchWatch(
                self.ranges, ring.correlator, execution.number, sum(execution.rows), waiting=waiting
            )

    def executed(self, jobs: Sequence[Job], execution: Execution, answers: Answers) -> None:
        """A batch is done: its row and those of its requests."""
        now_ns, ring, start_ns = monotonic_ns(), self.ring, execution.start_ns
        self.batch(execution, sum(type(answer) not in _GIVEN for answer in answers))
        number, mine, write, next_id = execution.number, self.number, ring.write, ring.next_id
        for job, answer in zip(jobs, answers):
            request = job.request
            write(
                _REQUEST, mine, next_id(), number, request.step, -1, request.arrival_ns, job.queued_ns, start_ns,
                now_ns, job.rows, type(answer) not in _GIVEN,
            )  # fmt: skip
            if job.ranges is not None:
                self._close(job)

    def batch(self, execution: Execution, failed: int) -> None:
        """The row of an execution alone."""
        ring = self.ring
        if not execution.number:  # sent before the window began
            execution.number = ring.next_id()
        if execution.watch is not None:
            execution.watch.close()
        ring.write(
            _BATCH, self.number, execution.number, len(execution.requests), 0, ring.worker_id(execution.worker),
            execution.start_ns, execution.input_end_ns, execution.infer_end_ns, execution.end_ns, sum(execution.rows),
            failed,
        )  # fmt: skip

    def streamed(self, job: Job, execution: Execution, failed: bool) -> None:
        """The last answer of a decoupled model's request is out."""
        request = job.request
        self.ring.write(
            _REQUEST, self.number, self.ring.next_id(), execution.number, request.step, -1, request.arrival_ns,
            job.queued_ns, execution.start_ns, monotonic_ns(), job.rows, failed,
        )  # fmt: skip
        self._close(job)

    def refused(self, job: Job) -> None:
        """A request leaves the queue without an execution."""
        request = job.request
        self.ring.write(
            _REQUEST, self.number, self.ring.next_id(), 0, request.step, -1, request.arrival_ns, job.queued_ns, 0,
            monotonic_ns(), job.rows, 1,
        )  # fmt: skip
        if job.ranges is not None and self.ranges is not None:
            self.ranges.end(job.ranges[1])
        self._close(job)

    def _close(self, job: Job) -> None:
        if job.ranges is not None and self.ranges is not None:
            self.ranges.end(job.ranges[0])
            job.ranges = None


class RunSpans:
    """One request on its way through an ensemble: each step's row as it ends, the request's own at last."""

    def __init__(self, spans: ModelSpans, request: InferRequest, rows: int) -> None:
        self._spans = spans
        self._ring = spans.ring
        self._number = spans.ring.next_id()
        self._request = request
        self._rows = rows
        self._steps: dict[int, tuple[int, int]] = {}  # the model and the begin of those that run
        self._ranges: dict[int, int] = {}
        if spans.ranges is not None:
            self._ranges[0] = spans.ranges.start("request", rows)

    def begin(self, model: str, version: str, request: InferRequest) -> None:
        """Gives the request of a step the step's number."""
        request.step = number = self._ring.next_id()
        self._steps[number] = self._ring.model_id(model, version), request.arrival_ns
        if self._spans.ranges is not None:
            self._ranges[number] = self._spans.ranges.start(model, self._rows)

    def end(self, request: InferRequest, failed: bool) -> None:
        model, began_ns = self._steps.pop(request.step)
        now_ns = monotonic_ns()
        self._ring.write(_STEP, model, request.step, self._number, 0, -1, began_ns, 0, 0, now_ns, self._rows, failed)
        self._end_range(request.step)

    def close(self, failed: bool) -> None:
        """The request is about to be answered."""
        request, now_ns = self._request, monotonic_ns()
        for number, (model, began_ns) in self._steps.items():  # those whose model refused the request
            self._ring.write(_STEP, model, number, self._number, 0, -1, began_ns, 0, 0, now_ns, self._rows, 1)
            self._end_range(number)
        self._ring.write(
            _REQUEST, self._spans.number, self._number, 0, request.step, -1, request.arrival_ns, 0, 0, now_ns,
            self._rows, failed,
        )  # fmt: skip
        self._end_range(0)

    def _end_range(self, number: int) -> None:
        if self._spans.ranges is not None and number in self._ranges:
            self._spans.ranges.end(self._ranges.pop(number))


def _utc_offset_ns() -> int:
    """Wall time minus monotonic time now."""
    return time.time_ns() - time.monotonic_ns()

"""Every request of a run as rows of nanoseconds: filled while the load runs, then frozen into numpy columns.

Rows are never objects: 33 bytes a request, the older ones in a file, so that nothing is left for the garbage collector
and hours of load fit. All times are CLOCK_MONOTONIC relative to the schedule's zero.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from struct import Struct
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from perf_client.answer_times import NOT_SAID, AnswerLog, AnswerTimes
from perf_client.errors import data_error
from perf_client.profile import ServerTimes
from perf_client.row_store import STEP, RowStore, in_order

FORMAT_VERSION = 1
"""Version of the ``.npz`` file. 1: first."""

NEVER = -1
"""Stands in ``sent_ns`` and ``first_byte_ns`` of a request that failed before it got that far."""

NOT_SENT = "not sent in time"
"""The failure class of requests that the load generator was too slow for."""

OK = 0
"""Failure code of a request that was answered."""

_MAX_CLASSES = 255
_OVERFLOW = "other"

_ROW = Struct("<4qB")
_PACK = _ROW.pack
_ROW_TYPE = np.dtype(
    [
        ("scheduled_ns", "<i8"),
        ("sent_ns", "<i8"),
        ("first_byte_ns", "<i8"),
        ("last_byte_ns", "<i8"),
        ("failure", "u1"),
    ]
)


_ONE_MODEL = np.empty(0, dtype=np.uint8)
"""Stands in a file for rows that are all about the same model."""

_ONE_ANSWER = np.empty(0, dtype=np.int64)
"""Stands in a file for requests that have one answer each, whose time is ``last_byte_ns``."""


@dataclass(frozen=True, slots=True)
class Columns:
    """All finished requests, ordered by scheduled time; entry i of each array is the same request.

    ``last_byte_ns`` of a failed request is when it was given up. ``failure`` is an index into ``failure_names``, whose
    entry 0 is the empty string and means answered. ``dropped_ns`` holds the scheduled times of requests that were
    never sent because the in-flight cap was reached; they are in no other column. Where several models share the load,
    ``model`` and ``dropped_model`` are indices into the profile's ``mix``; None otherwise. ``answers`` is there where
    a request may have several.
    """

    scheduled_ns: NDArray[np.int64]
    sent_ns: NDArray[np.int64]
    first_byte_ns: NDArray[np.int64]
    last_byte_ns: NDArray[np.int64]
    failure: NDArray[np.uint8]
    failure_names: tuple[str, ...]
    dropped_ns: NDArray[np.int64]
    model: NDArray[np.uint8] | None = None
    dropped_model: NDArray[np.uint8] | None = None
    answers: AnswerTimes | None = None

    def __len__(self) -> int:
        return len(self.scheduled_ns)

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            np.savez(
                file,
                format_version=np.int64(FORMAT_VERSION),
                scheduled_ns=self.scheduled_ns,
                sent_ns=self.sent_ns,
                first_byte_ns=self.first_byte_ns,
                last_byte_ns=self.last_byte_ns,
                failure=self.failure,
                failure_names=np.array(self.failure_names, dtype=np.str_),
                dropped_ns=self.dropped_ns,
                model=_ONE_MODEL if self.model is None else self.model,
                dropped_model=_ONE_MODEL if self.dropped_model is None else self.dropped_model,
                answer_count=_ONE_ANSWER if self.answers is None else self.answers.count,
                answer_tokens=_ONE_ANSWER if self.answers is None else self.answers.tokens,
                answer_ns=_ONE_ANSWER if self.answers is None else self.answers.at_ns,
            )

    @staticmethod
    def load(path: Path) -> "Columns":
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
                if int(data["format_version"]) != FORMAT_VERSION:
                    raise data_error(f"{path}: format version {int(data['format_version'])}, not {FORMAT_VERSION}")
                return Columns(
                    scheduled_ns=data["scheduled_ns"],
                    sent_ns=data["sent_ns"],
                    first_byte_ns=data["first_byte_ns"],
                    last_byte_ns=data["last_byte_ns"],
                    failure=data["failure"],
                    failure_names=tuple(str(name) for name in data["failure_names"]),
                    dropped_ns=data["dropped_ns"],
                    model=(model := _of_models(data, "model")),
                    dropped_model=None if model is None else _of_models(data, "dropped_model"),
                    answers=_answers(data),
                )
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise data_error(f"{path} is not a file of recorded requests: {error}") from None


def _of_models(data: Mapping[str, NDArray[Any]], name: str) -> NDArray[np.uint8] | None:
    found = data.get(name, _ONE_MODEL)
    return found if len(found) or (name == "dropped_model" and name in data) else None


def _answers(data: Mapping[str, NDArray[Any]]) -> AnswerTimes | None:
    count, tokens, at_ns = (data.get(f"answer_{name}", _ONE_ANSWER) for name in ("count", "tokens", "ns"))
    return AnswerTimes(count, tokens, at_ns) if len(count) else None


@dataclass(frozen=True, slots=True)
class ServerSample:
    """The server's own cumulative counters at one moment: the driven model first, then an ensemble's models."""

    at_ns: int
    times: tuple[ServerTimes, ...]
    spread_ns: int = 0
    """They were read within this time before or after ``at_ns``."""


@dataclass(frozen=True, slots=True)
class MetricsSample:
    """The server's Prometheus page at one moment, cut down to the families that were asked for."""

    at_ns: int
    page: bytes


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What is known about a run beside its requests.

    ``ended_ns`` (relative) is the end of the schedule: nothing is scheduled after it, though answers may still come;
    for an interrupted run it is the moment of the interruption. ``cpu_s`` and ``wall_s`` cover zero to ``ended_ns``.
    ``failure_examples`` holds the first message that came with each failure class. ``busiest_cpu_ratio`` is that of the
    busiest process where several shared the load. ``waited_for_slot`` counts requests
    of an open loop that were due while all its slots were taken, so that they left late by no fault of the client.
    """

    start_ns: int
    started_unix_ns: int
    ended_ns: int
    cpu_s: float
    wall_s: float
    loop_stall_max_ns: int
    incomplete: bool = False
    incomplete_reason: str = ""
    server: tuple[ServerSample, ...] = ()
    server_unmeasured: str = ""
    metrics: tuple[MetricsSample, ...] = ()
    metrics_unmeasured: str = ""
    failure_examples: dict[str, str] = field(default_factory=dict)
    waited_for_slot: int = 0
    busiest_cpu_ratio: float | None = None


class Recorder:
    """Grows the rows while the load runs. ``add`` is the one call on the hot path."""

    __slots__ = ("_answers", "_dropped", "_names", "_rows", "_store", "examples")

    def __init__(self) -> None:
        self._store = RowStore()
        self._rows = self._store.recent
        self._answers: AnswerLog | None = None
        self._dropped = array("q")
        self._names: list[str] = [""]
        self.examples: dict[str, str] = {}

    def __len__(self) -> int:
        return self._store.size_bytes // _ROW.size

    def spill(self) -> None:
        """To be called from time to time: rows that fill a block leave the memory."""
        self._store.spill()

    @property
    def dropped_count(self) -> int:
        return len(self._dropped)

    def add(self, scheduled_ns: int, sent_ns: int, first_byte_ns: int, last_byte_ns: int, code: int) -> None:
        """Record one finished request in absolute CLOCK_MONOTONIC times."""
        # Packing costs 0.14 us; five array.append calls cost 0.34 us, array.extend of a tuple 0.37 us.
        self._rows += _PACK(scheduled_ns, sent_ns, first_byte_ns, last_byte_ns, code)

    def add_answers(self, times_ns: "array[int]", tokens: int = NOT_SAID) -> None:
        """When the answers came of the request that is added next; for requests that may have several."""
        if self._answers is None:
            self._answers = AnswerLog()
        self._answers.add(len(self), times_ns, tokens)

    def code(self, name: str, example: str = "") -> int:
        """The code of a failure class, made on first use. Classes beyond what a byte can hold share one."""
        if example:
            self.examples.setdefault(name, example)
        if name in self._names:
            return self._names.index(name)
        if len(self._names) >= _MAX_CLASSES:
            return _MAX_CLASSES
        self._names.append(name)
        if len(self._names) == _MAX_CLASSES:
            self._names.append(_OVERFLOW)
        return self._names.index(name)

    def drop(self, scheduled_ns: int) -> None:
        self._dropped.append(scheduled_ns)

    def order(self) -> NDArray[np.intp]:
        """Of the rows as they were recorded, by due time."""
        return np.argsort(np.ascontiguousarray(self._frozen()["scheduled_ns"]), kind="stable")

    def _frozen(self) -> NDArray[np.void]:
        return self._store.rows(_ROW_TYPE)

    def columns(self, start_ns: int) -> Columns:
        """Freeze what was recorded, times made relative to ``start_ns``."""
        rows, order = self._frozen(), self.order()

        def relative(name: str) -> NDArray[np.int64]:
            times = in_order(rows[name], order)
            for part in np.array_split(times, range(STEP, len(times), STEP)):
                part[part != NEVER] -= start_ns
            return times

        return Columns(
            scheduled_ns=relative("scheduled_ns"),
            sent_ns=relative("sent_ns"),
            first_byte_ns=relative("first_byte_ns"),
            last_byte_ns=relative("last_byte_ns"),
            failure=in_order(rows["failure"], order),
            failure_names=tuple(self._names),
            dropped_ns=np.array(self._dropped, dtype=np.int64) - start_ns,
            answers=None if self._answers is None else self._answers.frozen(len(rows), start_ns).reordered(order),
        )

"""The one event table: every collector and importer makes a Timeline, every analysis, rule and exporter reads one.

Columns, not objects: a million events are a few large arrays. Times are integer nanoseconds of one clock; an absent
value is -1. Rows are in order of their start; of those that start together the longest comes first, so that a range
precedes what it holds.
"""

from dataclasses import dataclass, field, fields
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from analyzer.domain.record import Record
from analyzer.timeline.kinds import GPU_KINDS, Kind, Relation

Column = npt.NDArray[Any]
Ns = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]

ABSENT = -1


@dataclass(frozen=True, slots=True)
class Events:
    """One array a column, all of one length. ``parent`` is a row; ``name_id`` and ``model_id`` index the names.

    ``correlation`` joins calls with device work and is unique within a process. ``size`` is the rows of a request or a
    batch, or the number a range carries. ``block_count`` is of a kernel's grid, ``thread_count`` of one block.
    ``end_thread`` is set where a span ends on another thread than it began.
    """

    kind: Column
    name_id: Column
    start_ns: Ns
    end_ns: Ns
    process: Column
    thread: Column
    device: Column
    stream: Column
    correlation: Column
    model_id: Column
    instance: Column
    request: Column
    batch: Column
    step: Column
    bytes: Column
    copy_kind: Column
    src_kind: Column
    dst_kind: Column
    parent: Column
    size: Column
    block_count: Column
    thread_count: Column
    end_thread: Column

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def duration_ns(self) -> Ns:
        return self.end_ns - self.start_ns


DTYPES: dict[str, npt.DTypeLike] = {
    **{each.name: np.int64 for each in fields(Events)},
    **dict.fromkeys(("kind", "copy_kind", "src_kind", "dst_kind"), np.int8),
    "thread_count": np.int16,
    **dict.fromkeys(
        ("name_id", "model_id", "process", "thread", "end_thread", "device", "stream", "instance", "parent"), np.int32
    ),
    **dict.fromkeys(("size", "block_count"), np.int32),
}
"""Type of each column: 102 bytes an event in all."""


@dataclass(frozen=True, slots=True)
class Edges:
    """Which requests made a batch, which batch a step: many to many, so not a column of the events."""

    relation: Column
    source: Column
    target: Column

    def __len__(self) -> int:
        return len(self.relation)

    def of(self, relation: Relation) -> tuple[Column, Column]:
        chosen = self.relation == relation
        return self.source[chosen], self.target[chosen]


def empty_edges() -> Edges:
    return Edges(np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64))


class Series(Record, frozen=True):
    """One counter. ``unit`` as written behind a value; ``device`` and ``process`` are -1 where they don't apply."""

    name: str
    unit: str = ""
    device: int = ABSENT
    process: int = ABSENT


@dataclass(frozen=True, slots=True)
class Counters:
    """Samples of all counters, in order of time; ``series_id`` indexes ``series``."""

    series: tuple[Series, ...]
    series_id: Column
    time_ns: Ns
    value: Column


def empty_counters() -> Counters:
    return Counters((), np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0, np.float64))


class Track(Record, frozen=True):
    """A name for a process (neither thread nor stream), a thread, or a device's stream."""

    name: str
    process: int = ABSENT
    thread: int = ABSENT
    device: int = ABSENT
    stream: int = ABSENT


class Device(Record, frozen=True):
    """A GPU. None is "the capture does not say"."""

    id: int
    name: str
    uuid: str = ""
    memory_bytes: int | None = None
    sm_count: int | None = None
    compute_capability: tuple[int, int] | None = None


class Anchor(Record, frozen=True):
    """Another clock: its time is a time of this table plus ``offset_ns``. ``residual_ns`` bounds the error of that."""

    clock: str
    offset_ns: int
    residual_ns: int | None = None


class Meta(Record, frozen=True):
    """Where the events come from. ``partial``: events are known to be missing; ``dropped`` counts them by kind.

    ``collected`` names the kinds that were looked for: with none of a kind that is listed there were none.
    """

    producer: str
    producer_version: str = ""
    schema_version: str = ""
    collected: tuple[str, ...] = ()
    partial: bool = False
    dropped: dict[str, int] = msgspec.field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timeline:
    """Everything that is known of one capture. Build one with ``builder.TimelineBuilder``, which puts rows in order."""

    events: Events
    names: tuple[str, ...]
    meta: Meta
    tracks: tuple[Track, ...] = ()
    devices: tuple[Device, ...] = ()
    anchors: tuple[Anchor, ...] = ()
    edges: Edges = field(default_factory=empty_edges)
    counters: Counters = field(default_factory=empty_counters)

    def __len__(self) -> int:
        return len(self.events)

    def rows(self, *kinds: Kind) -> Rows:
        """Rows of these kinds, in order of their start."""
        if len(kinds) == 1:
            return np.flatnonzero(self.events.kind == kinds[0])
        return np.flatnonzero(np.isin(self.events.kind, [int(kind) for kind in kinds]))

    def name(self, row: int) -> str:
        return self.names[int(self.events.name_id[row])]

    def model(self, row: int) -> str:
        """The model an event belongs to; empty where it is not known."""
        model_id = int(self.events.model_id[row])
        return "" if model_id < 0 else self.names[model_id]

    def collected(self, kind: Kind) -> bool:
        """Whether events of this kind were looked for, or are there."""
        return kind.name.lower() in self.meta.collected or bool((self.events.kind == kind).any())

    @property
    def has_gpu_activity(self) -> bool:
        return bool(np.isin(self.events.kind, [int(kind) for kind in GPU_KINDS]).any())

    @property
    def start_ns(self) -> int:
        return int(self.events.start_ns[0]) if len(self) else 0

    @property
    def end_ns(self) -> int:
        return int(self.events.end_ns.max()) if len(self) else 0

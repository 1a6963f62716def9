"""The one event table: every collector and importer makes a Timeline, every analysis, rule and exporter reads one.

Columns, not objects: a million events are a few large arrays. Times are integer nanoseconds of one clock; an absent
value is -1. Rows are in order of their start; of those that start together the longest comes first, so that a range
precedes what it holds.
"""

from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from analyzer.domain.record import Record

Column = npt.NDArray[Any]
Ns = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp]

ABSENT = -1


class Kind(IntEnum):
    """What an event is. Numbers are written to files: add at the end, never renumber."""

    RANGE = 0
    """A range that nests on its thread (NVTX push/pop)."""
    SPAN = 1
    """A range that may overlap others and end on another thread (NVTX start/end)."""
    MARK = 2
    API = 3
    """A call of the CUDA runtime or driver on the host."""
    SYNC = 4
    """A wait of the host for the device, as the device's tracer tells it."""
    KERNEL = 5
    MEMCPY = 6
    MEMSET = 7
    GRAPH = 8
    """One launch of a CUDA graph that was traced as a whole."""
    OS_CALL = 9
    OVERHEAD = 10
    """The profiler's own work."""
    CLIENT_REQUEST = 11
    """A request as the load generator saw it: from its sending to its last answer."""
    REQUEST = 12
    """A request as the server saw it, from its arrival to its answer."""
    BATCH = 13
    """One execution on an instance, for one request or many."""
    STEP = 14
    """One step of an ensemble, for one request."""
    STAGE = 15
    """A part of a request or batch, by name: queue, compute_input, compute_infer, compute_output."""
    OPERATOR = 16
    """An operator or node of a model on the host (PyTorch, ONNX Runtime)."""


GPU_KINDS = (Kind.KERNEL, Kind.MEMCPY, Kind.MEMSET, Kind.GRAPH)
"""What keeps a device's queues at work."""
COPY_KINDS = (Kind.MEMCPY, Kind.MEMSET)
COMPUTE_KINDS = (Kind.KERNEL, Kind.GRAPH)


class CopyKind(IntEnum):
    """Direction of a copy: CUPTI's numbers."""

    UNKNOWN = 0
    HOST_TO_DEVICE = 1
    DEVICE_TO_HOST = 2
    HOST_TO_ARRAY = 3
    ARRAY_TO_HOST = 4
    ARRAY_TO_ARRAY = 5
    ARRAY_TO_DEVICE = 6
    DEVICE_TO_ARRAY = 7
    DEVICE_TO_DEVICE = 8
    HOST_TO_HOST = 9
    PEER_TO_PEER = 10
    UNIFIED_HOST_TO_DEVICE = 11
    UNIFIED_DEVICE_TO_HOST = 12
    UNIFIED_DEVICE_TO_DEVICE = 13


COPY_NAMES = {
    CopyKind.UNKNOWN: "Unknown",
    CopyKind.HOST_TO_DEVICE: "Host-to-Device",
    CopyKind.DEVICE_TO_HOST: "Device-to-Host",
    CopyKind.HOST_TO_ARRAY: "Host-to-Array",
    CopyKind.ARRAY_TO_HOST: "Array-to-Host",
    CopyKind.ARRAY_TO_ARRAY: "Array-to-Array",
    CopyKind.ARRAY_TO_DEVICE: "Array-to-Device",
    CopyKind.DEVICE_TO_ARRAY: "Device-to-Array",
    CopyKind.DEVICE_TO_DEVICE: "Device-to-Device",
    CopyKind.HOST_TO_HOST: "Host-to-Host",
    CopyKind.PEER_TO_PEER: "Peer-to-Peer",
    CopyKind.UNIFIED_HOST_TO_DEVICE: "Unified Host-to-Device",
    CopyKind.UNIFIED_DEVICE_TO_HOST: "Unified Device-to-Host",
    CopyKind.UNIFIED_DEVICE_TO_DEVICE: "Unified Device-to-Device",
}
MEMSET_NAME = "[CUDA memset]"


def copy_name(kind: int) -> str:
    """The name of a copy's events, as Nsight Systems writes it."""
    return f"[CUDA memcpy {COPY_NAMES.get(CopyKind(kind) if kind in COPY_NAMES else CopyKind.UNKNOWN)}]"


SYNC_NAMES = {1: "Event sync", 2: "Stream wait sync", 3: "Stream sync", 4: "Context sync"}
"""Names of SYNC events by CUPTI's numbers. A stream that waits for an event does not block the host."""


class MemoryKind(IntEnum):
    """Where a copy's source or destination lies: the numbers of Nsight Systems."""

    PAGEABLE = 0
    PINNED = 1
    DEVICE = 2
    ARRAY = 3
    MANAGED = 4
    DEVICE_STATIC = 5
    MANAGED_STATIC = 6
    UNKNOWN = 7


class Relation(IntEnum):
    """What an edge says of its two ids."""

    REQUEST_BATCH = 0
    BATCH_STEP = 1
    REQUEST_STEP = 2
    REQUEST_CHILD = 3
    """A request made on behalf of another, as an ensemble does for its steps."""


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

"""Copies by direction and by the memory at both ends: how many, how large, how long, and how much of it was hidden."""

import numpy as np

from analyzer.domain.record import Record
from analyzer.timeline.analyses.busy import active, device_rows
from analyzer.timeline.intervals import subtract
from analyzer.timeline.kinds import COMPUTE_KINDS, COPY_NAMES, CopyKind, Kind, MemoryKind
from analyzer.timeline.table import Rows, Timeline


class CopyCell(Record, frozen=True):
    """Copies of one direction between two kinds of memory on one device.

    ``busy_ns`` is their union, ``exposed_ns`` the part of that in which no kernel ran on the device.
    """

    device: int
    direction: str
    source: str
    destination: str
    count: int
    bytes: int
    total_ns: int
    busy_ns: int
    exposed_ns: int
    is_pageable: bool

    @property
    def bytes_per_s(self) -> float:
        return self.bytes * 1e9 / self.total_ns if self.total_ns else 0.0


def copy_matrix(timeline: Timeline) -> tuple[CopyCell, ...]:
    """One cell for each device, direction and pair of memory kinds that occurs, the longest first."""
    events = timeline.events
    rows = timeline.rows(Kind.MEMCPY)
    if not len(rows):
        return ()
    columns = (events.device, events.copy_kind, events.src_kind, events.dst_kind)
    keys = np.stack([column[rows].astype(np.int64) for column in columns], axis=1)
    groups, place = np.unique(keys, axis=0, return_inverse=True)
    cells = [_cell(timeline, rows[place.reshape(-1) == number], key) for number, key in enumerate(groups.tolist())]
    return tuple(sorted(cells, key=lambda cell: (-cell.total_ns, cell.direction, cell.source)))


def _cell(timeline: Timeline, rows: Rows, key: list[int]) -> CopyCell:
    device, copy, source, destination = key
    copying = active(timeline, rows)
    kernels = active(timeline, device_rows(timeline, device, *COMPUTE_KINDS))
    sizes = timeline.events.bytes[rows]
    return CopyCell(
        device=device,
        direction=COPY_NAMES[CopyKind(copy)] if copy in COPY_NAMES else COPY_NAMES[CopyKind.UNKNOWN],
        source=memory_name(source),
        destination=memory_name(destination),
        count=len(rows),
        bytes=int(sizes[sizes >= 0].sum()),
        total_ns=int(timeline.events.duration_ns[rows].sum()),
        busy_ns=copying.total_ns,
        exposed_ns=subtract(copying, kernels).total_ns,
        is_pageable=MemoryKind.PAGEABLE in (source, destination),
    )


def memory_name(kind: int) -> str:
    """The kind of memory in words; one that is not known says so, since it may be pageable."""
    known = kind in MemoryKind.__members__.values()
    return MemoryKind(kind).name.lower().replace("_", " ") if known else "unknown"

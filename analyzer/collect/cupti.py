"""The file of the runtime's CUPTI tracer to events: device work and calls, each with the batch it was done for."""

import json
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from analyzer.errors import ChildError
from analyzer.runtime.gpu_trace import FORMAT_VERSION
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kernel_names import demangled
from analyzer.timeline.kinds import MEMSET_NAME, SYNC_NAMES, Kind, MemoryKind, copy_name
from analyzer.timeline.table import ABSENT, Column, Device

Rows = npt.NDArray[np.int64]
COLLECTED = ("kernel", "memcpy", "memset", "api", "sync")
_KINDS = {
    "CONCURRENT_KERNEL": Kind.KERNEL,
    "MEMCPY": Kind.MEMCPY,
    "MEMCPY2": Kind.MEMCPY,
    "MEMSET": Kind.MEMSET,
    "RUNTIME": Kind.API,
    "DRIVER": Kind.API,
    "SYNCHRONIZATION": Kind.SYNC,
}
_MEMORY = np.array(
    [
        MemoryKind.UNKNOWN, MemoryKind.PAGEABLE, MemoryKind.PINNED, MemoryKind.DEVICE, MemoryKind.ARRAY,
        MemoryKind.MANAGED, MemoryKind.DEVICE_STATIC, MemoryKind.MANAGED_STATIC,
    ]
)  # fmt: skip
"""By CUPTI's number, which is another than Nsight's."""


_UNREADABLE = (
    OSError, EOFError, KeyError, ValueError, IndexError, TypeError, zipfile.BadZipFile, msgspec.MsgspecError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a batch ran: its model (an id of the timeline's names), its instance, and the thread, by the system."""

    model_id: int
    instance: int
    thread: int = ABSENT


@dataclass(frozen=True, slots=True)
class GpuFile:
    """``clock_residual_ns`` bounds the error of the device's times on our clock."""

    columns: dict[str, Column]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    batches: Rows
    dropped: int
    warnings: tuple[str, ...]
    devices: tuple[Device, ...]
    clock_residual_ns: int


def read_gpu(path: Path) -> GpuFile:
    """Times are put on the monotonic clock. Raises ChildError where the file is not what the runtime writes."""
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            header: dict[str, Any] = json.loads(file["header"].tobytes())
            if header["format_version"] != FORMAT_VERSION:
                raise ChildError(
                    f"the GPU trace of the runtime is of format {header['format_version']}; use one version"
                )
            columns: dict[str, Column] = {name: file[name] for name in header["columns"]}
            marks = file["marks"]
        (there, here, width), (there_end, here_end, width_end) = header["anchors"]
        for name in ("start_ns", "end_ns"):
            columns[name] = _on_our_clock(columns[name], (there, here), (there_end, here_end))
        return GpuFile(
            columns=columns,
            names=tuple(header["names"]),
            kinds=tuple(header["kinds"]),
            batches=_batches(columns["correlation"], marks),
            dropped=header["dropped"],
            warnings=tuple(header["warnings"]),
            devices=msgspec.convert(header["devices"], tuple[Device, ...]),
            clock_residual_ns=max(width, width_end),
        )
    except _UNREADABLE as error:
        raise ChildError(f"the GPU trace of the runtime can't be read: {error}") from error


def _on_our_clock(times: Rows, first: tuple[int, int], last: tuple[int, int]) -> Rows:
    """By the line through two moments at which both clocks were read; integers to the ns."""
    span = last[0] - first[0]
    drift = (last[1] - first[1]) - span
    if span <= 0:
        return times - first[0] + first[1]
    since = times - first[0]
    return np.asarray(first[1] + since + np.rint(since * (drift / span)).astype(np.int64), np.int64)


def _batches(correlation: Rows, marks: Rows) -> Rows:
    """The batch of each row by its correlation id; ABSENT where no mark was set."""
    if not len(marks):
        return np.full(len(correlation), ABSENT, np.int64)
    ordered = marks[np.argsort(marks[:, 0], kind="stable")]
    place = np.minimum(np.searchsorted(ordered[:, 0], correlation), len(ordered) - 1)
    return np.where(ordered[place, 0] == correlation, ordered[place, 1], ABSENT)


def add_gpu(build: TimelineBuilder, gpu: GpuFile, batches: dict[int, Placed], process: int) -> None:
    """Adds everything. ``batches`` says where each batch ran."""
    nowhere = Placed(ABSENT, ABSENT)
    gpu = replace(gpu, columns={**gpu.columns, "thread": _threads(gpu, batches)})
    distinct, inverse = np.unique(gpu.batches, return_inverse=True)
    placed = [batches.get(number, nowhere) for number in distinct.tolist()]
    model = np.array([each.model_id for each in placed], np.int64)[inverse]
    instance = np.array([each.instance for each in placed], np.int64)[inverse]
    for place, name in enumerate(gpu.kinds):
        rows = np.flatnonzero(gpu.columns["kind"] == place)
        if len(rows):
            _add_kind(build, gpu, rows, _KINDS[name], (model[rows], instance[rows], process))


def _threads(gpu: GpuFile, batches: dict[int, Placed]) -> Rows:
    """CUPTI numbers threads as pthreads does: the system's number is that of the batches that a thread launched."""
    threads: Rows = gpu.columns["thread"].astype(np.int64)
    for thread in np.unique(threads[threads >= 0]).tolist():
        mine = threads == thread
        numbers, counts = np.unique(gpu.batches[mine], return_counts=True)
        tally: dict[int, int] = {}
        for number, count in zip(numbers.tolist(), counts.tolist()):
            if number in batches and batches[number].thread >= 0:
                tally[batches[number].thread] = tally.get(batches[number].thread, 0) + count
        if tally:
            threads[mine] = max(tally, key=lambda each: tally[each])
    return threads


def _add_kind(
    build: TimelineBuilder, gpu: GpuFile, rows: npt.NDArray[np.intp], kind: Kind, owner: tuple[Rows, Rows, int]
) -> None:
    of = {name: column[rows] for name, column in gpu.columns.items()}
    model, instance, process = owner
    columns: dict[str, npt.ArrayLike] = {
        name: of[name]
        for name in ("device", "stream", "correlation", "bytes", "block_count", "thread_count", "thread", "copy_kind")
    }
    for side in ("src_kind", "dst_kind"):
        known = np.clip(of[side], 0, len(_MEMORY) - 1)
        columns[side] = np.where(of[side] >= 0, _MEMORY[known], ABSENT)
    build.add(
        kind, of["start_ns"], of["end_ns"], _names(build, gpu, of, kind),
        process=process, model_id=model, instance=instance, batch=gpu.batches[rows], **columns,
    )  # fmt: skip


def _names(build: TimelineBuilder, gpu: GpuFile, of: dict[str, Column], kind: Kind) -> npt.ArrayLike:
    if kind is Kind.MEMSET:
        return build.name_id(MEMSET_NAME)
    column = of["copy_kind"] if kind is Kind.MEMCPY else of["name_id"]
    distinct, inverse = np.unique(column, return_inverse=True)
    return build.name_ids(_text(gpu, kind, number) for number in distinct.tolist())[inverse]


def _text(gpu: GpuFile, kind: Kind, number: int) -> str:
    if kind is Kind.MEMCPY:
        return copy_name(number)
    text = gpu.names[number]
    if kind is Kind.SYNC:
        return SYNC_NAMES.get(int(text), "sync")
    return demangled(text) if kind is Kind.KERNEL else text

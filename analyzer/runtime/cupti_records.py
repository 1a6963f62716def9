"""CUPTI's buffers of activity records to columns, many records at a time.

A record begins with its kind; its length is fixed by its kind and by the version of the library, which is asked for it
(``strides``). Newer versions only add fields behind those that are read here: the layouts hold from CUPTI 12.6 to 13.3.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]
Words = npt.NDArray[np.uint64]
"""A buffer: records lie at multiples of 8 bytes."""

ABSENT = -1
WORD_BYTES = 8


class ActivityKind(IntEnum):
    """CUPTI's numbers of what is read."""

    MEMCPY = 1
    MEMSET = 2
    DRIVER = 4
    RUNTIME = 5
    CONCURRENT_KERNEL = 10
    MEMCPY2 = 22
    SYNCHRONIZATION = 38
    EXTERNAL_CORRELATION = 39


CALLS = (ActivityKind.RUNTIME, ActivityKind.DRIVER)
KINDS = (
    ActivityKind.CONCURRENT_KERNEL, ActivityKind.MEMCPY, ActivityKind.MEMCPY2, ActivityKind.MEMSET,
    ActivityKind.RUNTIME, ActivityKind.DRIVER, ActivityKind.SYNCHRONIZATION,
)  # fmt: skip
"""What becomes a row; a row's kind is its place here. EXTERNAL_CORRELATION is kept apart."""


def _layout(extent_bytes: int, **fields: tuple[int, str]) -> np.dtype[np.void]:
    """The fields that are read, by offset and type, of a record whose first ``extent_bytes`` are looked at."""
    offsets, formats = zip(*fields.values())
    return np.dtype(
        {"names": list(fields), "formats": list(formats), "offsets": list(offsets), "itemsize": extent_bytes}
    )


_TIMES = {"start": (16, "<u8"), "end": (24, "<u8")}
_COPY = {
    "copy_kind": (4, "u1"), "src_kind": (5, "u1"), "dst_kind": (6, "u1"), "bytes": (8, "<u8"), **_TIMES,
    "device_id": (32, "<u4"), "stream_id": (40, "<u4"),
}  # fmt: skip
_CALL = _layout(
    40, cbid=(4, "<u4"), start=(8, "<u8"), end=(16, "<u8"), thread_id=(28, "<u4"), correlation_id=(32, "<u4")
)
LAYOUTS: dict[int, np.dtype[np.void]] = {
    ActivityKind.CONCURRENT_KERNEL: _layout(
        112, **_TIMES, device_id=(40, "<u4"), stream_id=(48, "<u4"), grid_x=(52, "<i4"), grid_y=(56, "<i4"),
        grid_z=(60, "<i4"), block_x=(64, "<i4"), block_y=(68, "<i4"), block_z=(72, "<i4"), correlation_id=(92, "<u4"),
        name=(104, "<i8"),
    ),
    ActivityKind.MEMCPY: _layout(48, **_COPY, correlation_id=(44, "<u4")),
    ActivityKind.MEMCPY2: _layout(64, **_COPY, correlation_id=(60, "<u4")),
    ActivityKind.MEMSET: _layout(
        48, bytes=(8, "<u8"), **_TIMES, device_id=(32, "<u4"), stream_id=(40, "<u4"), correlation_id=(44, "<u4")
    ),
    ActivityKind.RUNTIME: _CALL,
    ActivityKind.DRIVER: _CALL,
    ActivityKind.SYNCHRONIZATION: _layout(
        40, type=(4, "<i4"), start=(8, "<u8"), end=(16, "<u8"), correlation_id=(24, "<u4"), stream_id=(32, "<u4")
    ),
    ActivityKind.EXTERNAL_CORRELATION: _layout(
        24, external_kind=(4, "<i4"), external_id=(8, "<u8"), correlation_id=(16, "<u4")
    ),
}  # fmt: skip
"""By CUPTI's header: where each field lies."""

COLUMNS: dict[str, npt.DTypeLike] = {
    "kind": np.int8, "start_ns": np.int64, "end_ns": np.int64, "name_id": np.int32, "device": np.int32,
    "stream": np.int32, "correlation": np.int64, "bytes": np.int64, "copy_kind": np.int8, "src_kind": np.int8,
    "dst_kind": np.int8, "block_count": np.int32, "thread_count": np.int16, "thread": np.int32,
}  # fmt: skip
"""58 bytes a row."""
_NAME = "name"
"""Stands for ``name_id`` until names are known: a kernel's pointer, a call's number, a wait's type."""
_MOST = {np.int16: np.iinfo(np.int16).max, np.int32: np.iinfo(np.int32).max}

Named = Callable[[ActivityKind, int], str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """``mark_kind``: whose external ids are ours. ``calls``: which functions to keep, all of a kind that is absent."""

    mark_kind: int
    calls: dict[ActivityKind, npt.NDArray[np.int64]]
    most_records: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """Rows in the order of their kinds, and marks: pairs of a correlation id and a batch.

    ``cut_count`` buffers ended within a record or with one that nothing can be said of. ``untimed_count`` records had
    no times; ``excess_count`` were beyond the limit.
    """

    columns: dict[str, Column]
    names: tuple[str, ...]
    marks: Column
    cut_count: int = 0
    untimed_count: int = 0
    excess_count: int = 0

    def __len__(self) -> int:
        return len(self.columns["kind"])


def decode(buffers: Iterator[Words], stride_bytes: Callable[[int], int], wanted: Wanted, named: Named) -> Decoded:
    """``stride_bytes`` tells a kind's length, 0 where it is not known. A buffer is let go before the next is taken."""
    strides: dict[int, int] = {}
    chunks: dict[ActivityKind, list[dict[str, Column]]] = {kind: [] for kind in KINDS}
    marks: list[Column] = []
    cut = untimed = excess = count = 0
    for buffer in buffers:
        found, is_cut = _places(buffer, strides, stride_bytes)
        cut += is_cut
        for kind, places in found.items():
            if kind not in LAYOUTS or not places:
                continue
            records = _gather(buffer, LAYOUTS[kind], places)
            if kind == ActivityKind.EXTERNAL_CORRELATION:
                marks.append(_marks(records, wanted.mark_kind))
                continue
            records = _kept_calls(records, ActivityKind(kind), wanted)
            timed = records[records["start"] != 0]
            kept = timed[: max(0, wanted.most_records - count)]
            untimed += len(records) - len(timed)
            excess += len(timed) - len(kept)
            count += len(kept)
            chunks[ActivityKind(kind)].append(_columns(ActivityKind(kind), kept))
    columns, names = _whole(_without_nested(chunks), named)
    return Decoded(columns, names, _distinct(marks), cut, untimed, excess)


def _places(
    buffer: Words, strides: dict[int, int], stride_bytes: Callable[[int], int]
) -> tuple[dict[int, list[int]], bool]:
    """The words at which records begin, by kind, and whether something behind them can't be read."""
    words = memoryview(buffer.data).cast("B").cast("I")
    found: dict[int, list[int]] = {}
    place, end = 0, len(words)
    steps = {kind: stride // 4 for kind, stride in strides.items()}
    while place < end:
        kind = words[place]
        step = steps.get(kind)
        if step is None:
            strides[kind] = stride = _checked(kind, stride_bytes(kind))
            step = steps[kind] = stride // 4
        if not step or place + step > end:
            return found, True
        if kind in found:
            found[kind].append(place)
        else:
            found[kind] = [place]
        place += step
    return found, False


def _checked(kind: int, stride: int) -> int:
    """A length that can't be is as good as none."""
    extent = LAYOUTS[kind].itemsize if kind in LAYOUTS else WORD_BYTES
    return stride if stride >= extent and stride % WORD_BYTES == 0 else 0


def _gather(buffer: Words, layout: np.dtype[np.void], places: list[int]) -> Column:
    """The records at these places, by a view that has one beginning at every word."""
    count = len(buffer) - layout.itemsize // WORD_BYTES + 1
    every: Column = np.ndarray((count,), layout, buffer, 0, (WORD_BYTES,))
    return every[np.asarray(places, np.int64) // 2]


def _kept_calls(records: Column, kind: ActivityKind, wanted: Wanted) -> Column:
    if kind not in wanted.calls:
        return records
    kept: Column = records[np.isin(records["cbid"], wanted.calls[kind])]
    return kept


def _marks(records: Column, mark_kind: int) -> Column:
    mine = records[records["external_kind"] == mark_kind]
    pairs: Column = np.stack([mine["correlation_id"].astype(np.int64), mine["external_id"].astype(np.int64)], axis=1)
    return pairs


def _distinct(marks: list[Column]) -> Column:
    """In order of the correlation ids: a call and the call of the driver that it makes have the same mark."""
    if not marks:
        return np.zeros((0, 2), np.int64)
    whole = np.concatenate(marks)
    _, first = np.unique(whole[:, 0], return_index=True)
    return whole[first]


def _columns(kind: ActivityKind, records: Column) -> dict[str, Column]:
    names = records.dtype.names or ()
    of = {name: records[name] for name in names}
    columns = {"start_ns": of["start"], "end_ns": of["end"], "correlation": of["correlation_id"]}
    columns |= {name: of[name] for name in ("bytes", "copy_kind", "src_kind", "dst_kind") if name in of}
    if "device_id" in of:
        columns["device"] = of["device_id"]
    if "stream_id" in of:
        columns["stream"] = of["stream_id"].view(np.int32)  # ids that are all ones stand for none
    if "thread_id" in of:
        columns["thread"] = of["thread_id"] & 0x7FFFFFFF  # half of a pthread's address: no id of the kernel's
    if kind == ActivityKind.CONCURRENT_KERNEL:
        columns["block_count"] = _product(of, "grid")
        columns["thread_count"] = _product(of, "block")
    columns[_NAME] = next(
        (of[name] for name in ("name", "cbid", "type") if name in of), np.zeros(len(records), np.int8)
    )
    return {name: _narrow(name, column) for name, column in columns.items()}


def _product(of: dict[str, Column], what: str) -> Column:
    product: Column = of[f"{what}_x"].astype(np.int64) * of[f"{what}_y"] * of[f"{what}_z"]
    return product


def _narrow(name: str, column: Column) -> Column:
    dtype = COLUMNS.get(name, np.int64)
    most = _MOST.get(dtype)  # type: ignore[arg-type]  # the types of COLUMNS are classes
    return (column if most is None else np.minimum(column, most)).astype(dtype)


def _without_nested(chunks: dict[ActivityKind, list[dict[str, Column]]]) -> dict[ActivityKind, list[dict[str, Column]]]:
    """A call of the runtime makes calls of the driver under its own correlation id: one call, told twice."""
    runtime = [chunk["correlation"] for chunk in chunks[ActivityKind.RUNTIME]]
    if runtime:
        told = np.concatenate(runtime)
        for chunk in chunks[ActivityKind.DRIVER]:
            own = ~np.isin(chunk["correlation"], told)
            chunk.update({name: column[own] for name, column in chunk.items()})
    return chunks


def _whole(
    chunks: dict[ActivityKind, list[dict[str, Column]]], named: Named
) -> tuple[dict[str, Column], tuple[str, ...]]:
    """One array a column. Names are made once for each pointer or number."""
    lengths = {kind: sum(len(chunk["start_ns"]) for chunk in each) for kind, each in chunks.items()}
    total = sum(lengths.values())
    ids: dict[str, int] = {}
    whole: dict[str, Column] = {}
    for name, dtype in COLUMNS.items():
        column = whole[name] = np.full(total, ABSENT, dtype)
        first = 0
        for place, kind in enumerate(KINDS):
            part = column[first : first + lengths[kind]]
            first += lengths[kind]
            if name == "kind":
                part[:] = place
            elif name == "name_id":
                _name_ids(part, kind, [chunk.pop(_NAME) for chunk in chunks[kind]], (named, ids))
            elif chunks[kind] and name in chunks[kind][0]:
                np.concatenate([chunk.pop(name) for chunk in chunks[kind]], out=part)
    return whole, tuple(ids)


def _name_ids(part: Column, kind: ActivityKind, raw: Iterable[Column], names: tuple[Named, dict[str, int]]) -> None:
    named, ids = names
    columns = list(raw)
    if not columns:
        return
    distinct, inverse = np.unique(np.concatenate(columns), return_inverse=True)
    texts = [named(kind, number) for number in distinct.tolist()]
    known = np.array([ids.setdefault(text, len(ids)) for text in texts], np.int32)
    part[:] = known[inverse] if len(known) else part

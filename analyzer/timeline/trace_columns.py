"""Trace events to columns of the event table: what names and ids mean is worked out once, not for every event."""

from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Generic, TypeVar

import numpy as np

from analyzer.timeline.chrome_json import EventArgs, TraceEvent, small_id
from analyzer.timeline.kinds import Kind
from analyzer.timeline.kineto_names import product
from analyzer.timeline.table import ABSENT, DTYPES, Column, Ns

K = TypeVar("K")
NumberedName = tuple[Kind, int, tuple[int, int, int]]
"""Kind, name and, of a copy, direction and the memory on both sides."""
_NOTHING = EventArgs()
_NAME_COLUMNS = ("kind", "name_id", "copy_kind", "src_kind", "dst_kind")
_ARGUMENTS = ("correlation", "bytes", "output_size", "instance", "request", "batch", "step", "size")
_PLACES = ("process", "device", "stream")
_numbers = attrgetter(*_ARGUMENTS, *_PLACES)
_meaning = attrgetter("ph", "cat", "name")
_origin = attrgetter("pid", "tid")
_shape = attrgetter("model", "grid", "block")
_DTYPES = {**DTYPES, "output_size": np.int64, "pid": np.int32}
FIRST_NAMED_THREAD = 1 << 24
"""Ids that are no thread ids of the system, such as names, get numbers from here on."""


class _Known(dict[K, int]):
    """Numbers of things that are looked up by the million and worked out once each."""

    def __init__(self, work_out: Callable[[K], int]) -> None:
        super().__init__()
        self._work_out = work_out

    def __missing__(self, key: K) -> int:
        found = self[key] = self._work_out(key)
        return found


class _Table(Generic[K]):
    """Columns by one key for all of them: of a million events few differ in it."""

    def __init__(self, names: Sequence[str], work_out: Callable[[K], tuple[int, ...]]) -> None:
        self._names = names
        self._work_out = work_out
        self._rows: list[tuple[int, ...]] = []
        self._places = _Known(self._add)

    def _add(self, key: K) -> int:
        self._rows.append(self._work_out(key))
        return len(self._rows) - 1

    def columns(self, keys: Iterable[K], count: int) -> dict[str, Column]:
        places = np.fromiter(map(self._places.__getitem__, keys), np.int64, count)
        table = np.array(self._rows, np.int64).reshape(-1, len(self._names))
        return {name: table[places, column] for column, name in enumerate(self._names)}


class TraceColumns:
    """Collects events of a trace as blocks of columns; ``joined`` puts the blocks together.

    ``told`` says what a phase, category and name mean, and None of what is to be left.
    """

    def __init__(
        self,
        told: Callable[[str, str | None, str | None], NumberedName | None],
        name_id: Callable[[str], int],
    ) -> None:
        self._told = told
        self._meanings = array("q")
        self._codes = _Known(self._code)
        self._threads: dict[object, int] = {}
        self._name_id = name_id
        self._origins: _Table[tuple[object, object]] = _Table(
            ("pid", "thread"), lambda key: (small_id(key[0]), self.thread(key[1]))
        )
        self._shapes = _Table(("model_id", "block_count", "thread_count"), self._shape)
        self._parts: dict[str, list[Column]] = {}

    def _code(self, key: tuple[str, str | None, str | None]) -> int:
        kind, name_id, copies = self._told(*key) or (ABSENT, ABSENT, (ABSENT, ABSENT, ABSENT))
        self._meanings.extend((ord(key[0]) if len(key[0]) == 1 else 0, kind, name_id, *copies))
        return len(self._codes)

    def codes(self, events: Sequence[TraceEvent]) -> tuple[Column, Column, Column]:
        """Of each event a number for what it is, its phase as a character code, and its kind or -1."""
        codes = np.fromiter(map(self._codes.__getitem__, map(_meaning, events)), np.int64, len(events))
        told = self._table()[codes, :2]
        return codes, told[:, 0], told[:, 1]

    def _table(self) -> Column:
        return np.frombuffer(self._meanings, np.int64).reshape(-1, 1 + len(_NAME_COLUMNS))

    def thread(self, tid: object) -> int:
        if tid is None:
            return ABSENT
        number = small_id(tid)
        if 0 <= number < FIRST_NAMED_THREAD:
            return number
        return self._threads.setdefault(tid, FIRST_NAMED_THREAD + len(self._threads))

    def add(self, events: Sequence[TraceEvent], codes: Column, start_ns: Ns, end_ns: Ns) -> None:
        """Add events that all have a meaning."""
        if not len(events):
            return
        meanings = self._table()[codes]
        found: dict[str, Column] = {name: meanings[:, place] for place, name in enumerate(_NAME_COLUMNS, 1)}
        found |= {"start_ns": start_ns, "end_ns": end_ns}
        args = [event.args or _NOTHING for event in events]
        names = (*_ARGUMENTS, *_PLACES)
        cells = np.fromiter(chain.from_iterable(map(_numbers, args)), np.int64, len(args) * len(names))
        table = cells.reshape(-1, len(names))
        found |= {name: table[:, place] for place, name in enumerate(names)}
        found |= self._shapes.columns(map(_shape, args), len(args))
        found |= self._origins.columns(map(_origin, events), len(args))
        for name, column in found.items():
            self._parts.setdefault(name, []).append(column.astype(_DTYPES[name]))

    def _shape(self, key: tuple[str, tuple[int, ...], tuple[int, ...]]) -> tuple[int, ...]:
        model, grid, block = key
        return (self._name_id(model) if model else ABSENT, product(grid, 2**31 - 1), product(block, 2**15 - 1))

    def joined(self) -> dict[str, Column]:
        """All blocks as one, and no more kept here. Beside the table's columns ``pid``."""
        names = list(self._parts)
        return {name: np.concatenate(self._parts.pop(name)) for name in names}

"""Nsight Systems' JSON Lines to the tables that they are rows of, in SQLite in memory: one importer serves both."""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

import msgspec

from analyzer.timeline import nsight_facts, nsight_own

_BLOCK_BYTES = 1 << 20
_TABLE = re.compile(rb'"table"\s*:\s*"(\w+)"')
_CUPTI = "CUPTI_ACTIVITY_KIND_"
_WORK = "start end deviceId streamId correlationId globalPid"
_CALL = "start end globalTid nameId"
_COLUMNS = {
    f"{_CUPTI}RUNTIME": f"{_CALL} correlationId",
    f"{_CUPTI}KERNEL": f"{_WORK} demangledName shortName gridX gridY gridZ blockX blockY blockZ",
    f"{_CUPTI}MEMCPY": f"{_WORK} bytes copyKind srcKind dstKind",
    f"{_CUPTI}MEMSET": f"{_WORK} bytes memKind",
    f"{_CUPTI}SYNCHRONIZATION": f"{_WORK} syncType",
    f"{_CUPTI}GRAPH_TRACE": f"{_WORK} graphId",
    "OSRT_API": _CALL,
    "PROFILER_OVERHEAD": _CALL,
    "NVTX_EVENTS": (
        "start end eventType text textId globalTid endGlobalTid domainId int64Value int32Value uint64Value uint32Value"
    ),
    "GPU_METRICS": "timestamp typeId metricId value",
    "StringIds": "id value",
    "ENUM_NSYS_EVENT_TYPE": "id name",
    "TARGET_INFO_GPU_METRICS": "typeId metricId metricName",
    "TARGET_INFO_GPU": "id name uuid totalMemory smCount computeMajor computeMinor",
    "TARGET_INFO_CUDA_DEVICE": "pid cudaId gpuId",
    "TARGET_INFO_CUDA_CONTEXT_INFO": "processId deviceId nullStreamId",
    "TARGET_INFO_SESSION_START_TIME": "utcEpochNs",
    "META_DATA_CAPTURE": "name value",
    "DIAGNOSTIC_EVENT": "severity text",
    "PROCESSES": "pid name",
    "ThreadNames": "globalTid nameId",
    **dict.fromkeys(nsight_facts.VERSION_TABLES, "name value"),
    **nsight_own.COLUMNS,
}
"""What the importer reads of each table: the rest of a row is not decoded."""


_Cell = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | float | str | None
"""What SQLite can hold of JSON."""


_LOOSE = msgspec.json.Decoder(dict[str, Any])


class _Table:
    """Rows of one table, decoded and inserted many at a time."""

    def __init__(self, db: sqlite3.Connection, name: str, columns: Sequence[str]) -> None:
        row = msgspec.defstruct("Row", [(each, _Cell, None) for each in columns], gc=False)
        self._decoder = msgspec.json.Decoder(row)
        self._values: Any = attrgetter(*columns) if len(columns) > 1 else lambda row: (getattr(row, columns[0]),)
        self._columns = columns
        self._db = db
        self._statement = f'INSERT INTO "{name}" VALUES ({", ".join("?" * len(columns))})'
        self.lines: list[bytes] = []
        quoted = ", ".join(f'"{each}"' for each in columns)
        db.execute(f'CREATE TABLE "{name}" ({quoted})')

    def insert(self) -> int:
        """Put the lines into the table; how many of them are no rows."""
        lines, self.lines = self.lines, []
        try:
            found = list(map(self._values, self._decoder.decode_lines(b"\n".join(lines))))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            found = list(self._whole(lines))
        self._db.executemany(self._statement, found)
        return len(lines) - len(found)

    def _whole(self, lines: list[bytes]) -> Iterator[tuple[Any, ...]]:
        for line in lines:
            try:
                row = _LOOSE.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            yield tuple(_cell(row.get(name)) for name in self._columns)


def _cell(value: Any) -> Any:
    """NULL for what a cell does not hold, such as a list."""
    is_number = isinstance(value, int) and abs(value) < 1 << 63
    return value if is_number or isinstance(value, float | str) else None


def load(path: Path, db: sqlite3.Connection) -> int:
    """Fill the database; how many lines could not be read."""
    db.execute("PRAGMA journal_mode = OFF")
    tables: dict[bytes, _Table] = {}
    torn = 0
    with path.open("rb") as file:
        while lines := file.readlines(_BLOCK_BYTES):
            for line in lines:
                name = _TABLE.search(line)
                if name is None:
                    torn += bool(line.strip())
                    continue
                table = tables.get(name[1])
                if table is None:
                    columns = _COLUMNS.get(name[1].decode())
                    if columns is None:
                        continue
                    table = tables[name[1]] = _Table(db, name[1].decode(), columns.split())
                table.lines.append(line)
            torn += sum(table.insert() for table in tables.values() if table.lines)
    return torn

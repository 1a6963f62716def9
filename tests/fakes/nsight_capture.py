"""Writes small Nsight Systems exports: only the tables and columns that a test names, as old and new schemas differ."""

import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

Row = Mapping[str, object]
DEVICE_ID_SHIFT = 24


def global_id(process: int, thread: int = 0) -> int:
    """A serialized id as Nsight makes it: with hardware and virtual machine bits above the process."""
    return (1 << 48) | (process << DEVICE_ID_SHIFT) | thread


def write(path: Path, tables: Mapping[str, Sequence[Row]]) -> Path:
    db = sqlite3.connect(path)
    for name, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows for column in row)) or ["name", "value"]
        db.execute(f"CREATE TABLE {name} ({', '.join(repr(column) for column in columns)})")
        marks = ", ".join("?" * len(columns))
        db.executemany(f"INSERT INTO {name} VALUES ({marks})", [[row.get(key) for key in columns] for row in rows])
    db.commit()
    db.close()
    return path


def strings(*values: str) -> list[Row]:
    """A StringIds table; the first string has id 1."""
    return [{"id": number, "value": value} for number, value in enumerate(values, 1)]


def version(schema: str, table: str = "META_DATA_EXPORT") -> dict[str, list[Row]]:
    return {table: [{"name": "EXPORT_SCHEMA_VERSION", "value": schema}]}


def kernel(start: int, end: int, process: int = 9, correlation: int = 1, name: int = 1, **more: object) -> Row:
    ids = {"globalPid": global_id(process), "correlationId": correlation, "demangledName": name}
    return {"start": start, "end": end, "deviceId": 0, "streamId": 7, **ids, **more}


def call(start: int, end: int, process: int = 9, thread: int = 9, correlation: int = 1, name: int = 2) -> Row:
    ids = {"globalTid": global_id(process, thread), "correlationId": correlation, "nameId": name}
    return {"start": start, "end": end, "eventClass": 0, **ids}

"""The tables of an Nsight Systems SQLite export, read column by column whatever its schema has of them."""

import sqlite3
from collections.abc import Iterator, Sequence

import numpy as np

from analyzer.timeline.table import ABSENT, Column


class NsightTables:
    """Reads columns as arrays. A table or column that this schema lacks, or a NULL, is -1; a damaged table is noted."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        self.names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        self.damaged: list[str] = []

    def columns(self, table: str) -> set[str]:
        return {row[1] for row in self._db.execute(f'PRAGMA table_info("{table}")')} if table in self.names else set()

    def read(self, table: str, wanted: Sequence[str], where: str = "1") -> dict[str, Column]:
        """Integer columns, straight from the cursor into arrays. What stands before the damage of a table is kept."""
        present = self.columns(table)
        dtype = np.dtype([(name, np.int64) for name in wanted])
        if not present:
            return {name: np.zeros(0, np.int64) for name in wanted}
        terms = ", ".join(f'COALESCE("{name}", -1)' if name in present else "-1" for name in wanted)
        read = np.fromiter(self._rows(table, f'SELECT {terms} FROM "{table}" WHERE {where}'), dtype)
        return {name: np.ascontiguousarray(read[name]) for name in wanted}

    def rows(self, table: str, wanted: Sequence[str], where: str = "1") -> list[tuple[object, ...]]:
        """Rows of a small table, or a column of text; a missing column is None."""
        present = self.columns(table)
        if not present:
            return []
        terms = ", ".join(f'"{name}"' if name in present else "NULL" for name in wanted)
        return list(self._rows(table, f'SELECT {terms} FROM "{table}" WHERE {where}'))

    def strings(self) -> dict[int, str]:
        return {int(str(key)): str(value) for key, value in self.rows("StringIds", ("id", "value"))}

    def _rows(self, table: str, statement: str) -> Iterator[tuple[object, ...]]:
        try:
            yield from self._db.execute(statement)
        except sqlite3.DatabaseError:
            self.damaged.append(table)


def process_of(global_id: Column) -> Column:
    """The process id in a serialized id: its bits 24 to 47."""
    return np.where(global_id == ABSENT, ABSENT, (global_id >> 24) & 0xFFFFFF)


def thread_of(global_id: Column) -> Column:
    return np.where(global_id == ABSENT, ABSENT, global_id & 0xFFFFFF)

"""The tables of an Nsight Systems SQLite export, read column by column whatever its schema has of them."""

import sqlite3
from collections.abc import Iterator, Sequence

import numpy as np

from analyzer.timeline.table import ABSENT, Column

UNREADABLE = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What reading damaged tables raises: SQLite quotes the damage in its message, and that may be no text."""


class NsightTables:
    """Reads columns as arrays. A table or column that this schema lacks, or a NULL, is -1; a damaged table is noted."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.text_factory = _lenient
        self.names = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        self.damaged: list[str] = []

    def columns(self, table: str) -> dict[str, bool]:
        """Columns of a table, each with whether it is declared to hold no NULL."""
        if table not in self.names:
            return {}
        return {row[1]: bool(row[3]) for row in self._db.execute(f'PRAGMA table_info("{table}")')}

    def read(self, table: str, wanted: Sequence[str], where: str = "1") -> dict[str, Column]:
        """Integer columns, straight from the cursor into arrays. What stands before the damage of a table is kept."""
        present = self.columns(table)
        dtype = np.dtype([(name, np.int64) for name in wanted])
        if not present:
            return {name: np.zeros(0, np.int64) for name in wanted}
        terms = ", ".join(self._term(name, present.get(name)) for name in wanted)
        statement = f'SELECT {terms} FROM "{table}" WHERE {where}'
        try:
            read = np.fromiter(self._db.execute(statement), dtype)
        except (sqlite3.DatabaseError, TypeError, ValueError, OverflowError):
            read = np.fromiter(self._whole_rows(table, statement), dtype)
        return {name: np.ascontiguousarray(read[name]) for name in wanted}

    def _whole_rows(self, table: str, statement: str) -> Iterator[tuple[object, ...]]:
        """Row by row, which is slower, those that hold integers only, up to where the table can't be read."""
        for row in self._rows(table, statement):
            if all(type(value) is int for value in row):
                yield row
            else:
                self.damaged.append(table)

    @staticmethod
    def _term(name: str, is_filled: bool | None) -> str:
        """COALESCE costs as much as reading the value: only where NULL is possible."""
        if is_filled is None:
            return "-1"
        return f'"{name}"' if is_filled else f'COALESCE("{name}", -1)'

    def rows(self, table: str, wanted: Sequence[str], where: str = "1") -> list[tuple[object, ...]]:
        """Rows of a small table, or a column of text; a missing column is None."""
        present = self.columns(table)
        if not present:
            return []
        terms = ", ".join(f'"{name}"' if name in present else "NULL" for name in wanted)
        statement = f'SELECT {terms} FROM "{table}" WHERE {where}'
        self._db.text_factory = str
        try:
            return self._db.execute(statement).fetchall()
        except UNREADABLE:
            return list(self._rows(table, statement))
        finally:
            self._db.text_factory = _lenient

    def strings(self) -> dict[int, str]:
        """By their numbers; a row whose number is damaged names nothing."""
        rows = self.rows("StringIds", ("id", "value"))
        return {int(str(key)): str(value) for key, value in rows if str(key).lstrip("-").isdecimal()}

    def _rows(self, table: str, statement: str) -> Iterator[tuple[object, ...]]:
        try:
            yield from self._db.execute(statement)
        except UNREADABLE:
            self.damaged.append(table)


def _lenient(raw: bytes) -> str:
    """Text with a mark where it is none, which is slower than what SQLite does by itself."""
    return raw.decode("utf-8", "replace")


def process_of(global_id: Column) -> Column:
    """The process id in a serialized id: its bits 24 to 47."""
    return np.where(global_id == ABSENT, ABSENT, (global_id >> 24) & 0xFFFFFF)


def thread_of(global_id: Column) -> Column:
    return np.where(global_id == ABSENT, ABSENT, global_id & 0xFFFFFF)

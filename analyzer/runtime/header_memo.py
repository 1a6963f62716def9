"""HPACK header blocks to what they mean, remembered by their bytes: a client repeats the same block call after call.

The same bytes mean the same headers only while the dynamic table stands as it stood. So a block is remembered only
where decoding it left the table alone, and everything is forgotten as soon as a block changes the table.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import hpack

Headers = list[tuple[bytes, bytes]]
HEADERS_LIMIT_BYTES = 64 * 1024
_ENTRIES = 512
_BLOCK_BYTES = 2048
_T = TypeVar("_T")


class HeaderBlockError(Exception):
    """The block can't be decoded; the connection's table is lost with it."""


class HeaderMemo(Generic[_T]):
    """``read`` turns decoded headers into what the caller wants to know of them."""

    def __init__(self, read: Callable[[Headers], _T]) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=HEADERS_LIMIT_BYTES)
        self._read = read
        self._known: dict[bytes, _T] = {}

    def decode(self, block: bytes) -> _T:
        found = self._known.get(block)
        if found is not None:
            return found
        before = self._table_mark()
        try:
            headers: Headers = self._decoder.decode(block, raw=True)
        except hpack.HPACKError as error:
            raise HeaderBlockError(str(error)) from None
        value = self._read(headers)
        if self._table_mark() != before:
            self._known.clear()
        elif len(block) <= _BLOCK_BYTES:
            if len(self._known) >= _ENTRIES:
                self._known.clear()
            self._known[block] = value
        return value

    def _table_mark(self) -> tuple[Any, ...]:
        """Differs after every change: additions put a new object first, evictions and resizing change the numbers."""
        table = self._decoder.header_table
        entries = table.dynamic_entries
        return table.maxsize, len(entries), id(entries[0]) if entries else None, table._current_size

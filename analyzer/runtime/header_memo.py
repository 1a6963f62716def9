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
    """The block can't be decoded; the connection's table is lost with it. ``is_too_large``: nothing else is wrong."""

    def __init__(self, message: str, *, is_too_large: bool = False) -> None:
        super().__init__(message)
        self.is_too_large = is_too_large


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
        numbers, newest = self._table_numbers(), self._newest_entry()
        try:
            headers: Headers = self._decoder.decode(block, raw=True)
        except hpack.HPACKError as error:
            too_large = isinstance(error, hpack.OversizedHeaderListError)
            raise HeaderBlockError(str(error), is_too_large=too_large) from None
        value = self._read(headers)
        if self._table_numbers() != numbers or self._newest_entry() is not newest:
            self._known.clear()
        elif len(block) <= _BLOCK_BYTES:
            if len(self._known) >= _ENTRIES:
                self._known.clear()
            self._known[block] = value
        return value

    def _table_numbers(self) -> tuple[int, int, int]:
        """Evictions and resizing change one of these."""
        table = self._decoder.header_table
        return table.maxsize, len(table.dynamic_entries), table._current_size

    def _newest_entry(self) -> Any:
        """An addition puts a new object first. Compared by identity, since an equal entry may be added again."""
        entries = self._decoder.header_table.dynamic_entries
        return entries[0] if entries else None

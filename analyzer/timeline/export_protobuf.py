"""Protocol buffers of columns: a million messages of one shape are a few arrays, not a million objects.

A column of messages is its bytes one after another, and the length of each. The wire format is that of
https://protobuf.dev/programming-guides/encoding: a field is a tag and a value; a tag is the field's number and how
its value is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analyzer.timeline.table import Column

Bytes = npt.NDArray[np.uint8]
_VARINT, _FIXED64, _DELIMITED = 0, 1, 2
_GROUP_BITS = 7
_VARINT_BYTES = 10


def varint(value: int) -> bytes:
    """One number, seven bits a byte, the lowest first; a negative one is that of 64 bits in two's complement."""
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= _GROUP_BITS
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3 | _VARINT) + varint(value)


def delimited(field: int, content: bytes | str) -> bytes:
    """A text, or a message within a message."""
    raw = content.encode("utf-8", "replace") if isinstance(content, str) else content
    return varint(field << 3 | _DELIMITED) + varint(len(raw)) + raw


@dataclass(frozen=True, slots=True)
class Messages:
    content: Bytes
    lengths: Column

    def __len__(self) -> int:
        return len(self.lengths)


class MessageColumns:
    """Collects the fields of messages of one shape, each a column, and writes them all at once.

    Cells lie side by side in a matrix of bytes with those marked that are in use; the marked ones, row by row, are
    the messages.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._cells: list[Bytes] = []
        self._used: list[npt.NDArray[np.bool_]] = []

    def constant(self, raw: bytes, where: npt.NDArray[np.bool_] | None = None) -> None:
        cells = np.broadcast_to(np.frombuffer(raw, np.uint8), (self.count, len(raw)))
        self._add(cells, np.ones(cells.shape, np.bool_), where)

    def number(self, field: int, values: Column, where: npt.NDArray[np.bool_] | None = None) -> None:
        self.constant(varint(field << 3 | _VARINT), where)
        self._add(*_varints(values), where)

    def double(self, field: int, values: Column) -> None:
        self.constant(varint(field << 3 | _FIXED64))
        cells = np.ascontiguousarray(values, "<f8").view(np.uint8).reshape(-1, 8)
        self._add(cells, np.ones(cells.shape, np.bool_), None)

    def holder(self, field: int, lengths: Column) -> None:
        """The head of a message in this one; its content is put behind with ``interleave``."""
        self.number_as(_DELIMITED, field, lengths)

    def number_as(self, wire: int, field: int, values: Column) -> None:
        self.constant(varint(field << 3 | wire))
        self._add(*_varints(values), None)

    def annotation(
        self, field: int, key: bytes, value_field: int, values: Column, where: npt.NDArray[np.bool_]
    ) -> None:
        """A message within, of a constant part and one number; short enough that its length is one byte."""
        head = key + varint(value_field << 3 | _VARINT)
        cells, used = _varints(values)
        self.constant(varint(field << 3 | _DELIMITED), where)
        length = (used.sum(axis=1) + len(head)).astype(np.uint8)
        self._add(length[:, None], np.ones((self.count, 1), np.bool_), where)
        self.constant(head, where)
        self._add(cells, used, where)

    def _add(self, cells: Bytes, used: npt.NDArray[np.bool_], where: npt.NDArray[np.bool_] | None) -> None:
        self._cells.append(cells)
        self._used.append(used if where is None else used & where[:, None])

    def messages(self) -> Messages:
        used = np.concatenate(self._used, axis=1)
        return Messages(np.concatenate(self._cells, axis=1)[used], used.sum(axis=1))


def _varints(values: Column) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    rest = np.asarray(values).astype(np.int64).view(np.uint64)
    largest = int(rest.max()) if len(rest) else 0
    width = max(1, -(-largest.bit_length() // _GROUP_BITS))
    groups = rest[:, None] >> (np.arange(width, dtype=np.uint64) * np.uint64(_GROUP_BITS))[None, :]
    used = groups != 0
    used[:, 0] = True
    follows = np.concatenate([used[:, 1:], np.zeros((len(rest), 1), np.bool_)], axis=1)
    return ((groups & np.uint64(0x7F)) | (follows.astype(np.uint64) << np.uint64(7))).astype(np.uint8), used


def interleave(parts: Sequence[Messages]) -> Messages:
    """The first message of each part, then the second of each, and so on: one message of each row of parts."""
    lengths = np.stack([part.lengths for part in parts], axis=1).astype(np.int64)
    begin = np.concatenate([[0], np.cumsum(lengths.ravel())])
    return Messages(_placed(parts, begin[:-1].reshape(lengths.shape), int(begin[-1])), lengths.sum(axis=1))


def in_order(parts: Sequence[Messages], order: Column) -> Bytes:
    """All messages of the parts, by their places in the row of all of them."""
    lengths = np.concatenate([part.lengths for part in parts]).astype(np.int64)
    ordered = lengths[order]
    begin = np.empty(len(lengths), np.int64)
    begin[order] = np.cumsum(ordered) - ordered
    bounds = np.cumsum([len(part) for part in parts])[:-1]
    starts = np.split(begin, bounds)
    out = np.empty(int(lengths.sum()), np.uint8)
    for part, start in zip(parts, starts, strict=True):
        out[_places(part.lengths, start)] = part.content
    return out


def _placed(parts: Sequence[Messages], begin: Column, size: int) -> Bytes:
    out = np.empty(size, np.uint8)
    for column, part in enumerate(parts):
        out[_places(part.lengths, begin[:, column])] = part.content
    return out


def _places(lengths: Column, begin: Column) -> Column:
    """Where each byte goes of messages of these lengths that are to begin there."""
    gone = np.cumsum(lengths) - lengths
    places: Column = np.arange(int(lengths.sum())) + np.repeat(begin - gone, lengths)
    return places

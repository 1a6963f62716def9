"""Reads protocol buffers without their schema: fields by number, each a list."""

from collections import defaultdict

Fields = dict[int, list[bytes | int]]


def content(value: bytes | int) -> bytes:
    assert isinstance(value, bytes)
    return value


def packed(value: bytes | int) -> list[int]:
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        one, at = _varint(value, at)
        found.append(one)
    return found


def fields(value: bytes | int) -> Fields:
    raw, at = content(value), 0
    found: Fields = defaultdict(list)
    while at < len(raw):
        tag, at = _varint(raw, at)
        wire = tag & 7
        if wire == 0:
            one, at = _varint(raw, at)
            found[tag >> 3].append(one)
            continue
        size, at = _varint(raw, at) if wire == 2 else (8 if wire == 1 else 4, at)
        found[tag >> 3].append(raw[at : at + size])
        at += size
    return found


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at

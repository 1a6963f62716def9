"""Heads of HTTP requests, remembered by their bytes: a client sends the same head again and again."""

from collections.abc import Callable
from typing import Generic, TypeVar

from analyzer.runtime.http_message import HEAD_LIMIT_BYTES, Head, HttpError, parse_head

_ENTRIES = 512
_HEAD_BYTES = 4096
_A = TypeVar("_A")


class HeadMemo(Generic[_A]):
    """A head's bytes to what they say and to what is done about it. ``resolve`` takes a method and a path."""

    def __init__(self, resolve: Callable[[str, str], _A], body_limit_bytes: int) -> None:
        self.known: dict[bytes, tuple[Head, _A]] = {}
        self._resolve = resolve
        self._limit_bytes = body_limit_bytes

    def learn(self, block: bytes) -> tuple[Head, _A]:
        """For a head that is not in ``known``. Raises HttpError."""
        if len(block) > HEAD_LIMIT_BYTES:
            raise HttpError(431, f"request head is larger than {HEAD_LIMIT_BYTES} bytes")
        head = parse_head(block)
        if head.length is not None and head.length > self._limit_bytes:
            raise HttpError(413, f"request body is larger than the limit of {self._limit_bytes} bytes")
        found = head, self._resolve(head.method, head.path)
        if len(block) <= _HEAD_BYTES:
            if len(self.known) >= _ENTRIES:
                self.known.clear()
            self.known[block] = found
        return found

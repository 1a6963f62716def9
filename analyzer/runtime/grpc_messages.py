"""Length-prefixed gRPC messages out of the bytes of a stream, in whatever pieces those come."""

from analyzer.runtime.body_memory import BodyMemory
from analyzer.runtime.request import ErrorKind, InferError
from analyzer.runtime.wire import Buffer

PREFIX_BYTES = 5


class MessageReader:
    """``feed`` returns the messages that are complete by now, each with its flag (1: compressed).

    A message that comes in several pieces is put together in ``memory``.
    """

    __slots__ = ("_filled", "_limit_bytes", "_memory", "_prefix", "_room")

    def __init__(self, limit_bytes: int, memory: BodyMemory) -> None:
        self._memory = memory
        self._limit_bytes = limit_bytes
        self._prefix = b""
        self._room: memoryview | None = None
        self._filled = 0

    @property
    def is_inside(self) -> bool:
        return bool(self._prefix)

    @property
    def filled_bytes(self) -> int:
        """Of the message that is not whole yet."""
        return self._filled

    def feed(self, payload: bytes) -> list[tuple[int, Buffer]]:
        """Raises InferError for a message over the limit, or for which there is no room now."""
        messages: list[tuple[int, Buffer]] = []
        position, end = 0, len(payload)
        while position < end:
            if self._room is None:
                take = PREFIX_BYTES - len(self._prefix)
                self._prefix += payload[position : position + take]
                position = min(position + take, end)
                if len(self._prefix) < PREFIX_BYTES:
                    break
                length = self._length()
                if end - position >= length:
                    messages.append((self._prefix[0], payload[position : position + length]))
                    position += length
                    self._prefix = b""
                    continue
                self._room, self._filled = self._memory.room(length), 0
            take = min(len(self._room) - self._filled, end - position)
            self._room[self._filled : self._filled + take] = memoryview(payload)[position : position + take]
            self._filled += take
            position += take
            if self._filled == len(self._room):
                messages.append((self._prefix[0], self._room))
                self._room, self._prefix = None, b""
        return messages

    def _length(self) -> int:
        length = int.from_bytes(self._prefix[1:], "big")
        if length > self._limit_bytes:
            text = f"received message larger than max ({length} vs. {self._limit_bytes})"
            raise InferError(ErrorKind.RESOURCE_EXHAUSTED, text)
        return length

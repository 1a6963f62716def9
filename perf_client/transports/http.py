"""HTTP/1.1 as a raw protocol: one request in flight a connection, the answer read only as far as needed to count it."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from perf_client.record import NEVER, OK, Recorder
from perf_client.target import Target
from perf_client.transports.base import BadAnswer, Clock, Owner, loss_failure, unanswered
from perf_client.transports.dial import Dial

END_OF_HEAD = b"\r\n\r\n"
_HEADS_KEPT = 256
_HEAD_LIMIT_BYTES = 65536
_EXAMPLE_BYTES = 300
_UNTIL_CLOSE = -1
_CHUNKED = -2


@dataclass(frozen=True, slots=True)
class Head:
    """What counts in an answer's header block. ``length`` is the body's, or says how its end is found."""

    status: int
    length: int
    keep_alive: bool

    @property
    def chunked(self) -> bool:
        return self.length == _CHUNKED


def parse_head(head: bytes) -> Head:
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdecimal() or len(parts[1]) != 3:
        raise BadAnswer(f"not an HTTP/1.1 answer: {lines[0][:80]!r}")
    status = int(parts[1])
    fields = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip().lower()
    keep_alive = fields.get("connection") != "close" and (
        parts[0] != "HTTP/1.0" or fields.get("connection") == "keep-alive"
    )
    return Head(status=status, length=_body_length(status, fields), keep_alive=keep_alive)


def _body_length(status: int, fields: dict[str, str]) -> int:
    if status < 200 or status in (204, 304):
        return 0
    if "chunked" in fields.get("transfer-encoding", ""):
        return _CHUNKED
    length = fields.get("content-length")
    if length is None:
        return _UNTIL_CLOSE
    if not length.isdecimal():
        raise BadAnswer(f"content-length {length!r} is not a number")
    return int(length)


class ChunkedBody:
    """Finds the end of a chunked body without keeping what is in it."""

    def __init__(self) -> None:
        self._pending = b""
        self._to_skip = 0
        self._trailers = False

    def feed(self, data: bytes) -> bool:
        """Whether the body is complete. Raises BadAnswer for anything after its end."""
        data = self._pending + data
        position = 0
        while True:
            if self._to_skip:
                step = min(self._to_skip, len(data) - position)
                position += step
                self._to_skip -= step
            line_end = data.find(b"\r\n", position)
            if self._to_skip or line_end < 0:
                self._pending = data[position:]
                return False
            line = data[position:line_end]
            position = line_end + 2
            if self._trailers:
                if not line:
                    return self._ended(data, position)
                continue
            size = _chunk_size(line)
            self._trailers = size == 0
            self._to_skip = size + 2 if size else 0

    @staticmethod
    def _ended(data: bytes, position: int) -> bool:
        if position != len(data):
            raise BadAnswer("bytes after the end of the answer")
        return True


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.split(b";", 1)[0], 16)
    except ValueError:
        raise BadAnswer(f"chunk size {line[:20]!r} is not a number") from None


class HttpConnection(asyncio.Protocol):
    """One connection. Its life is a row of requests; between them nothing is expected from the server."""

    capacity = 1

    def __init__(
        self, requests: Iterator[bytes], heads: dict[bytes, Head], owner: Owner, recorder: Recorder, clock: Clock
    ) -> None:
        self._next_request = requests.__next__
        self._heads = heads
        self._owner = owner
        self._recorder = recorder
        self._record = recorder.add
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self.in_flight = 0
        self.usable = False
        self._scheduled_ns = self._sent_ns = self._first_byte_ns = NEVER
        self._head: Head | None = None
        self._received = b""
        self._left = 0
        self._chunks: ChunkedBody | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._transport = transport
        self._write = transport.write
        self.usable = True

    def send(self, scheduled_ns: int = 0) -> None:
        self.in_flight = 1
        self._first_byte_ns = NEVER
        self._sent_ns = sent_ns = self._clock()
        self._scheduled_ns = scheduled_ns or sent_ns
        self._write(self._next_request())

    def data_received(self, data: bytes) -> None:
        now_ns = self._clock()
        if self._first_byte_ns == NEVER and self.in_flight:
            self._first_byte_ns = now_ns
            end = data.find(END_OF_HEAD) + 4
            head = self._heads.get(data[:end])
            # Nearly always a known header block and the whole body arrive in one piece.
            if head is not None and len(data) - end == head.length and head.status == 200 and head.keep_alive:
                self.in_flight = 0
                self._record(self._scheduled_ns, self._sent_ns, now_ns, now_ns, OK)
                self._owner.ready(self, now_ns)
                return
        self._take(data, now_ns)

    def _take(self, data: bytes, now_ns: int) -> None:
        try:
            if self._receive(data):
                self._answered(now_ns)
        except BadAnswer as error:
            self._give_up("bad answer", str(error), now_ns)

    def _receive(self, data: bytes) -> bool:
        """Take the next piece of an answer; whether that completed it."""
        if not self.in_flight:
            raise BadAnswer("bytes that answer no request")
        if self._head is None:
            self._received += data
            end = self._received.find(END_OF_HEAD)
            if end < 0:
                if len(self._received) > _HEAD_LIMIT_BYTES:
                    raise BadAnswer(f"a header block of more than {_HEAD_LIMIT_BYTES} bytes")
                return False
            data = self._received[end + 4 :]
            head = self._known_head(self._received[: end + 4])
            self._received = b""
            if head.status < 200:  # an interim answer; the real one follows
                return self._receive(data)
            self._begin_body(head)
        if self._head is not None and self._head.status != 200 and len(self._received) < _EXAMPLE_BYTES:
            self._received += data[:_EXAMPLE_BYTES]
        if self._chunks is not None:
            return self._chunks.feed(data)
        if self._left == _UNTIL_CLOSE:
            return False
        self._left -= len(data)
        if self._left < 0:
            raise BadAnswer("bytes after the end of the answer")
        return self._left == 0

    def _known_head(self, block: bytes) -> Head:
        head = self._heads.get(block)
        if head is None:
            head = parse_head(block)
            if len(self._heads) >= _HEADS_KEPT:  # a header that changes all the time, such as the date
                self._heads.clear()
            self._heads[block] = head
        return head

    def _begin_body(self, head: Head) -> None:
        self._head = head
        self._left = head.length
        self._chunks = ChunkedBody() if head.length == _CHUNKED else None

    def _answered(self, now_ns: int) -> None:
        head = self._head
        assert head is not None
        code = self._outcome(head)
        self.in_flight = 0
        self._head = None
        self._received = b""
        self._chunks = None
        self._record(self._scheduled_ns, self._sent_ns, self._first_byte_ns, now_ns, code)
        if head.keep_alive and head.length != _UNTIL_CLOSE:
            self._owner.ready(self, now_ns)
        else:
            self._leave()

    def _outcome(self, head: Head) -> int:
        """The code of an answer that is complete."""
        if head.status == 200:
            return OK
        example = self._received.decode(errors="replace").strip()
        return self._recorder.code(f"http {head.status}", example or "its body is empty")

    def _give_up(self, failure: str, example: str, now_ns: int) -> None:
        """Record what is in flight as failed and leave the connection, since its state is not known any more."""
        if self.in_flight:
            self.in_flight = 0
            code = self._recorder.code(failure, example)
            self._record(self._scheduled_ns, self._sent_ns, self._first_byte_ns, now_ns, code)
        self._leave()

    def _leave(self) -> None:
        if self.usable:
            self.close()
            self._owner.lost(self)

    def expire(self, sent_before_ns: int, now_ns: int, failure: str = "timeout") -> None:
        if self.in_flight and self._sent_ns < sent_before_ns:
            self._give_up(failure, unanswered(self._sent_ns, now_ns), now_ns)

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.usable:
            return
        now_ns = self._clock()
        if self.in_flight and self._head is not None and self._head.length == _UNTIL_CLOSE and exc is None:
            self._answered(now_ns)
        else:
            self._give_up(*loss_failure(exc), now_ns)


class HttpTransport:
    """Opens HTTP/1.1 connections that share one row of requests and one memory of header blocks."""

    slots_per_connection = 1

    def __init__(
        self,
        target: Target,
        requests: Iterator[Any],
        clock: Clock,
        connection: type[HttpConnection] = HttpConnection,
    ) -> None:
        self._dial = Dial(target)
        self._connection = connection
        self._requests = requests
        self._heads: dict[bytes, Head] = {}
        self._clock = clock

    async def connect(self, capacity: int, owner: Owner, recorder: Recorder) -> HttpConnection:
        assert capacity == 1
        return await self._dial.connect(
            lambda: self._connection(self._requests, self._heads, owner, recorder, self._clock)
        )

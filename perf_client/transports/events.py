"""Answers of an API like OpenAI's: server-sent events, or one JSON document, read for their tokens as they come."""

from array import array
from collections.abc import Iterator
from typing import Any

import msgspec

from perf_client.answer_times import NOT_SAID
from perf_client.record import NEVER, OK, Recorder
from perf_client.transports.base import BadAnswer, Clock, Owner
from perf_client.transports.http import END_OF_HEAD, Head, HttpConnection, parse_head


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[Any] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None

    @property
    def says_something(self) -> bool:
        delta = self.delta
        return bool(self.text or (delta and (delta.content or delta.reasoning_content or delta.tool_calls)))


class _Usage(msgspec.Struct):
    completion_tokens: int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class ServiceError(Exception):
    """The service broke off its answer with an error."""


class Dechunker:
    """Takes chunked transfer coding off, piece by piece. That the body is well formed is checked elsewhere."""

    def __init__(self) -> None:
        self._pending = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        data = self._pending + data
        pieces = []
        position = 0
        while position < len(data):
            if self._left > 2:
                piece = data[position : position + self._left - 2]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
            elif self._left:  # the line end after a chunk
                step = min(self._left, len(data) - position)
                position += step
                self._left -= step
            else:
                line_end = data.find(b"\r\n", position)
                if line_end < 0:
                    break
                line = data[position:line_end].split(b";", 1)[0].strip()
                size = int(line, 16) if line else 0
                position = line_end + 2
                self._left = size + 2 if size else 0
        self._pending = data[position:]
        return b"".join(pieces)


class EventReader:
    """Server-sent events out of a text that comes in pieces: the data of each, its lines joined."""

    def __init__(self) -> None:
        self._pending = b""
        self._data: list[bytes] = []

    def feed(self, text: bytes) -> Iterator[bytes]:
        *lines, self._pending = (self._pending + text).replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                yield b"\n".join(self._data)
                self._data.clear()


class TokenCount:
    """What the events of one answer said: which of them brought tokens, and how many there were in all."""

    def __init__(self) -> None:
        self.event_count = 0
        self.answers_ns = array("q")
        self._said: int | None = None

    @property
    def tokens(self) -> int:
        """As the service counted them; else one for each event that brought some."""
        return len(self.answers_ns) if self._said is None else self._said

    def take(self, data: bytes, now_ns: int) -> None:
        self.event_count += 1
        if data.strip() == b"[DONE]":
            return
        chunk = self._chunk(data)
        if any(choice.says_something for choice in chunk.choices):
            self.answers_ns.append(now_ns)

    def take_whole(self, body: bytes, now_ns: int) -> None:
        """An answer that is one document, not events. How many tokens it has only its usage tells."""
        self._chunk(body)
        self.event_count += 1
        self.answers_ns.append(now_ns)
        if self._said is None:
            self._said = NOT_SAID

    def _chunk(self, data: bytes) -> _Chunk:
        try:
            chunk = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadAnswer(f"not an answer of an openai service: {error}") from None
        if chunk.error is not None:
            raise ServiceError(msgspec.json.encode(chunk.error).decode())
        if chunk.usage is not None and chunk.usage.completion_tokens is not None:
            self._said = chunk.usage.completion_tokens
        return chunk


class OpenAiConnection(HttpConnection):
    """An HTTP connection that looks into answers. An answer's time is taken before it is looked at."""

    def __init__(
        self, requests: Iterator[bytes], heads: dict[bytes, Head], owner: Owner, recorder: Recorder, clock: Clock
    ) -> None:
        super().__init__(requests, heads, owner, recorder, clock)
        self._start_over()

    def _start_over(self) -> None:
        self._before_body: bytes | None = b""
        self._events: EventReader | None = None
        self._dechunker: Dechunker | None = None
        self._document = b""
        self._arrived_ns = NEVER
        self._count = TokenCount()
        self._trouble: tuple[str, str] | None = None

    def data_received(self, data: bytes) -> None:
        self._arrived_ns = now_ns = self._clock()
        if self._first_byte_ns == NEVER and self.in_flight:
            self._first_byte_ns = now_ns
        if self.in_flight and self._trouble is None:
            try:
                self._look_at(data, now_ns)
            except ServiceError as error:
                self._trouble = "service error", str(error)
            except (BadAnswer, ValueError) as error:
                self._trouble = "bad answer", str(error)
        self._take(data, now_ns)

    def _look_at(self, data: bytes, now_ns: int) -> None:
        if self._before_body is not None:
            self._before_body += data
            block, found, data = self._before_body.partition(END_OF_HEAD)
            if not found:
                return
            head = parse_head(block + END_OF_HEAD)
            if head.status < 200:  # an interim answer; the real one follows
                self._before_body = b""
                self._look_at(data, now_ns)
                return
            self._before_body = None
            self._dechunker = Dechunker() if head.chunked else None
            self._events = EventReader() if b"text/event-stream" in block.lower() and head.status == 200 else None
        content = data if self._dechunker is None else self._dechunker.feed(data)
        if self._events is None:
            self._document += content
            return
        for event in self._events.feed(content):
            self._count.take(event, now_ns)

    def _outcome(self, head: Head) -> int:
        code = super()._outcome(head) if head.status != 200 else self._judged()
        self._keep_answers()
        return code

    def _judged(self) -> int:
        if self._trouble is None and self._events is None:
            try:
                self._count.take_whole(self._document, self._arrived_ns)
            except ServiceError as error:
                self._trouble = "service error", str(error)
            except BadAnswer as error:
                self._trouble = "bad answer", str(error)
        elif self._trouble is None and not self._count.event_count:
            self._trouble = "bad answer", "the answer holds no event"
        return OK if self._trouble is None else self._recorder.code(*self._trouble)

    def _keep_answers(self) -> None:
        self._recorder.add_answers(self._count.answers_ns, self._count.tokens)
        self._start_over()

    def _give_up(self, failure: str, example: str, now_ns: int) -> None:
        if self.in_flight:
            self._keep_answers()
        super()._give_up(failure, example, now_ns)

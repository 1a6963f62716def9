"""gRPC streaming: requests go over bidirectional streams that live on, each may be answered several times.

Every slot has a stream of its own with one request on its way, so an answer needs no id to find its request. After an
error or a timeout the stream is reset: what may still come on it belongs to a request that is over.
"""

import asyncio
from collections.abc import Callable, Iterator
from struct import iter_unpack, unpack_from
from typing import Any, cast

from hpack import HPACKError

from perf_client.record import OK, Recorder
from perf_client.target import Target
from perf_client.transports import http2
from perf_client.transports.base import BadAnswer, Clock, Owner, loss_failure, unanswered
from perf_client.transports.conversation import Conversation, StreamError
from perf_client.transports.dial import Dial
from perf_client.transports.http2 import END_STREAM, FRAME_HEADER, FRAME_LIMIT, GrpcRequest, HeaderBlocks, HeaderPieces
from perf_client.transports.stream_flow import StreamWindows

_CONNECT_TIMEOUT_S = 10.0
_LAST_STREAM = 2**31 - 1
_REPLENISH_BYTES = 1 << 29


class StreamConnection(asyncio.Protocol):
    """One HTTP/2 connection with a stream for each slot. It is usable once the peer's settings have come."""

    def __init__(self, capacity: int, requests: Iterator[Any], owner: Owner, recorder: Recorder, clock: Clock) -> None:
        self.capacity = capacity
        self.in_flight = 0
        self.usable = False
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._next_request: Callable[[], GrpcRequest] = requests.__next__
        self._owner = owner
        self._recorder = recorder
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._open = False
        self._conversations: dict[int, Conversation] = {}
        self._idle: list[Conversation] = []
        self._next_stream = 1
        self._headers = HeaderBlocks()
        self._pieces = HeaderPieces()
        self._windows = StreamWindows()
        self._rest = b""
        self._consumed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._transport = transport
        self._open = True
        self._write: Callable[[bytes], object] = transport.write
        self._write(http2.client_start())

    def send(self, scheduled_ns: int = 0) -> None:
        sent_ns = self._clock()
        request = self._next_request()
        head = b""
        if self._idle:
            conversation = self._idle.pop()
        else:
            conversation = self._new_conversation()
            head = request.headers(conversation.stream)
        conversation.begin(scheduled_ns or sent_ns, sent_ns)
        self.in_flight += 1
        self._write(head + self._windows.send(conversation.stream, request.message()))

    def _new_conversation(self) -> Conversation:
        conversation = Conversation(self._next_stream)
        self._next_stream += 2
        self._conversations[conversation.stream] = conversation
        self._windows.open(conversation.stream)
        if self._next_stream > _LAST_STREAM:
            self.usable = False
        return conversation

    def data_received(self, data: bytes) -> None:
        now_ns = self._clock()
        if self._rest:
            data = self._rest + data
        # What the answers let leave goes out in one write: the loop would make a system call of each.
        outgoing: list[bytes] = []
        self._write = outgoing.append
        try:
            self._rest = data[self._frames(data, now_ns) :]
        except (BadAnswer, HPACKError) as error:
            self._fail_all("bad answer", str(error), now_ns)
            return
        if self._open and self._transport is not None:
            self._write = self._transport.write
            if outgoing:
                self._write(b"".join(outgoing))

    def _frames(self, data: bytes, now_ns: int) -> int:
        """Take all whole frames; where they end."""
        position = 0
        while len(data) - position >= FRAME_HEADER.size:
            high, low, kind, flags, stream = FRAME_HEADER.unpack_from(data, position)
            begin = position + FRAME_HEADER.size
            end = begin + (high << 8 | low)
            if end > len(data):
                if end - begin > FRAME_LIMIT:
                    raise BadAnswer("not HTTP/2: a frame larger than was allowed")
                break
            position = end
            if kind == http2.DATA:
                self._data(stream, flags, data[begin:end], now_ns)
            elif kind in (http2.HEADERS, http2.CONTINUATION):
                whole = self._pieces.add(kind, flags, stream, data[begin:end])
                if whole is not None:
                    self._header_block(stream, *whole, now_ns)
            else:
                self._rare_frame(kind, flags, stream, data[begin:end], now_ns)
        return position

    def _data(self, stream: int, flags: int, payload: bytes, now_ns: int) -> None:
        self._consumed += len(payload)
        if self._consumed >= _REPLENISH_BYTES:
            self._write(http2.window_update(0, self._consumed))
            self._consumed = 0
        conversation = self._conversations.get(stream)
        if conversation is None:
            return
        conversation.consumed += len(payload)
        if conversation.consumed >= _REPLENISH_BYTES:
            self._write(http2.window_update(stream, conversation.consumed))
            conversation.consumed = 0
        try:
            final = conversation.take(http2.unpadded(payload, flags), now_ns)
        except StreamError as error:
            self._end(conversation, "stream error", str(error), now_ns)
        except BadAnswer as error:
            self._end(conversation, "bad answer", str(error), now_ns)
        else:
            if flags & END_STREAM:
                self._end(conversation, "bad answer", "the stream has no trailers", now_ns)
            elif final:
                self._succeed(conversation, now_ns)

    def _header_block(self, stream: int, flags: int, block: bytes, now_ns: int) -> None:
        headers = self._headers.known.get(block) or self._headers.decode(block)
        conversation = self._conversations.get(stream)
        if conversation is None:
            return
        if flags & END_STREAM:
            failure, example = http2.failure_of(headers)
            if headers.grpc_status == 0:
                example = "the stream ended before the last answer"
            self._end(conversation, failure, example, now_ns, reset=False)
        elif headers.http_status is not None and headers.http_status != 200:
            self._end(conversation, f"http {headers.http_status}", "", now_ns)

    def _rare_frame(self, kind: int, flags: int, stream: int, payload: bytes, now_ns: int) -> None:
        match kind:
            case http2.SETTINGS if not flags & http2.ACK:
                self._settings(payload)
            case http2.PING if not flags & http2.ACK:
                self._write(http2.frame(http2.PING, http2.ACK, 0, payload))
            case http2.WINDOW_UPDATE if len(payload) == 4:
                self._windows.widen(stream, unpack_from(">I", payload)[0] & _LAST_STREAM)
                self._write(self._windows.release())
            case http2.RST_STREAM if len(payload) == 4 and stream in self._conversations:
                failure = http2.reset_class(unpack_from(">I", payload)[0])
                self._end(self._conversations[stream], failure, "the stream was reset", now_ns, reset=False)
            case http2.GOAWAY if len(payload) >= 8:
                self._going_away(unpack_from(">I", payload)[0] & _LAST_STREAM, now_ns)

    def _settings(self, payload: bytes) -> None:
        if len(payload) % 6:
            raise BadAnswer("not HTTP/2: torn settings")
        for name, value in iter_unpack(">HI", payload):
            if name == http2.SETTINGS_INITIAL_WINDOW_SIZE:
                self._windows.change_initial(value)
            elif name == http2.SETTINGS_MAX_CONCURRENT_STREAMS and not self.settled.done():
                self.capacity = max(1, min(self.capacity, value))
        self._write(http2.frame(http2.SETTINGS, http2.ACK, 0) + self._windows.release())
        if not self.settled.done():
            self.usable = True
            self.settled.set_result(None)

    def _going_away(self, last_stream: int, now_ns: int) -> None:
        self.usable = False
        for conversation in [each for each in self._conversations.values() if each.stream > last_stream]:
            self._end(conversation, "connection closed", "the server goes away", now_ns, reset=False)
        if not self.in_flight:
            self._leave()

    def _succeed(self, conversation: Conversation, now_ns: int) -> None:
        conversation.in_flight = False
        self.in_flight -= 1
        self._idle.append(conversation)
        self._recorder.add_answers(conversation.answers_ns)
        self._recorder.add(conversation.scheduled_ns, conversation.sent_ns, conversation.first_byte_ns, now_ns, OK)
        self._go_on(now_ns)

    def _end(self, conversation: Conversation, failure: str, example: str, now_ns: int, *, reset: bool = True) -> None:
        """The stream is over, and the request on it has failed. Other requests get a new stream."""
        del self._conversations[conversation.stream]
        self._windows.forget(conversation.stream)
        if reset:
            self._write(http2.reset(conversation.stream, http2.CANCEL))
        if not conversation.in_flight:
            self._idle.remove(conversation)
            return
        conversation.in_flight = False
        self.in_flight -= 1
        self._note_failure(conversation, failure, example, now_ns)
        self._go_on(now_ns)

    def _note_failure(self, conversation: Conversation, failure: str, example: str, now_ns: int) -> None:
        code = self._recorder.code(failure, example)
        self._recorder.add_answers(conversation.answers_ns)
        self._recorder.add(conversation.scheduled_ns, conversation.sent_ns, conversation.first_byte_ns, now_ns, code)

    def _go_on(self, now_ns: int) -> None:
        if self.usable:
            self._owner.ready(self, now_ns)
        elif not self.in_flight:
            self._leave()

    def _fail_all(self, failure: str, example: str, now_ns: int) -> None:
        """The connection is of no more use: everything in flight has failed."""
        waiting = [each for each in self._conversations.values() if each.in_flight]
        self._conversations.clear()
        self._idle.clear()
        self.in_flight = 0
        for conversation in waiting:
            self._note_failure(conversation, failure, example, now_ns)
        if not self.settled.done():
            self.settled.set_exception(ConnectionResetError(example or failure))
        self._leave()

    def _leave(self) -> None:
        if self._open:
            self.close()
            if not self.settled.exception():
                self._owner.lost(self)

    def expire(self, sent_before_ns: int, now_ns: int, failure: str = "timeout") -> None:
        waiting = [each for each in self._conversations.values() if each.in_flight]
        for conversation in waiting:
            if conversation.sent_ns < sent_before_ns:
                self._end(conversation, failure, unanswered(conversation.sent_ns, now_ns), now_ns)

    def close(self) -> None:
        self._open = self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._open:
            self._fail_all(*loss_failure(exc), self._clock())


class StreamTransport:
    """Opens such connections, which share one pool of requests."""

    def __init__(self, target: Target, requests: Iterator[Any], clock: Clock, slots_per_connection: int) -> None:
        self.slots_per_connection = slots_per_connection
        self._dial = Dial(target)
        self._requests = requests
        self._clock = clock

    async def connect(self, capacity: int, owner: Owner, recorder: Recorder) -> StreamConnection:
        connection = await self._dial.connect(
            lambda: StreamConnection(capacity, self._requests, owner, recorder, self._clock)
        )
        try:
            await asyncio.wait_for(connection.settled, _CONNECT_TIMEOUT_S)
        except BaseException:
            connection.close()
            raise
        return connection

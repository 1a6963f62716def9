"""gRPC streaming: requests go over bidirectional streams that live on, each may be answered several times.

Every slot has a stream of its own with one request on its way, so an answer needs no id to find its request. After an
error or a timeout the stream is reset: what may still come on it belongs to a request that is over.
"""

from collections.abc import Iterator
from typing import Any

from perf_client.record import OK, Recorder
from perf_client.transports import http2
from perf_client.transports.base import BadAnswer, Clock, Owner, unanswered
from perf_client.transports.conversation import Conversation, StreamError
from perf_client.transports.http2 import END_STREAM, FRAME_HEADER, FRAME_LIMIT, GrpcRequest
from perf_client.transports.http2_connection import LAST_STREAM, REPLENISH_BYTES, Http2Connection
from perf_client.transports.stream_flow import StreamWindows


class StreamConnection(Http2Connection):
    """A stream for each slot."""

    def __init__(self, capacity: int, requests: Iterator[Any], owner: Owner, recorder: Recorder, clock: Clock) -> None:
        super().__init__(capacity, requests, owner, recorder, clock)
        self._conversations: dict[int, Conversation] = {}
        self._idle: list[Conversation] = []
        self._windows: StreamWindows = StreamWindows()

    def send(self, scheduled_ns: int = 0) -> None:
        sent_ns = self._clock()
        self._ask(self._next_request(), scheduled_ns or sent_ns, sent_ns)

    def _ask(self, request: GrpcRequest, scheduled_ns: int, sent_ns: int) -> Conversation:
        head = b""
        if self._idle:
            conversation = self._idle.pop()
        else:
            conversation = self._begun(self._next_stream)
            head = request.headers(conversation.stream)
        conversation.begin(scheduled_ns, sent_ns)
        self.in_flight += 1
        self._write(head + self._windows.send(conversation.stream, request.message()))
        return conversation

    def _begun(self, stream: int) -> Conversation:
        conversation = self._new_conversation(stream)
        self._next_stream = stream + 2
        self._conversations[stream] = conversation
        self._windows.open(stream)
        if self._next_stream > LAST_STREAM:
            self.usable = False
        return conversation

    def _new_conversation(self, stream: int) -> Conversation:
        return Conversation(stream)

    def _outcome(self, conversation: Conversation) -> int:
        """The code of a request whose last answer has come."""
        return OK

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
            else:
                self._rare_frame(kind, flags, stream, data[begin:end], now_ns)
        return position

    def _data(self, stream: int, flags: int, payload: bytes, now_ns: int) -> None:
        self._consumed += len(payload)
        conversation = self._conversations.get(stream)
        if conversation is None:
            return
        conversation.consumed += len(payload)
        if conversation.consumed >= REPLENISH_BYTES:
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

    def _reset(self, stream: int, error_code: int, now_ns: int) -> None:
        if (conversation := self._conversations.get(stream)) is not None:
            self._end(conversation, http2.reset_class(error_code), "the stream was reset", now_ns, reset=False)

    def _fail_above(self, last_stream: int, failure: str, example: str, now_ns: int) -> None:
        for conversation in [each for each in self._conversations.values() if each.stream > last_stream]:
            self._forget(conversation)
            if conversation.in_flight:
                self._record(conversation, self._recorder.code(failure, example), now_ns)

    def _succeed(self, conversation: Conversation, now_ns: int) -> None:
        self._idle.append(conversation)
        self._record(conversation, self._outcome(conversation), now_ns)
        self._go_on(now_ns)

    def _end(self, conversation: Conversation, failure: str, example: str, now_ns: int, *, reset: bool = True) -> None:
        """The stream is over, and the request on it has failed. Other requests get a new stream."""
        self._forget(conversation)
        if reset:
            self._write(http2.reset(conversation.stream, http2.CANCEL))
        if conversation.in_flight:
            self._record(conversation, self._recorder.code(failure, example), now_ns)
            self._go_on(now_ns)

    def _forget(self, conversation: Conversation) -> None:
        del self._conversations[conversation.stream]
        self._windows.forget(conversation.stream)
        if not conversation.in_flight:
            self._idle.remove(conversation)

    def _record(self, conversation: Conversation, code: int, now_ns: int) -> None:
        conversation.in_flight = False
        self.in_flight -= 1
        self._recorder.add_answers(conversation.answers_ns)
        self._recorder.add(conversation.scheduled_ns, conversation.sent_ns, conversation.first_byte_ns, now_ns, code)

    def expire(self, sent_before_ns: int, now_ns: int, failure: str = "timeout") -> None:
        waiting = [each for each in self._conversations.values() if each.in_flight]
        for conversation in waiting:
            if conversation.sent_ns < sent_before_ns:
                self._end(conversation, failure, unanswered(conversation.sent_ns, now_ns), now_ns)

"""One HTTP/2 connection that carries gRPC calls: encoded beforehand, several at a time, answers only counted."""

import asyncio
from collections.abc import Iterator
from typing import Any

from perf_client.record import NEVER, OK, Recorder
from perf_client.transports import http2
from perf_client.transports.base import BadAnswer, Clock, Owner, unanswered
from perf_client.transports.call import Call, KeptCall, ReadCall
from perf_client.transports.flow import SendWindows
from perf_client.transports.http2 import (
    DATA,
    END_STREAM,
    FRAME_LIMIT,
    HEADERS,
    WINDOW_UPDATE,
    GrpcRequest,
)
from perf_client.transports.http2_connection import LAST_STREAM, Http2Connection
from perf_client.transports.known_answer import KnownAnswer, learn

_PREFIX_BYTES = 5
_unpack_frame_header = http2.FRAME_HEADER.unpack_from
_REFUSALS_TAKEN = 100
"""In a row, without an answer between them: more than that is no passing shortage of streams."""

_WHOLE_BLOCK = http2.END_HEADERS
_BLOCK_FLAGS = _WHOLE_BLOCK | http2.PADDED | http2.PRIORITY


class GrpcConnection(Http2Connection):
    """Each call is a stream of its own."""

    def __init__(self, capacity: int, requests: Iterator[Any], owner: Owner, recorder: Recorder, clock: Clock) -> None:
        super().__init__(capacity, requests, owner, recorder, clock)
        self._record = recorder.add
        self._calls: dict[int, Call] = {}
        self._known_headers = self._headers.known
        self._known_answer: KnownAnswer | None = None
        self._refusals = 0
        self._windows: SendWindows = SendWindows()

    def send(self, scheduled_ns: int = 0) -> None:
        sent_ns = self._clock()
        self._start(Call(self._next_request(), scheduled_ns or sent_ns, sent_ns))

    def call(self, request: GrpcRequest) -> "asyncio.Future[bytes]":
        """Send a request whose answer is wanted: its message, or CallFailed."""
        call = ReadCall(request, self._clock())
        self._start(call)
        return call.done

    def _start(self, call: Call) -> None:
        request = call.request
        stream = self._next_stream
        self._next_stream = stream + 2
        self.in_flight += 1
        self._calls[stream] = call
        if self._windows.take(request):
            self._write(stream.to_bytes(4, "big").join(request.parts))
        else:
            self._write(request.headers(stream))
            self._windows.wait(stream, request)
            self._write(self._windows.release())
        if self._next_stream > LAST_STREAM:
            self.usable = False

    def _frames(self, data: bytes, now_ns: int) -> int:
        """Take all whole frames; where they end."""
        size = len(data)
        position = 0
        known = self._known_answer
        while size - position >= 9:
            high, low, kind, flags, stream = _unpack_frame_header(data, position)
            begin = position + 9
            end = begin + (high << 8 | low)
            if end > size:
                if end - begin > FRAME_LIMIT:
                    raise BadAnswer("not HTTP/2: a frame larger than was allowed")
                break
            if kind == HEADERS and flags & _BLOCK_FLAGS == _WHOLE_BLOCK:
                if known is not None and known.lies_at(data, position) and self._take_known(known, stream, now_ns):
                    position += known.size
                    continue
                self._header_block(stream, flags, data[begin:end], now_ns)
                known = self._known_answer
                if known is None and not flags & END_STREAM:
                    self._known_answer = learn(data, position, self._known_headers)
            elif kind == DATA:
                self._data(stream, flags, data[begin:end], now_ns)
            elif kind == WINDOW_UPDATE and end - begin == 4:
                self._window_update(stream, data[begin:end])
            else:
                self._rare_frame(kind, flags, stream, data[begin:end], now_ns)
            position = end
        return position

    def _take_known(self, known: KnownAnswer, stream: int, now_ns: int) -> bool:
        """Count an answer like the last ones, unless its call is one that is read, or given up."""
        call = self._calls.get(stream)
        if call.__class__ is not Call:
            return False
        self._consumed += known.message_bytes
        call.first_byte_ns = now_ns
        self._succeed(stream, call, now_ns)
        return True

    def _data(self, stream: int, flags: int, payload: bytes, now_ns: int) -> None:
        self._consumed += len(payload)
        call = self._calls.get(stream)
        if call is None:
            return
        call.message_bytes += len(payload)
        if isinstance(call, KeptCall):
            call.body += http2.unpadded(payload, flags)
        if flags & END_STREAM:
            self._fail(stream, call, "bad answer", "the answer has no trailers", now_ns)

    def _header_block(self, stream: int, flags: int, block: bytes, now_ns: int) -> None:
        headers = self._known_headers.get(block)
        if headers is None:
            headers = self._headers.decode(block)
            self._known_answer = None  # the table that its blocks refer to may have changed
        call = self._calls.get(stream)
        if call is None:
            return
        if call.first_byte_ns == NEVER:
            call.first_byte_ns = now_ns
        if flags & END_STREAM:
            if headers.grpc_status == 0 and call.message_bytes >= _PREFIX_BYTES:
                self._refusals = 0
                self._succeed(stream, call, now_ns)
            else:
                self._fail(stream, call, *http2.failure_of(headers), now_ns)
        elif headers.http_status is not None and headers.http_status != 200:
            self._write(http2.reset(stream, http2.CANCEL))
            self._fail(stream, call, f"http {headers.http_status}", "", now_ns)

    def _reset(self, stream: int, error_code: int, now_ns: int) -> None:
        """A refused stream was not looked at, so it is tried again, as every gRPC client does (RFC 9113, 8.7)."""
        call = self._calls.get(stream)
        if call is None:
            return
        if error_code == http2.REFUSED_STREAM and self.usable and self._refusals < _REFUSALS_TAKEN:
            self._refusals += 1
            self._forget(stream)
            self._start(call)
        else:
            self._fail(stream, call, http2.reset_class(error_code), "the stream was reset", now_ns)

    def _fail_above(self, last_stream: int, failure: str, example: str, now_ns: int) -> None:
        for stream, call in [item for item in self._calls.items() if item[0] > last_stream]:
            self._forget(stream)
            self._note_failure(call, failure, example, now_ns)

    def _succeed(self, stream: int, call: Call, now_ns: int) -> None:
        del self._calls[stream]
        self.in_flight -= 1
        if self._windows.waiting:  # answered before the whole message was sent
            self._windows.forget(stream)
        if not isinstance(call, KeptCall):
            self._record(call.scheduled_ns, call.sent_ns, call.first_byte_ns, now_ns, OK)
        else:
            call.succeed(now_ns)
        if self.usable:
            self._owner.ready(self, now_ns)
        elif not self.in_flight:
            self._leave()

    def _fail(self, stream: int, call: Call, failure: str, example: str, now_ns: int) -> None:
        self._forget(stream)
        self._note_failure(call, failure, example, now_ns)
        self._go_on(now_ns)

    def _forget(self, stream: int) -> None:
        del self._calls[stream]
        self.in_flight -= 1
        self._windows.forget(stream)

    def _note_failure(self, call: Call, failure: str, example: str, now_ns: int) -> None:
        if not isinstance(call, KeptCall):
            code = self._recorder.code(failure, example)
            self._record(call.scheduled_ns, call.sent_ns, call.first_byte_ns, now_ns, code)
        else:
            call.fail(failure, example, now_ns)

    def expire(self, sent_before_ns: int, now_ns: int, failure: str = "timeout") -> None:
        late = [(stream, call) for stream, call in self._calls.items() if call.sent_ns < sent_before_ns]
        for stream, call in late:
            self._write(http2.reset(stream, http2.CANCEL))
            self._fail(stream, call, failure, unanswered(call.sent_ns, now_ns), now_ns)

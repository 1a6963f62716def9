"""One HTTP/2 connection that carries gRPC calls: encoded beforehand, several at a time, answers only counted."""

import asyncio
from collections.abc import Callable, Iterator
from struct import iter_unpack, unpack_from
from typing import Any, cast

from hpack import HPACKError

from perf_client.record import NEVER, OK, Recorder
from perf_client.transports import http2
from perf_client.transports.base import BadAnswer, Clock, Owner, loss_failure, unanswered
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
from perf_client.transports.known_answer import KnownAnswer, learn

_LAST_STREAM = 2**31 - 1
_REPLENISH_BYTES = 1 << 29
_PREFIX_BYTES = 5
_unpack_frame_header = http2.FRAME_HEADER.unpack_from
_REFUSALS_TAKEN = 100
"""In a row, without an answer between them: more than that is no passing shortage of streams."""

_WHOLE_BLOCK = http2.END_HEADERS
_BLOCK_FLAGS = _WHOLE_BLOCK | http2.PADDED | http2.PRIORITY


class GrpcConnection(asyncio.Protocol):
    """One HTTP/2 connection. It is usable once the peer's settings have come."""

    def __init__(self, capacity: int, requests: Iterator[Any], owner: Owner, recorder: Recorder, clock: Clock) -> None:
        self.capacity = capacity
        self.in_flight = 0
        self.usable = False
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._next_request = requests.__next__
        self._owner = owner
        self._recorder = recorder
        self._record = recorder.add
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._open = False
        self._calls: dict[int, Call] = {}
        self._next_stream = 1
        self._headers = http2.HeaderBlocks()
        self._known_headers = self._headers.known
        self._known_answer: KnownAnswer | None = None
        self._rest = b""
        self._pieces = http2.HeaderPieces()
        self._consumed = 0
        self._refusals = 0
        self._windows = SendWindows()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._transport = transport
        self._open = True
        self._write: Callable[[bytes], object] = transport.write
        self._write(http2.client_start())

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
        if self._next_stream > _LAST_STREAM:
            self.usable = False

    def data_received(self, data: bytes) -> None:
        now_ns = self._clock()
        if self._rest:
            data = self._rest + data
        # What the answers let leave goes out in one write: the loop would make a system call of each.
        outgoing: list[bytes] = []
        self._write = outgoing.append
        try:
            position = self._frames(data, now_ns)
        except (BadAnswer, HPACKError) as error:
            self._fail_all("bad answer", str(error), now_ns)
            return
        self._rest = data[position:]
        if self._consumed >= _REPLENISH_BYTES:
            outgoing.append(http2.window_update(0, self._consumed))
            self._consumed = 0
        if self._open and self._transport is not None:
            self._write = self._transport.write
            if outgoing:
                self._write(b"".join(outgoing))

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

    def _window_update(self, stream: int, payload: bytes) -> None:
        self._windows.widen(stream, unpack_from(">I", payload)[0] & _LAST_STREAM)
        if self._windows.waiting:
            self._write(self._windows.release())

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

    def _rare_frame(self, kind: int, flags: int, stream: int, payload: bytes, now_ns: int) -> None:
        match kind:
            case http2.SETTINGS if not flags & http2.ACK:
                self._settings(payload)
            case http2.PING if not flags & http2.ACK:
                self._write(http2.frame(http2.PING, http2.ACK, 0, payload))
            case http2.RST_STREAM if len(payload) == 4:
                self._reset(stream, unpack_from(">I", payload)[0], now_ns)
            case http2.GOAWAY if len(payload) >= 8:
                self._going_away(unpack_from(">I", payload)[0] & _LAST_STREAM, now_ns)
            case http2.HEADERS | http2.CONTINUATION:
                whole = self._pieces.add(kind, flags, stream, payload)
                if whole is not None:
                    self._header_block(stream, whole[0], whole[1], now_ns)

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

    def _reset(self, stream: int, error_code: int, now_ns: int) -> None:
        """A refused stream was not looked at, so it is tried again, as every gRPC client does (RFC 9113, 8.7)."""
        call = self._calls.get(stream)
        if call is None:
            return
        if error_code == http2.REFUSED_STREAM and self.usable and self._refusals < _REFUSALS_TAKEN:
            self._refusals += 1
            del self._calls[stream]
            self.in_flight -= 1
            self._windows.forget(stream)
            self._start(call)
        else:
            self._fail(stream, call, http2.reset_class(error_code), "the stream was reset", now_ns)

    def _going_away(self, last_stream: int, now_ns: int) -> None:
        self.usable = False
        for stream, call in [item for item in self._calls.items() if item[0] > last_stream]:
            self._fail(stream, call, "connection closed", "the server goes away", now_ns)
        if not self.in_flight:
            self._leave()

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
        del self._calls[stream]
        self.in_flight -= 1
        self._windows.forget(stream)
        self._note_failure(call, failure, example, now_ns)
        if self.usable:
            self._owner.ready(self, now_ns)
        elif not self.in_flight:
            self._leave()

    def _note_failure(self, call: Call, failure: str, example: str, now_ns: int) -> None:
        if not isinstance(call, KeptCall):
            code = self._recorder.code(failure, example)
            self._record(call.scheduled_ns, call.sent_ns, call.first_byte_ns, now_ns, code)
        else:
            call.fail(failure, example, now_ns)

    def _fail_all(self, failure: str, example: str, now_ns: int) -> None:
        """The connection is of no more use: everything in flight has failed."""
        calls = list(self._calls.values())
        self._calls.clear()
        self.in_flight = 0
        for call in calls:
            self._note_failure(call, failure, example, now_ns)
        if not self.settled.done():
            self.settled.set_exception(ConnectionResetError(example or failure))
        self._leave()

    def _leave(self) -> None:
        if self._open:
            self.close()
            if not self.settled.exception():
                self._owner.lost(self)

    def expire(self, sent_before_ns: int, now_ns: int, failure: str = "timeout") -> None:
        late = [(stream, call) for stream, call in self._calls.items() if call.sent_ns < sent_before_ns]
        for stream, call in late:
            self._write(http2.reset(stream, http2.CANCEL))
            self._fail(stream, call, failure, unanswered(call.sent_ns, now_ns), now_ns)

    def close(self) -> None:
        self._open = self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._open:
            self._fail_all(*loss_failure(exc), self._clock())

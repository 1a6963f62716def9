"""HTTP/2 connections, server side: frames, header blocks, flow control both ways. ``Calls`` says what streams mean."""

import asyncio
import logging
from typing import Generic, Protocol, TypeVar, cast

from analyzer.runtime.frame_reader import FrameReader, unary_call
from analyzer.runtime.frames import (
    DEFAULT_WINDOW_BYTES,
    WINDOW_LIMIT_BYTES,
    Code,
    ConnectionFault,
    Flag,
    Kind,
    Setting,
    WholeAnswer,
    frame_head,
    go_away_frame,
    read_settings,
    reset_frame,
    settings_frame,
    unpadded,
    window_update_frame,
)
from analyzer.runtime.header_memo import HEADERS_LIMIT_BYTES, HeaderBlockError, HeaderMemo, Headers
from analyzer.runtime.outbox import Outbox
from analyzer.runtime.wire import Buffer

_FRAME_LIMIT_BYTES = 64 * 1024  # copies of 128 KiB and more can make malloc map and unmap memory each time
_STREAM_WINDOW_BYTES = 8 * 2**20
_CONNECTION_WINDOW_BYTES = 64 * 2**20
_STREAM_LIMIT = 1024
_JOIN_LIMIT_BYTES = 64 * 1024
_HELLO = settings_frame(
    {
        Setting.MAX_CONCURRENT_STREAMS: _STREAM_LIMIT,
        Setting.INITIAL_WINDOW_SIZE: _STREAM_WINDOW_BYTES,
        Setting.MAX_FRAME_SIZE: _FRAME_LIMIT_BYTES,
    }
) + window_update_frame(0, _CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW_BYTES)
_H = TypeVar("_H")
log = logging.getLogger(__name__)


class Call(Protocol):
    """The receiving half of one stream."""

    unacknowledged_bytes: int

    def data(self, payload: bytes, end: bool) -> None: ...

    def cancel(self) -> None: ...


class Calls(Protocol[_H]):
    """Makes calls out of streams. ``read`` is pure: what it makes of a header block is remembered."""

    connections: "set[Http2Connection[_H]]"

    def read(self, headers: Headers) -> _H: ...

    def begin(self, connection: "Http2Connection[_H]", stream_id: int, head: _H) -> Call: ...


class Http2Connection(asyncio.Protocol, Generic[_H]):
    """The frames of one client. Streams leave ``streams`` when their answer is complete or they are reset."""

    def __init__(self, calls: Calls[_H]) -> None:
        self._calls = calls
        self._transport: asyncio.Transport | None = None
        self._memo: HeaderMemo[_H] = HeaderMemo(calls.read)
        self._outbox = Outbox()
        self._reader = FrameReader(_FRAME_LIMIT_BYTES)
        self._streams: dict[int, Call] = {}
        self._last_id = 0
        self._block: tuple[int, int, bytes] | None = None  # stream, flags and fragments of an unfinished header block
        self._unacknowledged_bytes = 0
        self._draining = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has a class of its own
        self._calls.connections.add(self)
        self._transport.write(_HELLO)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._calls.connections.discard(self)
        for call in self._streams.values():
            call.cancel()
        self._streams.clear()

    def pause_writing(self) -> None:
        """A client that does not read is not listened to either, so what waits for it stays bounded."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        try:
            if self._reader.is_between_frames and self._block is None:
                data = self._unary_calls(data)
            for kind, flags, stream_id, payload in self._reader.feed(data):
                if self._transport is not None:
                    self._frame(kind, flags, stream_id, payload)
        except ConnectionFault as fault:
            self._go_away(fault)

    def drain(self) -> None:
        """Takes no new streams, and closes when those under way are answered."""
        self._draining = True
        self._write([go_away_frame(self._last_id, Code.NO_ERROR, "server is shutting down")])
        self._close_if_done()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def respond(self, stream_id: int, answer: WholeAnswer, length: int, parts: list[Buffer]) -> None:
        """All of an answer at once, ``parts`` being the ``length`` bytes of its data."""
        if self._streams.pop(stream_id, None) is None:
            return
        number = stream_id.to_bytes(4, "big")
        opening = answer.headers_start, number, answer.headers
        ending = answer.trailers_start, number, answer.trailers
        if length <= _JOIN_LIMIT_BYTES and self._outbox.fits(stream_id, length):
            if self._transport is not None:
                data_start = (length << 16).to_bytes(5, "big")
                self._transport.write(b"".join((*opening, data_start, number, *parts, *ending)))
        else:
            self._write([*opening, *self._outbox.send(stream_id, parts, b"".join(ending))])
        if self._draining:
            self._close_if_done()

    def send(self, stream_id: int, head: bytes, parts: list[Buffer]) -> None:
        """One message of an answer that goes on; ``head`` is empty once the headers are out."""
        if stream_id in self._streams:
            self._write([head, *self._outbox.send(stream_id, parts)])

    def finish(self, stream_id: int, trailers: bytes, *, reset: bool = False) -> None:
        """Trailers behind all that was sent; ``reset`` tells a client that is still sending to stop."""
        if self._streams.pop(stream_id, None) is None:
            return
        frames = self._outbox.send(stream_id, [], trailers)
        if reset:
            frames.append(reset_frame(stream_id, Code.NO_ERROR))
        self._write(frames)
        self._close_if_done()

    def _write(self, frames: list[Buffer]) -> None:
        if self._transport is None or not frames:
            return
        if sum(map(len, frames)) <= _JOIN_LIMIT_BYTES:
            self._transport.write(b"".join(frames))
        else:
            self._transport.writelines(frames)

    def _close_if_done(self) -> None:
        if self._draining and not self._streams and not self._outbox.waiting_count and self._transport is not None:
            self._transport.close()

    def _go_away(self, fault: ConnectionFault) -> None:
        if self._transport is not None:
            log.debug("HTTP/2 connection closed: %s", fault)
            self._transport.write(go_away_frame(self._last_id, fault.code, str(fault)))
            self._transport.close()

    def _unary_calls(self, data: bytes) -> bytes:
        """Runs the calls that ``data`` begins with, as far as they are whole. Returns what is left."""
        offset = 0
        while (found := unary_call(data, offset, _FRAME_LIMIT_BYTES)) is not None and self._transport is not None:
            stream_id, block, payload, offset = found
            self._open(Flag.END_HEADERS, stream_id, block)
            self._acknowledge(len(payload))
            if (call := self._streams.get(stream_id)) is not None:
                call.data(payload, True)
        return data[offset:]

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and (kind != Kind.CONTINUATION or stream_id != self._block[0]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block was interrupted by another frame")
        match kind:
            case Kind.DATA:
                self._on_data(flags, stream_id, payload)
            case Kind.HEADERS:
                self._on_headers(flags, stream_id, payload)
            case Kind.WINDOW_UPDATE:
                self._on_window_update(stream_id, payload)
            case Kind.PING:
                self._on_ping(flags, stream_id, payload)
            case Kind.SETTINGS:
                self._on_settings(flags, stream_id, payload)
            case Kind.RST_STREAM:
                self._on_reset(stream_id, payload)
            case Kind.CONTINUATION:
                self._on_continuation(flags, payload)
            case Kind.PUSH_PROMISE:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a client can't push")
            case _:
                pass  # PRIORITY and GOAWAY ask nothing of us; unknown frames are to be ignored

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        received = len(payload)
        if flags & Flag.PADDED:
            payload = unpadded(payload)
        self._acknowledge(received)
        call = self._streams.get(stream_id)
        if call is None:
            if stream_id == 0 or stream_id > self._last_id:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "DATA on a stream that was never opened")
            return  # answered or reset meanwhile
        if not flags & Flag.END_STREAM:
            call.unacknowledged_bytes += received
            if call.unacknowledged_bytes >= _STREAM_WINDOW_BYTES // 2:
                self._write([window_update_frame(stream_id, call.unacknowledged_bytes)])
                call.unacknowledged_bytes = 0
        call.data(payload, bool(flags & Flag.END_STREAM))

    def _acknowledge(self, count: int) -> None:
        self._unacknowledged_bytes += count
        if self._unacknowledged_bytes >= _CONNECTION_WINDOW_BYTES // 2:
            self._write([window_update_frame(0, self._unacknowledged_bytes)])
            self._unacknowledged_bytes = 0

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & Flag.PADDED:
            payload = unpadded(payload)
        if flags & Flag.PRIORITY:
            payload = payload[5:]
        if flags & Flag.END_HEADERS:
            self._open(flags, stream_id, payload)
        else:
            self._block = stream_id, flags, payload

    def _on_continuation(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION without a header block before it")
        stream_id, first_flags, block = self._block
        block += payload
        if len(block) > HEADERS_LIMIT_BYTES:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "the header block is too large")
        self._block = stream_id, first_flags, block
        if flags & Flag.END_HEADERS:
            self._block = None
            self._open(first_flags, stream_id, block)

    def _open(self, flags: int, stream_id: int, block: bytes) -> None:
        try:
            head = self._memo.decode(block)
        except HeaderBlockError as error:
            raise ConnectionFault(Code.COMPRESSION_ERROR, f"header block can't be decoded: {error}") from None
        call = self._streams.get(stream_id)
        if call is not None:  # trailers of the request, which gRPC does not use
            if not flags & Flag.END_STREAM:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "trailers must end their stream")
            call.data(b"", True)
            return
        if stream_id <= self._last_id or not stream_id & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}, which can't be opened now")
        if self._draining or len(self._streams) + self._outbox.waiting_count >= _STREAM_LIMIT:
            self._last_id = stream_id
            self._write([reset_frame(stream_id, Code.REFUSED_STREAM)])
            return
        self._last_id = stream_id
        call = self._streams[stream_id] = self._calls.begin(self, stream_id, head)
        if flags & Flag.END_STREAM:
            call.data(b"", True)

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        increment = int.from_bytes(payload, "big") & WINDOW_LIMIT_BYTES
        if len(payload) != 4 or not increment:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "malformed WINDOW_UPDATE")
        if stream_id == 0 or stream_id in self._streams or self._outbox.is_waiting(stream_id):
            self._write(self._outbox.grant(stream_id, increment))
            self._close_if_done()

    def _on_ping(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id or len(payload) != 8:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "malformed PING")
        if not flags & Flag.ACK:
            self._write([frame_head(8, Kind.PING, Flag.ACK, 0) + payload])

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & Flag.ACK:
            return
        frames = self._outbox.obey(read_settings(payload))
        self._write([frame_head(0, Kind.SETTINGS, Flag.ACK, 0), *frames])

    def _on_reset(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4 or stream_id == 0 or stream_id > self._last_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "malformed RST_STREAM")
        self._outbox.forget(stream_id)
        call = self._streams.pop(stream_id, None)
        if call is not None:
            call.cancel()
        self._close_if_done()

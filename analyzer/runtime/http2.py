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
    check_frame,
    frame_head,
    go_away_frame,
    read_settings,
    reset_frame,
    settings_frame,
    unpadded,
    window_update_frame,
    without_priority,
)
from analyzer.runtime.header_memo import HEADERS_LIMIT_BYTES, HeaderBlockError, HeaderMemo, Headers
from analyzer.runtime.http2_writer import (
    CONNECTION_WINDOW_BYTES,
    FRAME_LIMIT_BYTES,
    STREAM_LIMIT,
    STREAM_WINDOW_BYTES,
    Call,
    Http2Writer,
)
from analyzer.runtime.patrol import PROGRESS_BYTES, Standing

_IDLE_FRAMES_A_SECOND = 10_000  # those that cost us work and their sender nothing: pings, settings, resets, empty ones
_SMALL_GRANT_BYTES = 256
_HELLO = settings_frame(
    {
        Setting.MAX_CONCURRENT_STREAMS: STREAM_LIMIT,
        Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
        Setting.MAX_FRAME_SIZE: FRAME_LIMIT_BYTES,
        Setting.MAX_HEADER_LIST_SIZE: HEADERS_LIMIT_BYTES,
    }
) + window_update_frame(0, CONNECTION_WINDOW_BYTES - DEFAULT_WINDOW_BYTES)
_H = TypeVar("_H")
log = logging.getLogger(__name__)


class Calls(Protocol[_H]):
    """Makes calls out of streams. ``read`` is pure: what it makes of a header block is remembered."""

    connections: "set[Http2Connection[_H]]"
    connection_limit: int

    def read(self, headers: Headers) -> _H: ...

    def begin(self, writer: Http2Writer, stream_id: int, head: _H) -> Call: ...


class Http2Connection(asyncio.Protocol, Generic[_H]):
    """The frames of one client."""

    def __init__(self, calls: Calls[_H]) -> None:
        self._calls = calls
        self.writer = Http2Writer()
        self._memo: HeaderMemo[_H] = HeaderMemo(calls.read)
        self._reader = FrameReader(FRAME_LIMIT_BYTES)
        self._last_id = 0
        self._frame_count = 0
        self._idle_frames = 0  # since ``_counted_s``
        self._counted_s = 0.0
        self._block: tuple[int, int, bytes] | None = None  # stream, flags and fragments of an unfinished header block

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.writer.transport = cast(asyncio.Transport, transport)  # uvloop has a class of its own
        self._calls.connections.add(self)
        self.writer.write([_HELLO])
        if self._calls.connection_limit and len(self._calls.connections) > self._calls.connection_limit:
            text = f"the server has {self._calls.connection_limit} connections, its limit (--max-connections)"
            self._go_away(ConnectionFault(Code.ENHANCE_YOUR_CALM, text))

    def connection_lost(self, _error: Exception | None) -> None:
        self._calls.connections.discard(self)
        self.writer.cancel_all()

    def pause_writing(self) -> None:
        self.writer.pause()

    def resume_writing(self) -> None:
        self.writer.resume()

    @property
    def standing(self) -> Standing | None:
        """What it waits for its client with; None while the client waits for us."""
        writer, transport = self.writer, self.writer.transport
        if transport is None:
            return None
        unsent_bytes = transport.get_write_buffer_size() + writer.outbox.waiting_bytes
        progress = self._last_id, self._frame_count, writer.write_count
        if unsent_bytes:
            return Standing(False, (unsent_bytes // PROGRESS_BYTES, *progress))
        if not self._reader.is_between_frames or self._block is not None:
            return Standing(False, (self._reader.missing_bytes // PROGRESS_BYTES, *progress))
        for stream_id, call in writer.streams.items():
            if (count := call.missing) is not None:
                return Standing(False, (stream_id, count // PROGRESS_BYTES))
        return None if writer.streams else Standing(True, progress)

    def data_received(self, data: bytes) -> None:
        try:
            if self._reader.is_between_frames and self._block is None:
                data = self._unary_calls(data)
            for kind, flags, stream_id, payload in self._reader.feed(data):
                if self.writer.transport is not None:
                    self._frame(kind, flags, stream_id, payload)
        except ConnectionFault as fault:
            self._go_away(fault)

    def drain(self) -> None:
        """Takes no new streams, and closes when those under way are answered."""
        self.writer.draining = True
        self.writer.write([go_away_frame(self._last_id, Code.NO_ERROR, "server is shutting down")])
        self.writer.close_if_done()

    def abort(self) -> None:
        if self.writer.transport is not None:
            self.writer.transport.abort()

    def _go_away(self, fault: ConnectionFault) -> None:
        if self.writer.transport is not None:
            log.debug("HTTP/2 connection closed: %s", fault)
            self.writer.write([go_away_frame(self._last_id, fault.code, str(fault))])
            self.writer.transport.close()

    def _unary_calls(self, data: bytes) -> bytes:
        """Runs the calls that ``data`` begins with, as far as they are whole. Returns what is left."""
        offset = 0
        while (found := unary_call(data, offset, FRAME_LIMIT_BYTES)) is not None and self.writer.transport is not None:
            stream_id, block, payload, offset = found
            self._open(Flag.END_HEADERS, stream_id, block)
            self.writer.received(len(payload))
            if (call := self.writer.streams.get(stream_id)) is not None:
                call.data(payload, True)
        return data[offset:]

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and (kind != Kind.CONTINUATION or stream_id != self._block[0]):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block was interrupted by another frame")
        self._frame_count += 1
        check_frame(kind, stream_id, len(payload))
        match kind:
            case Kind.DATA:
                self._on_data(flags, stream_id, payload)
            case Kind.HEADERS:
                self._on_headers(flags, stream_id, payload)
            case Kind.WINDOW_UPDATE:
                self._on_window_update(stream_id, payload)
            case Kind.PING:
                self._on_ping(flags, payload)
            case Kind.SETTINGS:
                self._on_settings(flags, payload)
            case Kind.RST_STREAM:
                self._on_reset(stream_id)
            case Kind.CONTINUATION:
                self._on_continuation(flags, payload)
            case Kind.PUSH_PROMISE:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a client can't push")
            case _:
                self._count_idle_frame()  # PRIORITY and GOAWAY ask nothing of us; unknown frames are to be ignored

    def _count_idle_frame(self) -> None:
        """Frames that a client has no reason to send in such numbers, which a flood consists of."""
        self._idle_frames += 1
        if self._idle_frames < _IDLE_FRAMES_A_SECOND:
            return
        now_s = asyncio.get_running_loop().time()
        if now_s < self._counted_s + 1:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames that carry nothing")
        self._idle_frames, self._counted_s = 0, now_s

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        received = len(payload)
        if flags & Flag.PADDED:
            payload = unpadded(payload)
        if not payload and not flags & Flag.END_STREAM:
            self._count_idle_frame()
        self.writer.received(received)
        call = self.writer.streams.get(stream_id)
        if call is None:
            self._check_opened(stream_id, "DATA")
            return  # answered or reset meanwhile
        if call.is_ended:
            raise ConnectionFault(Code.STREAM_CLOSED, f"DATA on stream {stream_id}, which its client has ended")
        self.writer.received_of(stream_id, call, received)
        if not flags & Flag.END_STREAM:
            self.writer.acknowledge_stream(stream_id, call, received)
        call.data(payload, bool(flags & Flag.END_STREAM))

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if flags & Flag.PADDED:
            payload = unpadded(payload)
        if flags & Flag.PRIORITY:
            payload = without_priority(payload)
        if flags & Flag.END_HEADERS:
            self._open(flags, stream_id, payload)
        else:
            self._block = stream_id, flags, payload

    def _on_continuation(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION without a header block before it")
        self._count_idle_frame()
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
            code = Code.ENHANCE_YOUR_CALM if error.is_too_large else Code.COMPRESSION_ERROR
            raise ConnectionFault(code, f"header block can't be decoded: {error}") from None
        call = self.writer.streams.get(stream_id)
        if call is not None:  # trailers of the request, which gRPC does not use
            if call.is_ended:
                raise ConnectionFault(Code.STREAM_CLOSED, f"HEADERS on stream {stream_id}, which its client has ended")
            if not flags & Flag.END_STREAM:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "trailers must end their stream")
            call.data(b"", True)
            return
        if stream_id <= self._last_id or not stream_id & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"HEADERS on stream {stream_id}, which can't be opened now")
        if self.writer.is_full:
            self._last_id = stream_id
            self._count_idle_frame()
            self.writer.write([reset_frame(stream_id, Code.REFUSED_STREAM)])
            return
        self._last_id = stream_id
        call = self.writer.streams[stream_id] = self._calls.begin(self.writer, stream_id, head)
        if flags & Flag.END_STREAM:
            call.data(b"", True)

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        increment = int.from_bytes(payload, "big") & WINDOW_LIMIT_BYTES
        if not increment:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
        if increment < _SMALL_GRANT_BYTES:
            self._count_idle_frame()
        if stream_id:
            self._check_opened(stream_id, "WINDOW_UPDATE")
        writer = self.writer
        if stream_id == 0 or stream_id in writer.streams or writer.outbox.is_waiting(stream_id):
            writer.write(writer.outbox.grant(stream_id, increment))
            writer.wake_held()
            writer.close_if_done()

    def _on_ping(self, flags: int, payload: bytes) -> None:
        self._count_idle_frame()
        if not flags & Flag.ACK:
            self.writer.write([frame_head(8, Kind.PING, Flag.ACK, 0) + payload])

    def _on_settings(self, flags: int, payload: bytes) -> None:
        self._count_idle_frame()
        if flags & Flag.ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with contents")
            return
        frames = self.writer.outbox.obey(read_settings(payload))
        self.writer.write([frame_head(0, Kind.SETTINGS, Flag.ACK, 0), *frames])
        self.writer.wake_held()

    def _check_opened(self, stream_id: int, what: str) -> None:
        if stream_id > self._last_id or not stream_id & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, f"{what} on stream {stream_id}, which was never opened")

    def _on_reset(self, stream_id: int) -> None:
        self._check_opened(stream_id, "RST_STREAM")
        self._count_idle_frame()
        self.writer.outbox.forget(stream_id)
        call = self.writer.streams.pop(stream_id, None)
        if call is not None:
            call.cancel()
        self.writer.close_if_done()

"""The sending half of an HTTP/2 connection: answers as frames, as far as the client takes them, and its windows."""

import asyncio
from typing import Protocol

from analyzer.runtime.frames import Code, ConnectionFault, WholeAnswer, reset_frame, window_update_frame
from analyzer.runtime.outbox import Outbox
from analyzer.runtime.wire import Buffer

FRAME_LIMIT_BYTES = 64 * 1024  # copies of 128 KiB and more can make malloc map and unmap memory each time
STREAM_WINDOW_BYTES = 8 * 2**20
CONNECTION_WINDOW_BYTES = 64 * 2**20
STREAM_LIMIT = 1024
_JOIN_LIMIT_BYTES = 64 * 1024
_UNSENT_LIMIT_BYTES = 64 * 2**20


class Call(Protocol):
    """The receiving half of one stream."""

    unacknowledged_bytes: int
    window_bytes: int
    """What the client may still send of it, STREAM_WINDOW_BYTES at first."""

    @property
    def is_ended(self) -> bool:
        """The client has said that it sends no more."""
        ...

    @property
    def missing(self) -> int | None:
        """Bytes that have come of a message that is not whole, None where nothing is missing."""
        ...

    def data(self, payload: bytes, end: bool) -> None: ...

    def cancel(self) -> None: ...

    def resume(self) -> None:
        """The client has taken what ``Http2Writer.send`` could not send at once."""
        ...


class Http2Writer:
    """Streams leave ``streams`` when their answer is complete or they are reset."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.outbox = Outbox()
        self.streams: dict[int, Call] = {}
        self.draining = False
        self.write_count = 0
        self._is_unread = False  # the client does not read what it gets
        self._held: set[int] = set()
        self._unacknowledged_bytes = 0
        self._used_bytes = 0  # of the window that the client has for the whole connection

    @property
    def is_full(self) -> bool:
        """No more streams, however many the client may have cancelled, and however much of their answers it leaves."""
        busy = len(self.streams) + self.outbox.waiting_count
        return self.draining or busy >= STREAM_LIMIT or self.outbox.waiting_bytes >= _UNSENT_LIMIT_BYTES

    def respond(self, stream_id: int, answer: WholeAnswer, length: int, parts: list[Buffer]) -> None:
        """All of an answer at once, ``parts`` being the ``length`` bytes of its data."""
        if self.streams.pop(stream_id, None) is None:
            return
        number = stream_id.to_bytes(4, "big")
        opening = answer.headers_start, number, answer.headers
        ending = answer.trailers_start, number, answer.trailers
        if length <= _JOIN_LIMIT_BYTES and self.outbox.fits(stream_id, length):
            if self.transport is not None:
                self.write_count += 1
                data_start = (length << 16).to_bytes(5, "big")
                self.transport.write(b"".join((*opening, data_start, number, *parts, *ending)))
        else:
            self.write([*opening, *self.outbox.send(stream_id, parts, b"".join(ending))])
        if self.draining:
            self.close_if_done()

    def send(self, stream_id: int, head: bytes, parts: list[Buffer]) -> bool:
        """One message of an answer that goes on; ``head`` is empty once the headers are out.

        False where the client leaves it lying: its call gets a ``resume`` when more can be sent.
        """
        if stream_id not in self.streams:
            return True
        self.write([head, *self.outbox.send(stream_id, parts)])
        if self._is_unread or self.outbox.is_waiting(stream_id):
            self._held.add(stream_id)
            return False
        return True

    def finish(self, stream_id: int, trailers: bytes, *, reset: bool = False) -> None:
        """Trailers behind all that was sent; ``reset`` tells a client that is still sending to stop."""
        if self.streams.pop(stream_id, None) is None:
            return
        frames = self.outbox.send(stream_id, [], trailers)
        if reset:
            frames.append(reset_frame(stream_id, Code.NO_ERROR))
        self.write(frames)
        self.close_if_done()

    def write(self, frames: list[Buffer]) -> None:
        if self.transport is None or not frames:
            return
        self.write_count += 1
        if sum(map(len, frames)) <= _JOIN_LIMIT_BYTES:
            self.transport.write(b"".join(frames))
        else:
            self.transport.writelines(frames)

    def pause(self) -> None:
        """A client that does not read is not listened to either, so what waits for it stays bounded."""
        self._is_unread = True
        if self.transport is not None:
            self.transport.pause_reading()

    def resume(self) -> None:
        self._is_unread = False
        if self.transport is not None:
            self.transport.resume_reading()
        self.wake_held()

    def wake_held(self) -> None:
        """Called when the client has taken something: tells the calls that waited for it."""
        if self._is_unread or not self._held:
            return
        for stream_id in [item for item in self._held if not self.outbox.is_waiting(item)]:
            self._held.discard(stream_id)
            call = self.streams.get(stream_id)
            if call is not None:
                call.resume()

    def received(self, count: int) -> None:
        """Bytes of DATA. A client that sends more than its window could fill our memory: raises ConnectionFault."""
        self._used_bytes += count
        if self._used_bytes > CONNECTION_WINDOW_BYTES:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more data was sent than the connection's window allows")
        self.acknowledge(count)

    def received_of(self, stream_id: int, call: Call, count: int) -> None:
        """Likewise of one stream: what is put aside for it is bounded by its window alone."""
        call.window_bytes -= count
        if call.window_bytes < 0:
            text = f"more data was sent on stream {stream_id} than its window allows"
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, text)

    def acknowledge(self, count: int) -> None:
        """The connection's window grows by what was received, or shrinks by what is put aside (below zero)."""
        self._unacknowledged_bytes += count
        if self._unacknowledged_bytes >= CONNECTION_WINDOW_BYTES // 2:
            self.write([window_update_frame(0, self._unacknowledged_bytes)])
            self._used_bytes -= self._unacknowledged_bytes
            self._unacknowledged_bytes = 0

    def acknowledge_stream(self, stream_id: int, call: Call, count: int) -> None:
        """Likewise the window of one stream."""
        call.unacknowledged_bytes += count
        if call.unacknowledged_bytes >= STREAM_WINDOW_BYTES // 2:
            self.write([window_update_frame(stream_id, call.unacknowledged_bytes)])
            call.window_bytes += call.unacknowledged_bytes
            call.unacknowledged_bytes = 0

    def close_if_done(self) -> None:
        if self.draining and not self.streams and not self.outbox.waiting_count and self.transport is not None:
            self.transport.close()

    def cancel_all(self) -> None:
        """The connection is gone."""
        self.transport = None
        for call in self.streams.values():
            call.cancel()
        self.streams.clear()
        self._held.clear()

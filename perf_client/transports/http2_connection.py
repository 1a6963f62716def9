"""One HTTP/2 connection of a gRPC client: how it begins, takes frames and ends. What its streams carry is left open."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from struct import iter_unpack, unpack_from
from typing import Any, Protocol, cast

from hpack import HPACKError

from perf_client.record import Recorder
from perf_client.transports import http2
from perf_client.transports.base import BadAnswer, Clock, Owner, loss_failure

LAST_STREAM = 2**31 - 1
REPLENISH_BYTES = 1 << 29


class Windows(Protocol):
    """The sending half of flow control."""

    def widen(self, stream: int, increment: int) -> None: ...

    def change_initial(self, size: int) -> None: ...

    def release(self) -> bytes: ...


class Http2Connection(asyncio.Protocol, ABC):
    """It is usable once the peer's settings have come; ``settled`` is done then, or tells why they never will."""

    _windows: Windows

    def __init__(self, capacity: int, requests: Iterator[Any], owner: Owner, recorder: Recorder, clock: Clock) -> None:
        self.capacity = capacity
        self.in_flight = 0
        self.usable = False
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._next_request: Callable[[], Any] = requests.__next__
        self._owner = owner
        self._recorder = recorder
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._open = False
        self._next_stream = 1
        self._headers = http2.HeaderBlocks()
        self._pieces = http2.HeaderPieces()
        self._rest = b""
        self._consumed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass of it
        self._transport = transport
        self._open = True
        self._write: Callable[[bytes], object] = transport.write
        self._write(http2.client_start())

    @abstractmethod
    def send(self, scheduled_ns: int = 0) -> None:
        """See ``Connection``."""

    @abstractmethod
    def expire(self, sent_before_ns: int, now_ns: int, failure: str = "timeout") -> None:
        """See ``Connection``."""

    @abstractmethod
    def _frames(self, data: bytes, now_ns: int) -> int:
        """Take all whole frames; where they end."""

    @abstractmethod
    def _header_block(self, stream: int, flags: int, block: bytes, now_ns: int) -> None:
        """A whole one, HEADERS and CONTINUATION joined."""

    @abstractmethod
    def _reset(self, stream: int, error_code: int, now_ns: int) -> None:
        """The peer gave a stream up."""

    @abstractmethod
    def _fail_above(self, last_stream: int, failure: str, example: str, now_ns: int) -> None:
        """Streams from there on will not be answered; 0 means all of them."""

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
        if self._consumed >= REPLENISH_BYTES:
            outgoing.append(http2.window_update(0, self._consumed))
            self._consumed = 0
        if self._open and self._transport is not None:
            self._write = self._transport.write
            if outgoing:
                self._write(b"".join(outgoing))

    def _rare_frame(self, kind: int, flags: int, stream: int, payload: bytes, now_ns: int) -> None:
        match kind:
            case http2.SETTINGS if not flags & http2.ACK:
                self._settings(payload)
            case http2.PING if not flags & http2.ACK:
                self._write(http2.frame(http2.PING, http2.ACK, 0, payload))
            case http2.WINDOW_UPDATE if len(payload) == 4:
                self._window_update(stream, payload)
            case http2.RST_STREAM if len(payload) == 4:
                self._reset(stream, unpack_from(">I", payload)[0], now_ns)
            case http2.GOAWAY if len(payload) >= 8:
                self._going_away(unpack_from(">I", payload)[0] & LAST_STREAM, now_ns)
            case http2.HEADERS | http2.CONTINUATION:
                whole = self._pieces.add(kind, flags, stream, payload)
                if whole is not None:
                    self._header_block(stream, *whole, now_ns)

    def _window_update(self, stream: int, payload: bytes) -> None:
        self._windows.widen(stream, unpack_from(">I", payload)[0] & LAST_STREAM)
        if freed := self._windows.release():
            self._write(freed)

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
        self._fail_above(last_stream, "connection closed", "the server goes away", now_ns)
        if not self.in_flight:
            self._leave()

    def _go_on(self, now_ns: int) -> None:
        """A slot is free again."""
        if self.usable:
            self._owner.ready(self, now_ns)
        elif not self.in_flight:
            self._leave()

    def _fail_all(self, failure: str, example: str, now_ns: int) -> None:
        """The connection is of no more use: everything in flight has failed."""
        self.usable = False
        self._write = _nowhere
        self._fail_above(0, failure, example, now_ns)
        self._leave(example or failure)

    def _leave(self, why: str = "the server goes away") -> None:
        if not self._open:
            return
        self.close()
        if not self.settled.done():
            self.settled.set_exception(ConnectionResetError(why))
        else:
            self._owner.lost(self)

    def close(self) -> None:
        self._open = self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._open:
            self._fail_all(*loss_failure(exc), self._clock())


def _nowhere(data: bytes) -> None:
    """What would still be said to a peer that is given up."""

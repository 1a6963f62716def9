"""HTTP/1.1 connections: requests cut from the stream, answers written in the order the requests came.

Three things make it quick. The bytes of a request's head are looked up whole before they are parsed, since a client
sends the same head again and again. Bytes are read into one small shared buffer: reads that allocate 128 KiB and more
can make malloc map and unmap memory each time. A body that has not arrived in one piece is received straight
into memory of its own, placed so that the binary tensors behind the JSON are aligned and need no copy.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import cast

from analyzer.runtime.http_exchange import Exchange
from analyzer.runtime.http_heads import HeadMemo
from analyzer.runtime.http_message import (
    CONTINUE,
    ChunkedBody,
    Head,
    HttpError,
    aligned_room,
    check_unfinished_head,
)
from analyzer.runtime.request import InferError
from analyzer.runtime.wire import Buffer

_READ_BYTES = 64 * 1024
_JOIN_LIMIT_BYTES = 64 * 1024
_PIPELINE_LIMIT = 64
_LINGER_S = 2.0

Action = Callable[[Exchange, Head, Buffer], None]
"""What a path does: answers the exchange, at once or later. An InferError or HttpError it raises becomes the answer."""

log = logging.getLogger(__name__)


class HttpSite:
    """What all connections of one port share."""

    def __init__(self, resolve: Callable[[str, str], Action], body_limit_bytes: int) -> None:
        self.body_limit_bytes = body_limit_bytes
        self.connections: set[HttpConnection] = set()
        self.scratch = memoryview(bytearray(_READ_BYTES))
        self.heads = HeadMemo(resolve, body_limit_bytes)

    def connection(self) -> "HttpConnection":
        return HttpConnection(self)

    def drain(self) -> None:
        """Closes every connection as soon as its requests are answered."""
        for connection in list(self.connections):
            connection.drain()

    def abort(self) -> None:
        for connection in list(self.connections):
            connection.abort()


class HttpConnection(asyncio.BufferedProtocol):
    """The bytes of one client."""

    __slots__ = (
        "_body",
        "_chunked",
        "_exchanges",
        "_filled",
        "_heads",
        "_is_unread",
        "_next",
        "_pending",
        "_refused",
        "_site",
        "_stopped",
        "_throttled",
        "_transport",
        "draining",
    )

    def __init__(self, site: HttpSite) -> None:
        self._site = site
        self._heads = site.heads
        self._transport: asyncio.Transport | None = None
        self._exchanges: deque[Exchange] = deque()
        self._pending = b""
        self._body: memoryview | None = None
        self._filled = 0
        self._chunked: ChunkedBody | None = None
        self._next: tuple[Head, Action, Exchange] | None = None
        self._is_unread = False  # the client does not read its answers
        self._throttled = False  # nothing is read from it, for that reason or for too many requests under way
        self._stopped = False  # nothing more is read: the last request of the connection is in
        self._refused = False
        self.draining = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has a class of its own
        self._site.connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._site.connections.discard(self)
        self._body = self._chunked = self._next = None
        self._exchanges.clear()

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._site.scratch if self._body is None else self._body[self._filled :]

    def buffer_updated(self, count: int) -> None:
        if self._body is not None:
            self._filled += count
            if self._filled == len(self._body):
                self._finish_body(self._body)
                self._body = None
            return
        data = bytes(self._site.scratch[:count])
        self._consume(self._pending + data if self._pending else data)

    def eof_received(self) -> bool:
        """A client that closed only its sending side still gets its answers."""
        self._stopped = self.draining = True
        return bool(self._exchanges) and self._next is None

    def pause_writing(self) -> None:
        self._is_unread = True
        self._throttle()

    def resume_writing(self) -> None:
        self._is_unread = False
        self._unthrottle()

    def drain(self) -> None:
        self.draining = True
        if not self._exchanges and self._next is None and self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def flush(self) -> None:
        """Writes the answers that are due: those with no unanswered request before them."""
        transport, exchanges = self._transport, self._exchanges
        if transport is None:
            return
        out: list[Buffer] = []
        keep_alive = True
        while exchanges and keep_alive and (parts := exchanges[0].parts) is not None:
            out += parts
            if exchanges[0].is_open:
                exchanges[0].parts = None  # the rest of it is still to come
                break
            keep_alive = exchanges.popleft().keep_alive
        if not out:
            return
        if len(out) > 1 and sum(map(len, out)) <= _JOIN_LIMIT_BYTES:
            transport.write(b"".join(out))
        else:
            transport.writelines(out)
        if self._refused:
            self._linger(transport)
        elif not keep_alive or (self.draining and not exchanges):
            transport.close()
        elif self._throttled and len(exchanges) <= _PIPELINE_LIMIT // 2:
            self._unthrottle()

    def _linger(self, transport: asyncio.Transport) -> None:
        """Closes in two steps: at once, a client still sending would be reset and never see why it was refused."""
        transport.write_eof()
        asyncio.get_running_loop().call_later(_LINGER_S, transport.close)

    def _throttle(self) -> None:
        if not self._throttled and self._transport is not None:
            self._throttled = True
            self._transport.pause_reading()

    def _unthrottle(self) -> None:
        """Reads on. What had been read already goes first, in a turn of its own: this runs inside ``flush``."""
        if self._throttled and not self._is_unread and self._transport is not None:
            self._throttled = False
            self._transport.resume_reading()
            if self._pending and self._body is None:
                asyncio.get_running_loop().call_soon(self._consume_pending)

    def _consume_pending(self) -> None:
        if self._transport is not None and self._body is None:
            self._consume(self._pending)

    def _consume(self, data: bytes) -> None:
        try:
            self._pending = self._cut(data)
        except HttpError as error:
            self._pending = b""
            self._refuse(error)

    def _cut(self, data: bytes) -> bytes:
        """Starts every complete request in ``data`` and returns what is left over."""
        offset = 0
        while offset < len(data) and not self._stopped:
            if self._throttled or len(self._exchanges) >= _PIPELINE_LIMIT:
                self._throttle()
                break
            chunked = self._chunked
            if chunked is not None:
                offset += self._feed_chunked(chunked, data[offset:])
                if not chunked.done:
                    break
                continue
            end = data.find(b"\r\n\r\n", offset) + 4
            if end < 4:
                check_unfinished_head(data, offset)
                break
            block = data[offset:end]
            head, action = self._heads.known.get(block) or self._heads.learn(block)
            exchange = Exchange(self, head.keep_alive, head.method == "HEAD")
            length = head.length
            if length is not None and end + length <= len(data):
                offset = end + length
                self._run(exchange, head, action, data[end:offset])
            else:
                offset = self._await_body(exchange, head, action, data, end)
        return data[offset:] if offset < len(data) and not self._stopped else b""

    def _await_body(self, exchange: Exchange, head: Head, action: Action, data: bytes, start: int) -> int:
        """Makes ready to receive a body, of which a part may be here. Returns the end of what was used."""
        if head.expects_continue:
            self._continue()
        self._next = head, action, exchange
        if head.length is None:
            self._chunked = ChunkedBody(self._site.body_limit_bytes)
            return start
        self._body = body = aligned_room(head.length, head.json_length or 0)
        self._filled = len(data) - start
        body[: self._filled] = memoryview(data)[start:]
        return len(data)

    def _continue(self) -> None:
        """Asks for the body, behind the answers that are still to come."""
        if self._transport is None:
            return
        if not self._exchanges:
            self._transport.write(CONTINUE)
            return
        interim = Exchange(self, keep_alive=True)
        interim.parts = [CONTINUE]
        self._exchanges.append(interim)

    def _feed_chunked(self, chunked: ChunkedBody, data: bytes) -> int:
        used = chunked.feed(data)
        if chunked.done:
            self._chunked = None
            self._finish_body(memoryview(chunked.body))
        return used

    def _finish_body(self, body: Buffer) -> None:
        if self._next is not None:
            head, action, exchange = self._next
            self._next = None
            self._run(exchange, head, action, body)

    def _run(self, exchange: Exchange, head: Head, action: Action, body: Buffer) -> None:
        self._exchanges.append(exchange)
        if not exchange.keep_alive:
            self._stopped = True
        try:
            action(exchange, head, body)
        except (InferError, HttpError) as error:
            exchange.fail(error)
        except Exception:
            log.exception("%s %s failed", head.method, head.path)
            exchange.fail(HttpError(500, "internal error; the server's log has the details"))

    def _refuse(self, error: HttpError) -> None:
        """Answers what can't be read as a request; nothing after it can be trusted, so it is the last answer."""
        self._stopped = self._refused = True
        self._chunked = self._next = None
        exchange = Exchange(self, keep_alive=False)
        self._exchanges.append(exchange)
        exchange.fail(error)

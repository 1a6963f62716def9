"""One HTTP/1.1 connection: requests cut from the stream, answers written in the order the requests came.

Three things make it quick. The bytes of a request's head are looked up whole before they are parsed, since a client
sends the same head again and again. Bytes are read into one small shared buffer: reads that allocate 128 KiB and more
can make malloc map and unmap memory each time. A body that has not arrived in one piece is received straight
into memory of its own, placed so that the binary tensors behind the JSON are aligned and need no copy.
"""

import asyncio
import logging
from collections import deque
from time import monotonic_ns
from typing import Protocol, cast

from analyzer.runtime.body_memory import BodyMemory
from analyzer.runtime.http_exchange import JOIN_LIMIT_BYTES, Action, Exchange
from analyzer.runtime.http_heads import HeadMemo
from analyzer.runtime.http_message import (
    CONTINUE,
    ChunkedBody,
    Head,
    HttpError,
    body_room,
    check_unfinished_head,
)
from analyzer.runtime.patrol import PROGRESS_BYTES, Standing
from analyzer.runtime.request import InferError
from analyzer.runtime.wire import Buffer

_PIPELINE_LIMIT = 64
_LINGER_S = 2.0
_PROBE_S = 0.05
_PROBE_LIMIT_S = 5.0

log = logging.getLogger(__name__)


class Shared(Protocol):
    """What the connections of a port share. ``scratch`` is what each reads into."""

    body_limit_bytes: int
    bodies: BodyMemory
    connection_limit: int
    connections: "set[HttpConnection]"
    scratch: memoryview
    heads: HeadMemo[Action]


class HttpConnection(asyncio.BufferedProtocol):
    """The bytes of one client."""

    __slots__ = ("_body", "_chunked", "_exchanges", "_filled", "_heads", "_is_unread", "_next", "_pending",
                 "_refused", "_scratch", "_site", "_stopped", "_throttled", "_transport", "_write_count",
                 "draining")  # fmt: skip

    def __init__(self, site: Shared) -> None:
        self._site = site
        self._heads = site.heads
        self._scratch = site.scratch
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
        self._write_count = 0
        self.draining = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop has a class of its own
        self._site.connections.add(self)
        limit = self._site.connection_limit
        if limit and len(self._site.connections) > limit:
            self._close_with(HttpError(503, f"the server has {limit} connections, its limit (--max-connections)"))

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._site.connections.discard(self)
        self._body = self._chunked = self._next = None
        for exchange in self._exchanges:
            exchange.cancel()
        self._exchanges.clear()

    @property
    def standing(self) -> Standing | None:
        """What it waits for its client with; None while the client waits for us."""
        if self._transport is None:
            return None
        unsent_bytes = self._transport.get_write_buffer_size()
        if self._body is not None:
            return Standing(False, (self._filled // PROGRESS_BYTES, self._write_count))
        if self._chunked is not None:
            return Standing(False, (len(self._chunked.body) // PROGRESS_BYTES, self._write_count))
        if unsent_bytes:
            return Standing(False, (unsent_bytes // PROGRESS_BYTES, self._write_count))
        if self._exchanges:
            return None
        return Standing(not self._pending, (self._write_count,))

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._scratch if self._body is None else self._body[self._filled :]

    def buffer_updated(self, count: int) -> None:
        if self._body is not None:
            self._filled += count
            if self._filled == len(self._body):
                self._finish_body(self._body)
                self._body = None
            return
        data = bytes(self._scratch[:count])
        if self._pending:
            data = self._pending + data
        try:
            self._pending = self._cut(data)
        except HttpError as error:
            self._refuse(error)

    def eof_received(self) -> bool:
        """A client that closed only its sending side still gets its answers; whether it is there has to be tried."""
        self._stopped = self.draining = True
        if not self._exchanges or self._next is not None:
            return False
        self._probe(_PROBE_S)
        return True

    def _probe(self, next_s: float) -> None:
        """Writes an interim answer, which any client has to skip: one that is gone resets the connection for it.

        Without that, all that a client left behind when it gave up would be executed.
        """
        if self._transport is None or not self._exchanges:
            return
        first = self._exchanges[0]
        if first.parts is None and not first.is_open and first.keep_alive:
            self._transport.write(CONTINUE)
        asyncio.get_running_loop().call_later(next_s, self._probe, min(2 * next_s, _PROBE_LIMIT_S))

    def pause_writing(self) -> None:
        self._is_unread = True
        self._throttle()
        for exchange in self._exchanges:
            exchange.hold(True)

    def resume_writing(self) -> None:
        self._is_unread = False
        self._unthrottle()
        if self._exchanges:
            self._exchanges[0].hold(False)

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
        if len(exchanges) == 1 and not self.draining and not self._throttled:  # as most often: one whole answer
            first = exchanges[0]
            parts = first.parts
            if parts is not None and len(parts) == 1 and first.keep_alive and not first.is_open:
                exchanges.clear()
                self._write_count += 1
                transport.write(parts[0])
                return
        out: list[Buffer] = []
        keep_alive = True
        while exchanges and keep_alive and (parts := exchanges[0].parts) is not None:
            out += parts
            if exchanges[0].is_open:
                exchanges[0].parts = None  # the rest of it is still to come
                exchanges[0].hold(self._is_unread)
                break
            keep_alive = exchanges.popleft().keep_alive
        if not out:
            return
        self._write_count += 1
        if len(out) == 1:
            transport.write(out[0])
        elif sum(map(len, out)) <= JOIN_LIMIT_BYTES:
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
            try:
                self._pending = self._cut(self._pending)
            except HttpError as error:
                self._refuse(error)

    def _cut(self, data: bytes) -> bytes:
        """Starts every complete request in ``data`` and returns what is left over."""
        offset, size = 0, len(data)
        while offset < size and not self._stopped:
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
            exchange = Exchange(self, head.keep_alive, head.method == "HEAD", head.says_keep_alive)
            length = head.length
            if length is not None and end + length <= size:
                offset = end + length
                self._run(exchange, head, action, data[end:offset])
            else:
                offset = self._await_body(exchange, head, action, data, end)
        return data[offset:] if offset < size and not self._stopped else b""

    def _await_body(self, exchange: Exchange, head: Head, action: Action, data: bytes, start: int) -> int:
        """Makes ready to receive a body, of which a part may be here. Returns the end of what was used."""
        if head.expects_continue:
            self._continue()
        self._next = head, action, exchange
        exchange.begun_ns = monotonic_ns()
        if head.length is None:
            self._chunked = ChunkedBody(self._site.body_limit_bytes, self._site.bodies)
            return start
        self._body = body = body_room(self._site.bodies, head.length, head.json_length or 0)
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
            self._finish_body(chunked.taken())
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
        self._refused = True
        self._pending = b""
        self._close_with(error)

    def _close_with(self, error: HttpError) -> None:
        self._stopped = True
        self._chunked = self._next = None
        exchange = Exchange(self, keep_alive=False)
        self._exchanges.append(exchange)
        exchange.fail(error)

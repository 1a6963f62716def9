"""One HTTP request and its answer, whole or as a stream of events."""

from collections.abc import Callable
from typing import Protocol

from analyzer.runtime.http_message import Head, HttpError, answer_head, chunk, stream_head
from analyzer.runtime.request import InferError, InferRequest
from analyzer.runtime.wire import Buffer
from analyzer.runtime.wire_json import error_body

_JSON = "Content-Type: application/json\r\n"
_UNSENT_LIMIT_BYTES = 64 * 1024
JOIN_LIMIT_BYTES = 64 * 1024  # below it one write of a copy costs less than a write of parts


class Connection(Protocol):
    """What writes the answers of exchanges, in the order their requests came."""

    draining: bool

    def flush(self) -> None: ...


class Exchange:
    """The answer waits here until the answers before it are out. While ``is_open``, more of it is to come."""

    __slots__ = (
        "_connection",
        "_says_keep_alive",
        "begun_ns",
        "head_only",
        "is_open",
        "keep_alive",
        "parts",
        "request",
    )

    def __init__(
        self, connection: Connection, keep_alive: bool, head_only: bool = False, says_keep_alive: bool = False
    ) -> None:
        self._connection = connection
        self._says_keep_alive = says_keep_alive
        self.keep_alive = keep_alive
        self.head_only = head_only
        self.begun_ns = 0  # when the first of a body came that did not come in one piece
        self.is_open = False
        self.parts: list[Buffer] | None = None
        self.request: InferRequest | None = None  # that is under way for it

    def hold(self, held: bool) -> None:
        """The client leaves our answers lying, or takes them again."""
        if self.request is not None:
            self.request.hold(held)

    def cancel(self) -> None:
        """The client is gone."""
        if self.request is not None:
            self.request.cancel()

    def answer(self, body: list[Buffer], extra: str = _JSON, status: int = 200) -> None:
        """Sends the answer; ``extra`` are more header lines. A vanished client is no error."""
        self.request = None
        connection = self._connection
        if connection.draining:
            self.keep_alive = False
        if self._says_keep_alive and self.keep_alive:
            extra += "Connection: keep-alive\r\n"
        length = len(body[0]) + len(body[1]) if len(body) == 2 else sum(map(len, body))  # JSON and one tensor, mostly
        head = answer_head(status, length, extra, self.keep_alive)
        if self.head_only:
            self.parts = [head]
        elif length <= JOIN_LIMIT_BYTES:
            self.parts = [b"".join((head, *body))]
        else:
            self.parts = [head, *body]
        connection.flush()

    def fail(self, error: InferError | HttpError) -> None:
        status = error.status if isinstance(error, HttpError) else error.kind.value[0]
        self.answer([error_body(error.message)], status=status)

    def send(self, part: Buffer, extra: str, status: int = 200) -> None:
        """One part of an answer that goes on until ``end``. Headers and status of the first part count."""
        self._open(extra, status)
        if len(part):  # an empty chunk would end the answer
            self._add(chunk(part))
        self._connection.flush()
        if self.parts and sum(map(len, self.parts)) > _UNSENT_LIMIT_BYTES:  # answers before it are not complete
            self.hold(True)

    def end(self, extra: str) -> None:
        """The answer that ``send`` began is complete; ``extra`` counts where nothing was sent."""
        self._open(extra, 200)
        self._add([b"0\r\n\r\n"])
        self.is_open = False
        self.request = None
        self._connection.flush()

    def _open(self, extra: str, status: int) -> None:
        if not self.is_open:
            self.is_open = True
            self.keep_alive = self.keep_alive and not self._connection.draining
            self._add([stream_head(status, extra, self.keep_alive)])

    def _add(self, parts: list[Buffer]) -> None:
        if self.parts is None:
            self.parts = parts
        else:
            self.parts += parts


Action = Callable[[Exchange, Head, Buffer], None]
"""What a path does: answers the exchange, at once or later. An InferError or HttpError it raises becomes the answer."""

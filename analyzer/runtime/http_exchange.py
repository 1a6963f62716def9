"""One HTTP request and its answer, whole or as a stream of events."""

from typing import Protocol

from analyzer.runtime.http_message import HttpError, answer_head, chunk, stream_head
from analyzer.runtime.request import InferError
from analyzer.runtime.wire import Buffer
from analyzer.runtime.wire_json import error_body

_JSON = "Content-Type: application/json\r\n"


class Connection(Protocol):
    """What writes the answers of exchanges, in the order their requests came."""

    draining: bool

    def flush(self) -> None: ...


class Exchange:
    """The answer waits here until the answers before it are out. While ``is_open``, more of it is to come."""

    __slots__ = ("_connection", "head_only", "is_open", "keep_alive", "parts")

    def __init__(self, connection: Connection, keep_alive: bool, head_only: bool = False) -> None:
        self._connection = connection
        self.keep_alive = keep_alive
        self.head_only = head_only
        self.is_open = False
        self.parts: list[Buffer] | None = None

    def answer(self, body: list[Buffer], extra: str = _JSON, status: int = 200) -> None:
        """Sends the answer; ``extra`` are more header lines. A vanished client is no error."""
        length = sum(map(len, body))
        keep_alive = self.keep_alive = self.keep_alive and not self._connection.draining
        head = answer_head(status, length, extra, keep_alive)
        self.parts = [head] if self.head_only else [head, *body]
        self._connection.flush()

    def fail(self, error: InferError | HttpError) -> None:
        status = error.status if isinstance(error, HttpError) else error.kind.value[0]
        self.answer([error_body(error.message)], status=status)

    def send(self, part: Buffer, extra: str, status: int = 200) -> None:
        """One part of an answer that goes on until ``end``. Headers and status of the first part count."""
        self._open(extra, status)
        if len(part):  # an empty chunk would end the answer
            self._add(chunk(part))
        self._connection.flush()

    def end(self, extra: str) -> None:
        """The answer that ``send`` began is complete; ``extra`` counts where nothing was sent."""
        self._open(extra, 200)
        self._add([b"0\r\n\r\n"])
        self.is_open = False
        self._connection.flush()

    def _open(self, extra: str, status: int) -> None:
        if not self.is_open:
            self.is_open = True
            self.keep_alive = self.keep_alive and not self._connection.draining
            self._add([stream_head(status, extra, self.keep_alive)])

    def _add(self, parts: list[Buffer]) -> None:
        self.parts = [*(self.parts or ()), *parts]

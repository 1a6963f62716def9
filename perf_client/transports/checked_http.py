"""An HTTP connection that keeps each answer and holds it against what its request expects.

An answer's time is taken before it is looked at. What the comparison costs is what the next request of the connection
leaves later.
"""

from collections.abc import Iterator

from perf_client.answers import http_outputs
from perf_client.record import NEVER, OK, Recorder
from perf_client.transports.base import BadAnswer, Clock, Owner
from perf_client.transports.http import END_OF_HEAD, Head, HttpConnection, parse_head
from perf_client.validation import WRONG_ANSWER, CheckedRequest


class CheckedHttpConnection(HttpConnection):
    def __init__(
        self,
        requests: Iterator[CheckedRequest[bytes]],
        heads: dict[bytes, Head],
        owner: Owner,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        super().__init__(iter(self._next_encoded, None), heads, owner, recorder, clock)
        self._checked = requests
        self._in_flight: CheckedRequest[bytes] | None = None
        self._answer = bytearray()

    def _next_encoded(self) -> bytes:
        self._in_flight = request = next(self._checked)
        request.check.begin()
        return request.encoded

    def data_received(self, data: bytes) -> None:
        now_ns = self._clock()
        if self._first_byte_ns == NEVER and self.in_flight:
            self._first_byte_ns = now_ns
        self._answer += data
        self._take(data, now_ns)

    def _outcome(self, head: Head) -> int:
        answer = bytes(self._answer)
        self._answer.clear()
        if head.status != 200 or self._in_flight is None:
            return super()._outcome(head)
        block, _, body = answer.partition(END_OF_HEAD)
        while parse_head(block).status < 200:
            block, _, body = body.partition(END_OF_HEAD)
        if head.chunked:
            body = unchunked(body)
        try:
            check = self._in_flight.check
            mismatch = check.mismatch((body,), lambda: [http_outputs(block, body, check.memory)])
        except BadAnswer as error:
            return self._recorder.code("bad answer", str(error))
        return OK if mismatch is None else self._recorder.code(WRONG_ANSWER, mismatch)


def unchunked(body: bytes) -> bytes:
    """What is in a chunked body that was found to be complete."""
    pieces: list[bytes] = []
    position = 0
    while True:
        line_end = body.index(b"\r\n", position)
        size = int(body[position:line_end].split(b";")[0], 16)
        if not size:
            return b"".join(pieces)
        pieces.append(body[line_end + 2 : line_end + 2 + size])
        position = line_end + 4 + size

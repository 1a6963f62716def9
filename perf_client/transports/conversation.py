"""One slot of a streaming connection: an HTTP/2 stream that lives on, with at most one request on its way."""

from array import array
from typing import Any

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from perf_client.compression import BadCompression
from perf_client.record import NEVER
from perf_client.transports.base import BadAnswer
from perf_client.transports.http2 import message_of

_PREFIX_BYTES = 5
_FINAL = "triton_final_response"


class StreamError(Exception):
    """The server answered a request with an error; its stream lives on."""


class Conversation:
    """What is known of the request on its way, and of its answers up to now."""

    __slots__ = (
        "_pending",
        "answers_ns",
        "consumed",
        "first_byte_ns",
        "in_flight",
        "scheduled_ns",
        "sent_ns",
        "stream",
    )

    def __init__(self, stream: int) -> None:
        self.stream = stream
        self.consumed = 0
        self.in_flight = False
        self.scheduled_ns = self.sent_ns = self.first_byte_ns = NEVER
        self.answers_ns = array("q")
        self._pending = b""

    def begin(self, scheduled_ns: int, sent_ns: int) -> None:
        self.in_flight = True
        self.scheduled_ns, self.sent_ns, self.first_byte_ns = scheduled_ns, sent_ns, NEVER
        self.answers_ns = array("q")

    def take(self, data: bytes, now_ns: int) -> bool:
        """Take the next bytes of answers; whether the last answer is among them. Raises BadAnswer, StreamError."""
        if not self.in_flight:
            raise BadAnswer("an answer to no request")
        if self.first_byte_ns == NEVER:
            self.first_byte_ns = now_ns
        if self._pending:
            data = self._pending + data
        position = 0
        final = False
        while len(data) - position >= _PREFIX_BYTES:
            end = position + _PREFIX_BYTES + int.from_bytes(data[position + 1 : position + _PREFIX_BYTES], "big")
            if end > len(data):
                break
            if final:
                raise BadAnswer("an answer after the last one")
            final = self._message(data[position:end], now_ns)
            position = end
        self._pending = data[position:]
        if final and self._pending:
            raise BadAnswer("an answer after the last one")
        return final

    def _message(self, framed: bytes, now_ns: int) -> bool:
        """Whether it is the last one. A server that doesn't say so gives one answer a request."""
        try:
            answer = service_pb2.ModelStreamInferResponse.FromString(message_of(framed))
        except (DecodeError, BadCompression) as error:
            raise BadAnswer(f"not a ModelStreamInferResponse: {error}") from None
        if answer.error_message:
            raise StreamError(answer.error_message)
        response = answer.infer_response
        final = _FINAL not in response.parameters or response.parameters[_FINAL].bool_param
        # The last one may be empty: it only says that there are no more. With shared memory it names its outputs.
        if not final or response.outputs or response.raw_output_contents or _FINAL not in response.parameters:
            self.answers_ns.append(now_ns)
            self.keep(framed, response)
        return bool(final)

    def keep(self, framed: bytes, response: Any) -> None:
        """An answer has come: nothing, where it is only counted."""

"""gRPC calls, and requests on streams, that keep their answers and hold them against what their requests expect."""

from collections.abc import Iterator
from typing import Any

from perf_client.answers import grpc_outputs, message_outputs
from perf_client.compression import BadCompression
from perf_client.record import OK, Recorder
from perf_client.transports.base import BadAnswer, Clock, Owner
from perf_client.transports.call import KeptCall
from perf_client.transports.conversation import Conversation
from perf_client.transports.grpc_connection import GrpcConnection
from perf_client.transports.grpc_stream import StreamConnection
from perf_client.transports.http2 import GrpcRequest, message_of
from perf_client.validation import WRONG_ANSWER, AnswerCheck, CheckedRequest


class CheckedCall(KeptCall):
    """Records itself when it has ended."""

    __slots__ = ("_check", "_recorder")

    def __init__(
        self, request: CheckedRequest[GrpcRequest], scheduled_ns: int, sent_ns: int, recorder: Recorder
    ) -> None:
        super().__init__(request.encoded, scheduled_ns, sent_ns)
        self._check = request.check
        self._recorder = recorder

    def succeed(self, now_ns: int) -> None:
        body = bytes(self.body)
        try:
            mismatch = self._check.mismatch((body,), lambda: [grpc_outputs(message_of(body), self._check.memory)])
        except (BadAnswer, BadCompression) as error:
            self.fail("bad answer", str(error), now_ns)
            return
        if mismatch is not None:
            self.fail(WRONG_ANSWER, mismatch, now_ns)
            return
        self._recorder.add(self.scheduled_ns, self.sent_ns, self.first_byte_ns, now_ns, OK)

    def fail(self, failure: str, message: str, now_ns: int) -> None:
        code = self._recorder.code(failure, message)
        self._recorder.add(self.scheduled_ns, self.sent_ns, self.first_byte_ns, now_ns, code)


class CheckedGrpcConnection(GrpcConnection):
    def __init__(
        self,
        capacity: int,
        requests: Iterator[CheckedRequest[GrpcRequest]],
        owner: Owner,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        super().__init__(capacity, iter(()), owner, recorder, clock)
        self._checked = requests

    def send(self, scheduled_ns: int = 0) -> None:
        sent_ns = self._clock()
        request = next(self._checked)
        request.check.begin()
        self._start(CheckedCall(request, scheduled_ns or sent_ns, sent_ns, self._recorder))


class CheckedConversation(Conversation):
    """Keeps the answers that it counts."""

    __slots__ = ("answers", "check", "messages")

    def __init__(self, stream: int) -> None:
        super().__init__(stream)
        self.check = AnswerCheck(())
        self.answers: list[Any] = []
        self.messages: list[bytes] = []

    def begin(self, scheduled_ns: int, sent_ns: int) -> None:
        super().begin(scheduled_ns, sent_ns)
        self.answers, self.messages = [], []

    def keep(self, framed: bytes, response: Any) -> None:
        self.answers.append(response)
        self.messages.append(framed)

    def mismatch(self) -> str | None:
        """Raises BadAnswer."""
        return self.check.mismatch(
            tuple(self.messages), lambda: [message_outputs(answer, self.check.memory) for answer in self.answers]
        )


class CheckedStreamConnection(StreamConnection):
    """Its requests are CheckedRequests."""

    def send(self, scheduled_ns: int = 0) -> None:
        sent_ns = self._clock()
        request: CheckedRequest[GrpcRequest] = self._next_request()
        request.check.begin()
        conversation = self._ask(request.encoded, scheduled_ns or sent_ns, sent_ns)
        assert isinstance(conversation, CheckedConversation)
        conversation.check = request.check

    def _new_conversation(self, stream: int) -> CheckedConversation:
        return CheckedConversation(stream)

    def _outcome(self, conversation: Conversation) -> int:
        assert isinstance(conversation, CheckedConversation)
        try:
            mismatch = conversation.mismatch()
        except BadAnswer as error:
            return self._recorder.code("bad answer", str(error))
        return OK if mismatch is None else self._recorder.code(WRONG_ANSWER, mismatch)

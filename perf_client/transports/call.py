"""One gRPC call on its way: a stream of an HTTP/2 connection, from its request to its trailers."""

import asyncio

from perf_client.compression import BadCompression
from perf_client.record import NEVER
from perf_client.transports.http2 import GrpcRequest, message_of


class CallFailed(Exception):
    """A call whose answer is read ended without one."""

    def __init__(self, failure: str, message: str) -> None:
        super().__init__(f"{failure}: {message}" if message else failure)
        self.failure = failure


class Call:
    """A call that is only counted: what came is not kept. Made once a request, so it is kept small."""

    __slots__ = ("first_byte_ns", "message_bytes", "request", "scheduled_ns", "sent_ns")

    def __init__(self, request: GrpcRequest, scheduled_ns: int, sent_ns: int) -> None:
        self.request = request
        self.scheduled_ns = scheduled_ns
        self.sent_ns = sent_ns
        self.first_byte_ns = NEVER
        self.message_bytes = 0


class KeptCall(Call):
    """A call whose answer is kept and which is told how it ended."""

    __slots__ = ("body",)

    def __init__(self, request: GrpcRequest, scheduled_ns: int, sent_ns: int) -> None:
        super().__init__(request, scheduled_ns, sent_ns)
        self.body = bytearray()

    def succeed(self, now_ns: int) -> None:
        raise NotImplementedError

    def fail(self, failure: str, message: str, now_ns: int) -> None:
        raise NotImplementedError


class ReadCall(KeptCall):
    """A call whose answer is read: ``done`` gets its message, or CallFailed."""

    __slots__ = ("done",)

    def __init__(self, request: GrpcRequest, now_ns: int) -> None:
        super().__init__(request, now_ns, now_ns)
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def succeed(self, now_ns: int) -> None:
        try:
            message = message_of(self.body)
        except BadCompression as error:
            self.fail("bad answer", str(error), now_ns)
        else:
            if not self.done.done():
                self.done.set_result(message)

    def fail(self, failure: str, message: str, now_ns: int) -> None:
        if not self.done.done():
            self.done.set_exception(CallFailed(failure, message))

"""What serves one model version, seen from outside, and the pieces that all such have in common."""

import asyncio
import logging
from time import monotonic_ns
from typing import Protocol

import msgspec

from analyzer.runtime.request import ErrorKind, InferError, InferRequest, InferResponse, Parameters, Reply
from analyzer.runtime.signature import ShapeKey, Signature
from analyzer.runtime.statistics import FailureReason, Statistics

log = logging.getLogger(__name__)

UNDELIVERED = "an answer could not be handed over"


class Servable(Protocol):
    """A model version that answers requests: scheduled on instances, or an ensemble of others."""

    signature: Signature
    statistics: Statistics

    @property
    def pending_count(self) -> int: ...

    @property
    def failure(self) -> str:
        """Why it can't answer now, though it is loaded; empty where it can."""
        ...

    @property
    def takes_device_tensors(self) -> bool:
        """True where inputs in device memory are used as they are."""
        ...

    def submit(self, request: InferRequest, reply: Reply) -> None:
        """As ModelStore.submit."""
        ...

    async def drain(self) -> None:
        """Returns when every request that was submitted is answered."""
        ...

    async def close(self) -> None:
        """Fails what still waits, and frees the instances."""
        ...


class Job(msgspec.Struct, eq=False):
    request: InferRequest
    reply: Reply
    rows: int
    shape_key: ShapeKey
    queued_ns: int
    ranges: tuple[int, int] | None = None
    """Open while a tool listens: of the request, and of its stay in the queue."""

    @property
    def parameters(self) -> Parameters:
        return self.request.parameters


class QueueIsFull(InferError):
    """A request that the size limit of its queue keeps out."""

    def __init__(self) -> None:
        super().__init__(ErrorKind.UNAVAILABLE, "Exceeds maximum queue size")


_WRONG = (ErrorKind.INVALID_ARGUMENT, ErrorKind.UNIMPLEMENTED, ErrorKind.NOT_FOUND)


def count_refusal(statistics: Statistics, request: InferRequest, error: InferError) -> bool:
    """A request that ``submit`` refused is a failure of its model, but for what is wrong with the request itself.

    Triton counts these nowhere: a client's mistake is no reason for an alarm about the model. False for them.
    """
    if error.kind in _WRONG:
        return False
    reason = FailureReason.REJECTED if isinstance(error, QueueIsFull) else FailureReason.OTHER
    statistics.record_failure(monotonic_ns() - request.arrival_ns, reason)
    return True


class Drained:
    """Counts what is in flight, and tells when nothing is."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.count = 0
        self._loop = loop
        self._waiters: list[asyncio.Future[None]] = []

    def leave(self, count: int) -> None:
        self.count -= count
        if self.count == 0 and self._waiters:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()

    async def wait(self) -> None:
        if self.count:
            waiter = self._loop.create_future()
            self._waiters.append(waiter)
            await waiter


def call_reply(reply: Reply, answer: InferResponse | InferError) -> None:
    """Answers one request; a front end that breaks over it must not take the others of its batch along."""
    try:
        reply(answer)
    except Exception:
        log.exception(UNDELIVERED)

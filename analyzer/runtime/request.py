"""One inference as it crosses the runtime: what the front ends decode, the scheduler queues and a backend answers.

Tensors are numpy arrays in C order, batch dimension included. BYTES is an object array of ``bytes``; BF16, which numpy
lacks, is an array of uint16 words.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.runtime.durations import Account

Tensors = dict[str, NDArray[np.generic]]
Parameters = dict[str, bool | int | float | str]


class ErrorKind(Enum):
    """Why a request failed: (HTTP status, gRPC status code)."""

    INVALID_ARGUMENT = (400, 3)
    NOT_FOUND = (404, 5)
    ALREADY_EXISTS = (400, 6)
    RESOURCE_EXHAUSTED = (413, 8)
    UNIMPLEMENTED = (501, 12)
    INTERNAL = (500, 13)
    UNAVAILABLE = (503, 14)
    CANCELLED = (499, 1)


class InferError(Exception):
    """A request that can't be answered; the message is sent to the client as it is.

    One that came as an answer is told, not raised again: many requests share it, and with each raise it would keep the
    frames that it went through.
    """

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


CANCELLED = InferError(ErrorKind.CANCELLED, "the client cancelled the request or went away")


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one output reaches its client, where not as it is: as its ``classes`` best classes, or in shared memory."""

    classes: int = 0
    region: str = ""
    offset: int = 0
    byte_size: int = 0


class InferRequest(msgspec.Struct, eq=False):
    """``requested`` lists the outputs wanted, in order; empty means all. ``arrival_ns`` is CLOCK_MONOTONIC.

    ``accepts_stream`` says that the reply may be called more than once, as decoupled models do.
    ``deliveries`` is for the front end that answers: None where every output goes out as it is. Requests with the same
    ``kind`` have inputs of the same names, types and shapes and ask for the same outputs; None says nothing.
    ``on_device`` is true where an input is a DeviceTensor; the outputs in ``keep_on_device`` may come back as such.
    ``is_cancelled``: nobody waits for the answer any more. ``is_held``: the client does not take the answers it gets.
    ``watcher`` is called, on the loop's thread, when one of these two has changed; who serves the request sets it.
    ``step`` is the number of the ensemble's step that it is made for, where spans are kept; 0: none.
    ``callers`` are the models that wait for the answer, each in an instance of its own that called the next.
    ``account`` is told of its executions: an ensemble's account of its steps, or a trace.
    """

    model: str
    inputs: Tensors
    arrival_ns: int
    version: str = ""
    id: str = ""
    requested: tuple[str, ...] = ()
    parameters: Parameters = {}
    deliveries: dict[str, Delivery] | None = None
    kind: object | None = None
    accepts_stream: bool = False
    on_device: bool = False
    keep_on_device: frozenset[str] = frozenset()
    is_cancelled: bool = False
    is_held: bool = False
    watcher: Callable[[], None] | None = None
    callers: tuple[str, ...] = ()
    step: int = 0
    account: Account | None = None

    @property
    def may_be_skipped(self) -> bool:
        """Cancelled, and served by who cares: the requests of a sequence are executed all the same."""
        return self.is_cancelled and self.watcher is not None

    def cancel(self) -> None:
        if not self.is_cancelled:
            self.is_cancelled = True
            if self.watcher is not None:
                self.watcher()

    def hold(self, held: bool) -> None:
        """Called by front ends when their client stops reading, and when it reads on."""
        if self.is_held != held:
            self.is_held = held
            if self.watcher is not None:
                self.watcher()


class InferResponse(msgspec.Struct, eq=False):
    """Outputs in the order asked for. ``final`` is false while a decoupled model has more to send.

    ``placed`` names the outputs that were written to shared memory, so the answer only describes them.
    """

    model: str
    version: str
    id: str
    outputs: Tensors
    parameters: Parameters = {}
    final: bool = True
    placed: frozenset[str] = frozenset()


Reply = Callable[[InferResponse | InferError], None]
"""Called on the event loop's thread, once for each response (exactly once for a model that is not decoupled)."""

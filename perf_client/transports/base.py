"""The seam between what drives the load and what carries it.

A connection offers ``capacity`` slots; each slot carries one request at a time. The connection writes what it saw into
the recorder and tells its owner when a slot is free again or when it is gone with all its slots.
"""

from collections.abc import Callable
from typing import Protocol

from perf_client.record import Recorder


class BadAnswer(Exception):
    """What came is not of the protocol that was asked for."""


class Connection(Protocol):
    """One open connection to the server."""

    capacity: int
    in_flight: int
    usable: bool
    """False once the connection is closed or will take no new request."""

    def send(self, scheduled_ns: int = 0) -> None:
        """Send the next request now; 0 where no schedule asked for it, so that it counts as due when it is sent.

        Only called while usable and with fewer than ``capacity`` in flight.
        """

    def expire(self, sent_before_ns: int, now_ns: int, failure: str = "timeout") -> None:
        """Give up what was sent before that time: failures of that class."""

    def close(self) -> None:
        """Close without telling the owner; requests in flight are not recorded."""


class Owner(Protocol):
    """What a connection reports to. Both are called from within the event loop, times are absolute."""

    def ready(self, connection: Connection, now_ns: int) -> None:
        """One slot is free again: its request was recorded."""

    def lost(self, connection: Connection) -> None:
        """The connection is gone; what was in flight on it has been recorded as failed."""


class Transport(Protocol):
    """Opens connections of one protocol to one server, all sending from one pool of encoded requests."""

    slots_per_connection: int

    async def connect(self, capacity: int, owner: Owner, recorder: Recorder) -> Connection:
        """Raises OSError or TimeoutError where the server can't be reached or speaks something else."""


Clock = Callable[[], int]
"""CLOCK_MONOTONIC in ns."""


def connect_failure(error: BaseException) -> str:
    """The failure class of a connection that could not be opened."""
    match error:
        case ConnectionRefusedError():
            return "connection refused"
        case TimeoutError():
            return "timeout"
        case _:
            return "connection failed"


def loss_failure(error: Exception | None) -> tuple[str, str]:
    """Failure class and example of requests that were in flight when their connection went away."""
    if error is None:
        return "connection closed", "the server closed the connection before it had answered"
    return "connection reset", str(error) or "the connection broke before the answer was complete"


def unanswered(sent_ns: int, now_ns: int) -> str:
    """Example of a request that was given up."""
    return f"no complete answer {(now_ns - sent_ns) / 1e9:.3g} s after it was sent"

"""Connections that hold on to something without moving, found and closed: a look now and then, nothing a request."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

PROGRESS_BYTES = 64 * 1024
"""What has to come or go within the time, or the client is taken for one that only keeps us waiting."""

_LOOKS = 4  # within a time-out
_SHORTEST_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a connection stands that waits for its client. It differs from one before if the client did its part."""

    is_idle: bool
    progress: tuple[int, ...]


class Connection(Protocol):
    @property
    def standing(self) -> Standing | None:
        """None while the client waits for us."""
        ...

    def drain(self) -> None: ...

    def abort(self) -> None: ...


class Site(Protocol):
    @property
    def connections(self) -> Iterable[Connection]: ...


class Patrol:
    """Idle connections are closed in peace, those that stall in the middle of something are cut. 0 is no time-out."""

    def __init__(self, sites: Sequence[Site], *, idle_timeout_s: float, stall_timeout_s: float) -> None:
        self._sites = sites
        self._idle_s = idle_timeout_s or float("inf")
        self._stall_s = stall_timeout_s or float("inf")
        self._seen: dict[Connection, tuple[Standing, float]] = {}

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Goes on for as long as the loop runs."""
        shortest_s = min(self._idle_s, self._stall_s)
        if shortest_s < float("inf"):
            loop.call_later(max(_SHORTEST_LOOK_S, shortest_s / _LOOKS), self._look_again, loop)

    def look(self, now_s: float) -> None:
        seen: dict[Connection, tuple[Standing, float]] = {}
        for connection in [connection for site in self._sites for connection in site.connections]:
            standing = connection.standing
            if standing is None:
                continue
            known = self._seen.get(connection)
            since_s = known[1] if known is not None and known[0] == standing else now_s
            if now_s - since_s < (self._idle_s if standing.is_idle else self._stall_s):
                seen[connection] = standing, since_s
            elif standing.is_idle:
                connection.drain()
            else:
                connection.abort()
        self._seen = seen

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self.look(loop.time())
        self.start(loop)

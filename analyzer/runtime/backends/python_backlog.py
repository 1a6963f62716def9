"""Answers that models called for and have not taken: how much of them may lie there, and when that is given up.

A called model is held once ``_UNTAKEN_LIMIT_BYTES`` of one call lie untaken. A caller that meanwhile waits for another
call may do so in vain: what is held may be the very instance that it waits for. So then more of them may pile up, and
where that does not help either, the call that is held fails with a sentence.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from analyzer.runtime.request import ErrorKind, InferError, InferRequest, InferResponse

_UNTAKEN_LIMIT_BYTES = 2**24
_SPILL_LIMIT_BYTES = 2**28
"""Where the caller waits for another call."""
_LEAST_UNTAKEN = 8  # more than are taken before the server hears of it
_ANSWER_BYTES = 4096

GIVE_UP_S = 30.0


class Call:
    """A call of a model that may give many answers."""

    def __init__(self, request: InferRequest, fail: Callable[[InferError], None]) -> None:
        """``fail`` tells the caller that no more answers will come."""
        self.request = request
        self.fail = fail
        self.is_given_up = False
        self._untaken: deque[int] = deque()
        self.untaken_bytes = 0
        self.total = 0

    def add(self, answer: InferResponse) -> None:
        size = _ANSWER_BYTES + sum(array.nbytes for array in answer.outputs.values())
        self.total += 1
        self._untaken.append(size)
        self.untaken_bytes += size

    def take(self, count: int) -> None:
        for _ in range(min(count, len(self._untaken))):
            self.untaken_bytes -= self._untaken.popleft()

    def hold(self, limit_bytes: int) -> None:
        self.request.hold(self.untaken_bytes > limit_bytes and len(self._untaken) > _LEAST_UNTAKEN)

    def give_up(self) -> None:
        self.is_given_up = True
        held_bytes, model = self.untaken_bytes, self.request.model
        self.fail(
            InferError(
                ErrorKind.RESOURCE_EXHAUSTED,
                f"the call of '{model}' was given up: {held_bytes} bytes of its answers were not taken, while its "
                "caller waited for another call; take the answers of one call before waiting for the next",
            )
        )
        self.request.cancel()


class Backlog:
    """The calls of one process. Used on the event loop's thread only."""

    def __init__(self, loop: asyncio.AbstractEventLoop, give_up_s: float = GIVE_UP_S) -> None:
        self._loop = loop
        self._give_up_s = give_up_s
        self._open: dict[int, Call] = {}
        self._awaited: set[int] = set()
        self._alarm: asyncio.TimerHandle | None = None

    def open(self, number: int, request: InferRequest, fail: Callable[[InferError], None]) -> None:
        self._open[number] = Call(request, fail)

    def open_single(self, number: int) -> None:
        """A call that gives one answer, for which its caller waits: now, or maybe later."""
        self._awaited.add(number)
        self._settle()

    def wait(self, number: int, total: int) -> None:
        """The caller waits for the next answer of this call, having had so many; it may be on its way meanwhile."""
        call = self._open.get(number)
        if call is not None and call.total == total:
            self._awaited.add(number)
            self._settle()

    def answered(self, number: int, answer: InferResponse | InferError) -> bool:
        """False where nobody wants it any more."""
        self._awaited.discard(number)
        call = self._open.get(number)
        if call is not None and isinstance(answer, InferResponse) and not answer.final:
            call.add(answer)
        else:
            self._open.pop(number, None)
        self._settle()
        return call is None or not call.is_given_up

    def take(self, number: int, count: int) -> None:
        if number in self._open:
            self._open[number].take(count)
            self._settle()

    def forget(self, number: int) -> Call | None:
        """It was not begun, or is taken no further."""
        self._awaited.discard(number)
        call = self._open.pop(number, None)
        self._settle()
        return call

    def end(self) -> None:
        """The process is gone."""
        calls, self._open = self._open, {}
        self._awaited.clear()
        self._settle()
        for call in calls.values():
            call.request.cancel()

    def _settle(self) -> None:
        if not self._open and self._alarm is None:
            return
        for number, call in self._open.items():
            elsewhere = self._awaited - {number}
            call.hold(_SPILL_LIMIT_BYTES if elsewhere else _UNTAKEN_LIMIT_BYTES)
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._stuck():
            self._alarm = self._loop.call_later(self._give_up_s, self._give_up)

    def _stuck(self) -> list[Call]:
        return [
            call
            for number, call in self._open.items()
            if call.request.is_held and not call.is_given_up and self._awaited - {number}
        ]

    def _give_up(self) -> None:
        self._alarm = None
        for call in self._stuck():
            call.give_up()


class Backlogs:
    """Those of all processes that called."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._of: dict[Any, Backlog] = {}

    def of(self, asker: Any) -> Backlog:
        """For a process that is there."""
        backlog = self._of.get(asker)
        if backlog is None:
            backlog = self._of[asker] = Backlog(self._loop)
        return backlog

    def answered(self, asker: Any, number: int, answer: InferResponse | InferError) -> bool:
        """As ``Backlog.answered``; False where the process is gone, whose memory is another's by now."""
        return asker in self._of and self._of[asker].answered(number, answer)

    def forget(self, asker: Any, number: int) -> Call | None:
        return self._of[asker].forget(number) if asker in self._of else None

    def end(self, asker: Any) -> None:
        backlog = self._of.pop(asker, None)
        if backlog is not None:
            backlog.end()

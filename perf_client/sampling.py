"""One question to the server, asked again and again along a run, with the moment of each answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from perf_client.transports.base import Clock

Answer = TypeVar("Answer")


class Unmeasured(Exception):
    """The question can't be answered; the message says why, as the reason in a report."""


class Sampling(Generic[Answer]):
    """Keeps what was answered. The first failure ends it and is remembered as the reason."""

    def __init__(self, ask: Callable[[], Awaitable[Answer]], clock: Clock, interval_s: float) -> None:
        self._ask = ask
        self._clock = clock
        self._interval_s = interval_s
        self.taken: list[tuple[int, int, Answer]] = []
        """Absolute time of the middle between question and answer, half the time between them, and the answer."""
        self.unmeasured = ""

    async def sample(self) -> None:
        if self.unmeasured:
            return
        before_ns = self._clock()
        try:
            answer = await self._ask()
        except Unmeasured as error:
            self.unmeasured = str(error)
        else:
            after_ns = self._clock()
            self.taken.append(((before_ns + after_ns) // 2, (after_ns - before_ns) // 2, answer))

    async def keep_sampling(self, also_at_ns: int | None) -> None:
        """Sample at the interval until cancelled, and at one more moment."""
        if also_at_ns is not None:
            while (left_s := (also_at_ns - self._clock()) / 1e9) > 0:
                await asyncio.sleep(min(left_s, self._interval_s))
                await self.sample()
        while not self.unmeasured:
            await asyncio.sleep(self._interval_s)
            await self.sample()

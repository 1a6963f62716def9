"""The client's eye on itself while the load runs: processor time, stalls of the event loop, requests out of time."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from perf_client.loop import Loop
from perf_client.transports.base import Clock

_HEARTBEAT_S = 0.01
_BEATS_PER_SWEEP = 5
_BEATS_PER_TICK = 50


@dataclass(frozen=True, slots=True)
class Tick:
    """How far a run is: since it was started, and over all its requests."""

    elapsed_s: float
    done_count: int
    in_flight: int


class SummedTicks:
    """How far several processes are that share a run: told on when each of them that still works has said so anew."""

    def __init__(self, count: int, on_tick: Callable[[Tick], None] | None) -> None:
        self._on_tick = on_tick
        self._working = set(range(count))
        self._last: dict[int, Tick] = {}
        self._new: set[int] = set()

    def told(self, index: int, tick: Tick) -> None:
        self._last[index] = tick
        self._new.add(index)
        if self._on_tick is not None and self._new >= self._working:
            self._new.clear()
            ticks = self._last.values()
            self._on_tick(
                Tick(
                    max(each.elapsed_s for each in ticks),
                    sum(each.done_count for each in ticks),
                    sum(each.in_flight for each in ticks),
                )
            )

    def over(self, index: int) -> None:
        """It is not waited for any more."""
        self._working.discard(index)


class Watch:
    """Beats every 10 ms; each fifth beat gives up requests that are out of time."""

    def __init__(
        self, load: Loop, timeout_ns: int, clock: Clock, on_tick: Callable[[Tick], None] | None = None
    ) -> None:
        self._load = load
        self._timeout_ns = timeout_ns
        self._clock = clock
        self._on_tick = on_tick
        self._started_ns = 0
        self._beats = 0
        self._due_ns = 0
        self._cpu_from_ns = 0
        self._timer: asyncio.TimerHandle | None = None
        self.stall_max_ns = 0

    def start(self) -> None:
        self._cpu_from_ns = time.process_time_ns()
        self._started_ns = self._clock()
        self._next()

    def cpu_s(self) -> float:
        return (time.process_time_ns() - self._cpu_from_ns) / 1e9

    def _next(self) -> None:
        self._due_ns = self._clock() + int(_HEARTBEAT_S * 1e9)
        self._timer = asyncio.get_running_loop().call_later(_HEARTBEAT_S, self._beat)

    def _beat(self) -> None:
        self.stall_max_ns = max(self.stall_max_ns, self._clock() - self._due_ns)
        self._beats += 1
        if self._beats % _BEATS_PER_SWEEP == 0:
            self._load.expire(self._timeout_ns)
            self._load.spill()
        if self._on_tick is not None and self._beats % _BEATS_PER_TICK == 0:
            elapsed_s = (self._clock() - self._started_ns) / 1e9
            self._on_tick(Tick(elapsed_s, self._load.done_count, self._load.outstanding()))
        self._next()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

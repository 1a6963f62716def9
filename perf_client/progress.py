"""One line on a terminal that says what is being measured and how far it is, gone when the result is there."""

import select
from io import UnsupportedOperation
from typing import TextIO

from perf_client.profile import Concurrency, LoadProfile, RequestRate
from perf_client.watch import Tick


class Progress:
    """Writes nothing where the stream is no terminal, and nothing to one that would keep the load generator waiting."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal if terminal.isatty() else None
        self._what = ""
        self._last = Tick(0.0, 0, 0)

    @property
    def shown(self) -> bool:
        return self._terminal is not None

    def begin(self, profile: LoadProfile) -> None:
        self._what = describe(profile)
        self._last = Tick(0.0, 0, 0)
        self._write(f"\r\033[Kmeasuring {self._what} ...")

    def tick(self, tick: Tick) -> None:
        """Called from within the event loop of the load, twice a second."""
        since_s = max(tick.elapsed_s - self._last.elapsed_s, 1e-9)
        per_second = (tick.done_count - self._last.done_count) / since_s
        self._last = tick
        if self._ready():
            self._write(
                f"\r\033[Kmeasuring {self._what}: {tick.elapsed_s:.1f} s, {tick.done_count} requests done, "
                f"{per_second:.0f}/s now, {tick.in_flight} in flight"
            )

    def end(self) -> None:
        self._write("\r\033[K")

    def _ready(self) -> bool:
        """Whether a write returns at once. A terminal that is held up (Ctrl-S) would stall the load."""
        if self._terminal is None:
            return False
        try:
            return bool(select.select([], [self._terminal.fileno()], [], 0)[1])
        except (UnsupportedOperation, OSError, ValueError):
            return True

    def _write(self, text: str) -> None:
        if self._terminal is not None:
            self._terminal.write(text)
            self._terminal.flush()


def describe(profile: LoadProfile) -> str:
    match profile.load:
        case Concurrency(in_flight=count):
            level = f"concurrency {count}"
        case RequestRate(per_second=rate):
            level = f"{rate:g} requests/s"
        case load:
            level = load.words[0].lower() + load.words[1:]
    if profile.request_count:
        return f"{level}, {profile.request_count} requests"
    return f"{level}, {profile.duration_s + (profile.warmup_s or 0.0):g} s"

"""One line on a terminal that says what is being measured, gone when the result is there."""

from typing import TextIO

from perf_client.profile import Concurrency, LoadProfile


class Progress:
    """Writes nothing where the stream is no terminal. The line stands still: to move it would take the client's CPU."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal if terminal.isatty() else None

    def begin(self, profile: LoadProfile) -> None:
        if self._terminal is not None:
            self._terminal.write(f"\r\033[Kmeasuring {describe(profile)} ...")
            self._terminal.flush()

    def end(self) -> None:
        if self._terminal is not None:
            self._terminal.write("\r\033[K")
            self._terminal.flush()


def describe(profile: LoadProfile) -> str:
    load = profile.load
    level = f"concurrency {load.in_flight}" if isinstance(load, Concurrency) else f"{load.per_second:g} requests/s"
    if profile.request_count:
        return f"{level}, {profile.request_count} requests"
    return f"{level}, {profile.duration_s + (profile.warmup_s or 0.0):g} s"

"""The load generator as a child process that measures one load profile after another."""

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

import msgspec

from analyzer import child
from analyzer.domain.record import Record
from analyzer.errors import ChildError, InputError
from perf_client.profile import LoadProfile, LoadResult

STOP_TIMEOUT_S = 5.0
LEAD_NS = 20_000_000
"""From the decision to begin until several begin: all of them have to hear of it in time."""


class LoadRefusedError(Exception):
    """The load generator could not apply this load; the message is its sentence."""


class _Job(Record, frozen=True):
    profile: LoadProfile
    url: str
    columns: str | None
    held: bool = False


class _Answer(msgspec.Struct, frozen=True):
    result: LoadResult | None = None
    ready: bool = False
    error: str = ""
    kind: str = ""


class Driver:
    """Sends jobs to a running load generator, one JSON line each way."""

    def __init__(self, process: "subprocess.Popen[str]", log_path: Path) -> None:
        self._process = process
        self._log_path = log_path

    def run(self, profile: LoadProfile, url: str, columns: Path | None) -> LoadResult:
        """Apply ``profile`` to the server at ``url`` (``host:port``); request times go to ``columns``.

        Raises:
            LoadRefusedError: the server can't be driven with this load.
            InputError: the input data or shapes don't fit the model, whatever the configuration.
            ChildError: the load generator died.
        """
        self.send(profile, url, columns, held=False)
        return self.result()

    def send(self, profile: LoadProfile, url: str, columns: Path | None, *, held: bool) -> None:
        """Hand over a job. A held one is prepared and then waits for ``begin``."""
        job = _Job(profile=profile, url=url, columns=None if columns is None else str(columns), held=held)
        self._write(msgspec.json.encode(job).decode())

    def await_ready(self) -> None:
        """Of a held job: until it could begin at once. Raises as ``run`` does."""
        self._answer()

    def begin(self, at_ns: int) -> None:
        """The moment (CLOCK_MONOTONIC) at which a held job's schedule is at zero."""
        self._write(str(at_ns))

    def result(self) -> LoadResult:
        """Of the job in hand, when it is over. Raises as ``run`` does."""
        result = self._answer().result
        assert result is not None, "only held jobs answer twice"
        return result

    def _answer(self) -> _Answer:
        assert self._process.stdout is not None
        try:
            answer = msgspec.json.decode(self._process.stdout.readline(), type=_Answer)
        except (OSError, msgspec.DecodeError) as error:
            raise self._death() from error
        if answer.result is None and not answer.ready:
            raise LoadRefusedError(answer.error) if answer.kind == "server" else InputError(answer.error)
        return answer

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._death() from error

    def _death(self) -> ChildError:
        words = child.last_words(self._log_path)
        return ChildError("the load generator died: " + (words.splitlines() or ["no word why"])[-1], words)


@contextmanager
def driver(log_path: Path) -> Iterator[Driver]:
    """A load generator for as long as the context lasts; its stderr goes to ``log_path``."""
    process = child.start("perf_client", ["--jobs"], log_path)
    try:
        yield Driver(process, log_path)
    finally:
        if process.stdin is not None:
            with suppress(OSError):
                process.stdin.close()  # one that waits to begin hears that it never will
        child.stop(process, STOP_TIMEOUT_S)


class Drivers:
    """A load generator for each model that is driven at the same time, started when first needed. Use as a context."""

    def __init__(self, folder: Path, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._folder = folder
        self._clock = clock
        self._stack = ExitStack()
        self._drivers: list[Driver] = []

    def __enter__(self) -> "Drivers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def run(self, loads: Sequence[tuple[LoadProfile, Path | None]], url: Callable[[str], str]) -> list[LoadResult]:
        """Apply all loads, beginning at one moment; ``url`` tells where a protocol is served. Raises as a Driver."""
        try:
            while len(self._drivers) < len(loads):
                log = self._folder / f"client{len(self._drivers)}.log"
                self._drivers.append(self._stack.enter_context(driver(log)))
            if len(loads) == 1:
                profile, columns = loads[0]
                return [self._drivers[0].run(profile, url(profile.protocol), columns)]
            return self._together(list(zip(self._drivers, loads)), url)
        except (LoadRefusedError, ChildError) as error:
            if len(loads) > 1 or isinstance(error, ChildError):
                # Others may be waiting, or still at work: all are ended, and started anew when needed.
                self._close()
            raise

    def _together(
        self, jobs: Sequence[tuple[Driver, tuple[LoadProfile, Path | None]]], url: Callable[[str], str]
    ) -> list[LoadResult]:
        for each, (profile, columns) in jobs:
            each.send(profile, url(profile.protocol), columns, held=True)
        for each, _ in jobs:
            each.await_ready()
        at_ns = self._clock() + LEAD_NS
        for each, _ in jobs:
            each.begin(at_ns)
        return [each.result() for each, _ in jobs]

    def _close(self) -> None:
        self._drivers.clear()
        self._stack.close()

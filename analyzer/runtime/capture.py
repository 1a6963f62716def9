"""Captures of a running server: what may be watched, from when to when, and the files that are left."""

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from time import perf_counter_ns
from typing import Literal, Protocol

import msgspec

from analyzer.runtime.request import ErrorKind, InferError
from analyzer.runtime.spans import Spans, save
from analyzer.runtime.wire import invalid


class Availability(msgspec.Struct, frozen=True):
    """``absent``: can't be had here; ``busy``: someone else uses it; ``on``: it can be, or is, started."""

    state: Literal["absent", "busy", "on"]
    reason: str = ""


class CaptureStats(msgspec.Struct, frozen=True):
    """What a capture left: records kept and lost, the time that starting and stopping took, and its files."""

    records: int = 0
    dropped: int = 0
    overhead_ns: int = 0
    files: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Tracer(Protocol):
    """Something in the server that can be watched. Methods may block; they are called in a thread, one at a time."""

    name: str

    def probe(self) -> Availability: ...

    def start(self) -> Availability:
        """Raises nothing: what can't be started says so."""
        ...

    def stop(self, folder: Path) -> CaptureStats: ...


class SpanTracer:
    """The runtime's own spans. A Tracer whose ring is filled on the loop's thread."""

    name = "spans"

    def __init__(self, spans: Spans | None, loop: asyncio.AbstractEventLoop) -> None:
        self._spans = spans
        self._loop = loop

    def probe(self) -> Availability:
        if self._spans is None:
            return Availability("absent", "the server keeps no spans; start it with --spans on")
        return Availability("on")

    def start(self) -> Availability:
        if self._spans is not None:
            self._spans.start()
        return self.probe()

    def stop(self, folder: Path) -> CaptureStats:
        ring = self._spans
        if ring is None:
            return CaptureStats()
        stopped: Future[None] = Future()

        def stop_now() -> None:
            ring.stop()
            stopped.set_result(None)

        self._loop.call_soon_threadsafe(stop_now)
        stopped.result()  # between two writes, so that no row is read half written
        begun_ns = perf_counter_ns()
        rows, header = ring.rows(), ring.header()
        save(folder / "spans.npz", rows, header)
        return CaptureStats(len(rows), ring.dropped, perf_counter_ns() - begun_ns, ("spans.npz",))


class Capture:
    """Starts and stops what a client names. Used on the loop's thread; the work goes to a thread."""

    def __init__(self, folder: Path | None, tracers: Iterable[Tracer]) -> None:
        self._folder = folder
        self._tracers = {tracer.name: tracer for tracer in tracers}
        self._running: list[str] = []
        self._changing = asyncio.Lock()

    async def probe(self) -> dict[str, Availability]:
        async with self._changing:
            return {name: await asyncio.to_thread(tracer.probe) for name, tracer in self._tracers.items()}

    async def start(self, names: Sequence[str]) -> dict[str, Availability]:
        """Those that can't be started say why; the others run. Raises InferError for an unknown name."""
        self._check()
        unknown = [name for name in names if name not in self._tracers]
        if unknown:
            raise invalid(f"'{unknown[0]}' can't be captured; known are {', '.join(self._tracers)}")
        async with self._changing:
            if self._running:
                raise InferError(ErrorKind.UNAVAILABLE, "a capture is under way; stop it first")
            states = {name: await asyncio.to_thread(self._tracers[name].start) for name in dict.fromkeys(names)}
            self._running = [name for name, availability in states.items() if availability.state == "on"]
            return states

    async def stop(self) -> dict[str, CaptureStats]:
        """Ends what runs, the last begun first, and writes the files."""
        folder = self._check()
        async with self._changing:
            running, self._running = self._running, []
            try:
                return {name: await asyncio.to_thread(self._tracers[name].stop, folder) for name in reversed(running)}
            except OSError as error:
                raise InferError(ErrorKind.INTERNAL, f"the capture could not be written: {error}") from None

    def _check(self) -> Path:
        if self._folder is None:
            raise invalid("this server writes no captures; start it with --capture-dir and a folder to write them to")
        return self._folder

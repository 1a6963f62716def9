"""The load generator as a child process: a JSON line a job on stdin, a JSON line a result on stdout, until EOF.

One process for many measurements spares each of them the start of an interpreter. A job that can't be done is answered
with its sentence; an interrupted one is answered with its partial result, and then no more jobs are taken.

Several such processes can begin at one moment: a held job is answered with ``{"ready": true}`` when it could begin, and
waits for a line with the moment at which its schedule is at zero, in ns of CLOCK_MONOTONIC.
"""

import asyncio
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import msgspec

from perf_client.drive import INTERRUPTED as INTERRUPTED_RUN
from perf_client.drive import Begin, run_load
from perf_client.errors import LoadError, data_error, usage_error
from perf_client.metrics_source import MetricsSource
from perf_client.profile import LoadProfile, LoadResult
from perf_client.summarize import summarize
from perf_client.tls import Tls

INTERRUPTED = 130

_KINDS = {2: "usage", 3: "data", 5: "server"}


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to measure where; ``columns`` is the ``.npz`` file that takes every request's times.

    A ``held`` job waits for the moment to begin at; see the module.
    """

    profile: LoadProfile
    url: str
    columns: str | None = None
    tls: Tls | None = None
    metrics: MetricsSource | None = None
    held: bool = False


class HeldReady(msgspec.Struct, frozen=True):
    ready: bool = True


class Done(msgspec.Struct, frozen=True):
    result: LoadResult


class NotDone(msgspec.Struct, frozen=True):
    """``kind`` is ``usage``, ``data`` or ``server``: what has to be mended."""

    error: str
    kind: str


def main() -> int:
    """Exit code 0 at the end of the jobs, 130 when interrupted."""
    try:
        return serve(sys.stdin.buffer, sys.stdout.buffer)
    except (KeyboardInterrupt, BrokenPipeError):
        return INTERRUPTED


def serve(jobs: Iterable[bytes], answers: IO[bytes]) -> int:
    lines = iter(jobs)

    async def begin() -> int:
        _write(answers, HeldReady())
        # A thread of its own, so that a signal can end the wait, and the process does not wait for the thread.
        heard: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        threading.Thread(target=_await_moment, args=(lines, heard), daemon=True).start()
        return await heard

    for line in lines:
        if not line.strip():
            continue
        answer = _answer(line, begin)
        _write(answers, answer)
        if isinstance(answer, Done) and answer.result.incomplete_reason == INTERRUPTED_RUN:
            return INTERRUPTED
    return 0


def _write(answers: IO[bytes], answer: HeldReady | Done | NotDone) -> None:
    answers.write(msgspec.json.encode(answer) + b"\n")
    answers.flush()


def _await_moment(lines: Iterator[bytes], heard: "asyncio.Future[int]") -> None:
    """The next line, as the moment to begin at."""
    line = next(lines, b"")
    loop = heard.get_loop()
    try:
        loop.call_soon_threadsafe(heard.set_result, int(line))
    except ValueError:
        error = usage_error("a held job was told no moment to begin at, in ns")
        loop.call_soon_threadsafe(heard.set_exception, error)


def _answer(line: bytes, begin: Begin) -> Done | NotDone:
    try:
        return Done(_measure(line, begin))
    except LoadError as error:
        return NotDone(error=str(error), kind=_KINDS.get(error.exit_code, "server"))


def _measure(line: bytes, begin: Begin) -> LoadResult:
    try:
        job = msgspec.json.decode(line, type=Job)
    except msgspec.DecodeError as error:
        raise usage_error(f"a job that is not one: {error}") from None
    if job.held and job.profile.workers > 1:
        raise usage_error("a held job is for one process: workers begin together by themselves")
    run = run_load(job.profile, job.url, job.tls, metrics=job.metrics, begin=begin if job.held else None)
    if job.columns is not None:
        try:
            run.columns.save(Path(job.columns))
        except OSError as error:
            raise data_error(f"request times can't be written to {job.columns}: {error.strerror}") from None
    return summarize(job.profile, run.columns, run.facts)

"""The load generator as a child process: a JSON line a job on stdin, a JSON line a result on stdout, until EOF.

One process for many measurements spares each of them the start of an interpreter. A job that can't be done is answered
with its sentence; an interrupted one is answered with its partial result, and then no more jobs are taken.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import msgspec

from perf_client.drive import INTERRUPTED as INTERRUPTED_RUN
from perf_client.drive import run_load
from perf_client.errors import LoadError, data_error, usage_error
from perf_client.metrics_source import MetricsSource
from perf_client.profile import LoadProfile, LoadResult
from perf_client.summarize import summarize
from perf_client.tls import Tls

INTERRUPTED = 130

_KINDS = {2: "usage", 3: "data", 5: "server"}


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to measure where; ``columns`` is the ``.npz`` file that takes every request's times."""

    profile: LoadProfile
    url: str
    columns: str | None = None
    tls: Tls | None = None
    metrics: MetricsSource | None = None


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
    for line in jobs:
        if not line.strip():
            continue
        answer = _answer(line)
        answers.write(msgspec.json.encode(answer) + b"\n")
        answers.flush()
        if isinstance(answer, Done) and answer.result.incomplete_reason == INTERRUPTED_RUN:
            return INTERRUPTED
    return 0


def _answer(line: bytes) -> Done | NotDone:
    try:
        return Done(_measure(line))
    except LoadError as error:
        return NotDone(error=str(error), kind=_KINDS.get(error.exit_code, "server"))


def _measure(line: bytes) -> LoadResult:
    try:
        job = msgspec.json.decode(line, type=Job)
    except msgspec.DecodeError as error:
        raise usage_error(f"a job that is not one: {error}") from None
    run = run_load(job.profile, job.url, job.tls, metrics=job.metrics)
    if job.columns is not None:
        try:
            run.columns.save(Path(job.columns))
        except OSError as error:
            raise data_error(f"request times can't be written to {job.columns}: {error.strerror}") from None
    return summarize(job.profile, run.columns, run.facts)

"""A load shared by several processes: started together, begun at one moment, their rows joined into one run."""

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from perf_client.drive import INTERRUPTED, OnTick, Run
from perf_client.errors import LoadError, server_error
from perf_client.metrics_source import MetricsSource
from perf_client.profile import LoadProfile
from perf_client.record import Columns, RunFacts
from perf_client.share import Share, check_workers, joined_columns, joined_facts
from perf_client.tls import Tls
from perf_client.transports.base import Clock
from perf_client.watch import SummedTicks
from perf_client.worker import Ended, Message, Ready, Refusal, Task, Told

_LEAD_NS = 20_000_000
"""Between the decision to begin and the schedule's zero: every process has to hear of it in time."""

_FAREWELL_S = 5.0
_LINE_LIMIT_BYTES = 1 << 30
"""The facts of a run hold every sample of the server's metrics."""


class WorkerDied(Exception):
    """A process ended without a word."""


async def drive_shared(
    profile: LoadProfile,
    url: str,
    interrupted: asyncio.Event,
    clock: Clock = time.monotonic_ns,
    *,
    on_tick: OnTick | None = None,
    tls: Tls | None = None,
    metrics: MetricsSource | None = None,
) -> Run:
    """As ``drive`` does, by ``profile.workers`` processes. Raises LoadError where the load can't begin."""
    check_workers(profile)
    with TemporaryDirectory(prefix="perf_client_") as folder:
        tasks = [
            Task(
                profile, url, Share(index, profile.workers), f"{folder}/{index}.npz", tls, metrics, on_tick is not None
            )
            for index in range(profile.workers)
        ]
        processes: list[Process] = []
        try:
            for task in tasks:
                processes.append(await _start(task))
            return await _together(tasks, processes, interrupted, clock, SummedTicks(len(tasks), on_tick))
        except WorkerDied as error:
            raise server_error(f"{error}; what it said is above") from None
        finally:
            await _end(processes)


async def _start(task: Task) -> Process:
    """In a session of its own, so that Ctrl-C reaches only us, and each worker once."""
    here = str(Path(__file__).parent.parent)
    path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "perf_client.worker",
        stdin=PIPE,
        stdout=PIPE,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
        limit=_LINE_LIMIT_BYTES,
    )
    _tell(process, msgspec.json.encode(task))
    return process


async def _together(
    tasks: Sequence[Task],
    processes: Sequence[Process],
    interrupted: asyncio.Event,
    clock: Clock,
    ticks: SummedTicks,
) -> Run:
    passing_on = asyncio.create_task(_pass_on(interrupted, processes))
    try:
        for answer in await asyncio.gather(*(_heard(process) for process in processes)):
            if isinstance(answer, Refusal):
                raise LoadError(answer.error, answer.exit_code)
            assert isinstance(answer, Ready)
        start_ns = clock() + _LEAD_NS
        for process in processes:
            _tell(process, str(start_ns).encode())
        ends = (_end_of(process, index, ticks) for index, process in enumerate(processes))
        answers = await asyncio.gather(*ends, return_exceptions=True)
    finally:
        passing_on.cancel()
    return _joined(tasks, answers, interrupted.is_set())


def _joined(tasks: Sequence[Task], answers: Sequence[Message | BaseException], interrupted: bool) -> Run:
    """A process that died takes its rows with it: what the others have is a partial result."""
    facts: list[RunFacts] = []
    columns: list[Columns] = []
    lost: list[str] = []
    for task, answer in zip(tasks, answers):
        match answer:
            case Ended():
                facts.append(answer.facts)
                columns.append(Columns.load(Path(task.columns)))
            case Refusal():
                raise LoadError(answer.error, answer.exit_code)
            case _:
                lost.append(f"worker {task.share.index} of {task.share.count} died with its part of the requests")
    if not facts:
        raise WorkerDied("all worker processes died")
    whole = joined_facts(facts)
    if interrupted:
        whole = replace(whole, incomplete=True, incomplete_reason=INTERRUPTED)
    elif lost:
        whole = replace(whole, incomplete=True, incomplete_reason=lost[0])
    return Run(joined_columns(columns), whole)


async def _pass_on(interrupted: asyncio.Event, processes: Sequence[Process]) -> None:
    await interrupted.wait()
    for process in processes:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)


async def _heard(process: Process) -> Message:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise WorkerDied("a worker process died")
    message: Message = msgspec.json.decode(line, type=Message)
    return message


async def _end_of(process: Process, index: int, ticks: SummedTicks) -> Message:
    try:
        while isinstance(message := await _heard(process), Told):
            ticks.told(index, message.tick)
        return message
    finally:
        ticks.over(index)


def _tell(process: Process, line: bytes) -> None:
    assert process.stdin is not None
    with suppress(OSError):  # it died: that is heard of when it should answer
        process.stdin.write(line + b"\n")


async def _end(processes: Sequence[Process]) -> None:
    """All of them are over when this returns. One that still works takes the end of its stdin as an interruption."""
    for process in processes:
        if process.stdin is not None:
            process.stdin.close()
    for process in processes:
        try:
            await asyncio.wait_for(process.wait(), _FAREWELL_S)
        except TimeoutError:
            process.kill()
            await process.wait()

"""A process that drives its share of a load: it is told its task, says that it is ready, is told when to begin.

Each is a line of JSON over stdin and stdout, as is the result; the rows go into a file. Where stdin ends early, whoever
started it is gone, and it ends too.
"""

import asyncio
import signal
import sys
from pathlib import Path

import msgspec
import uvloop

from perf_client.drive import Run, drive
from perf_client.errors import LoadError
from perf_client.metrics_source import MetricsSource
from perf_client.profile import LoadProfile
from perf_client.record import RunFacts
from perf_client.share import Share
from perf_client.target import Target
from perf_client.tls import Tls
from perf_client.watch import Tick


class Task(msgspec.Struct, frozen=True):
    """``columns`` is the file for the rows; ``ticks`` says whether to tell how far the run is."""

    profile: LoadProfile
    url: str
    share: Share
    columns: str
    tls: Tls | None = None
    metrics: MetricsSource | None = None
    ticks: bool = False


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """Connections are open, requests are encoded."""


class Told(msgspec.Struct, frozen=True, tag="told"):
    """How far it is; comes any number of times between the others."""

    tick: Tick


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    facts: RunFacts


class Refusal(msgspec.Struct, frozen=True, tag="refusal"):
    """The load can't begin."""

    error: str
    exit_code: int


Message = Ready | Told | Ended | Refusal


def main() -> int:
    task = msgspec.json.decode(sys.stdin.buffer.readline(), type=Task)
    try:
        run: Run = uvloop.run(_work(task))
        run.columns.save(Path(task.columns))
        _say(Ended(run.facts))
    except LoadError as error:
        _say(Refusal(str(error), error.exit_code))
    return 0


async def _work(task: Task) -> Run:
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def begin() -> int:
        """When the schedule's zero is, once all shares are ready."""
        _say(Ready())
        line = await reader.readline()
        if not line:
            interrupted.set()
            return 0
        watching.append(asyncio.create_task(_end_with(reader, interrupted)))
        return int(line)

    def on_tick(tick: Tick) -> None:
        _say(Told(tick))

    watching: list[asyncio.Task[None]] = []
    target = Target.parse(task.url, task.profile.protocol, task.tls)
    try:
        return await drive(
            task.profile,
            target,
            interrupted,
            on_tick=on_tick if task.ticks else None,
            metrics=task.metrics,
            share=task.share,
            begin=begin,
        )
    finally:
        for each in watching:
            each.cancel()


async def _end_with(reader: asyncio.StreamReader, interrupted: asyncio.Event) -> None:
    await reader.read()
    interrupted.set()


def _say(message: Message) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(message) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())

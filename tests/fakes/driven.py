"""Loads put on servers that live as long as the load, and what failed of them."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import uvloop

from perf_client.drive import Run, drive
from perf_client.profile import LoadProfile
from perf_client.target import Target
from tests.fakes.grpc_server import grpc_server
from tests.fakes.scripted_http import ScriptedServer, scripted_server


def failures(run: Run) -> Counter[str]:
    """How many requests ended in which way; those that succeeded stand at ``""``."""
    return Counter(run.columns.failure_names[code] for code in run.columns.failure)


def drive_scripted(
    server: ScriptedServer, load: LoadProfile, meanwhile: Callable[[asyncio.Event], None] | None = None
) -> Run:
    """``meanwhile`` is given what interrupts the run, once the server is there."""

    async def main() -> Run:
        async with scripted_server(server):
            interrupted = asyncio.Event()
            if meanwhile is not None:
                meanwhile(interrupted)
            return await drive(load, Target("127.0.0.1", server.port, "http"), interrupted)

    run: Run = uvloop.run(main())
    return run


def drive_grpc(load: LoadProfile, *server: Any, **options: Any) -> Run:
    """What comes behind the load is for ``grpc_server``."""
    with grpc_server(*server, **options) as port:
        run: Run = uvloop.run(drive(load, Target("127.0.0.1", port, "grpc")))
        return run

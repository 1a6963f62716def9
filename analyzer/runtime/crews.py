"""The instances of a model version, started: all in one crew, or each in its own where something comes between them."""

import asyncio
from collections.abc import Sequence
from functools import partial

from analyzer.runtime.backends.base import Backend, Instance, ModelError, ModelFiles, Placement
from analyzer.runtime.backends.python import PythonBackend
from analyzer.runtime.backends.python_calls import Calls
from analyzer.runtime.backends.python_crew import ProcessCrew
from analyzer.runtime.instance import Crew, InlineCrew, ThreadCrew
from analyzer.runtime.instance_groups import demands, placements
from analyzer.runtime.rate_limiter import LimitedCrew, RateLimiter
from analyzer.runtime.rate_policy import Ticket, UnmetDemand
from analyzer.runtime.warmup import warm_up


async def start_crew(
    backend: Backend,
    files: ModelFiles,
    loop: asyncio.AbstractEventLoop,
    limiter: RateLimiter | None = None,
    calls: Calls | None = None,
) -> Crew:
    """All instances behind one inbox. ``calls`` is what models may ask of the server.

    Raises ModelError; then none is left.
    """
    if limiter is None:
        return await _start(backend, files, placements(files), loop, calls)
    return LimitedCrew(await _start_limited(backend, files, loop, limiter, calls), limiter)


async def resize_crew(crew: Crew, backend: Backend, files: ModelFiles) -> None:
    """Adds or ends instances while the others serve on. Raises ModelError; then the crew is as it was."""
    wanted = placements(files)
    try:
        if isinstance(crew, ProcessCrew) and isinstance(backend, PythonBackend):
            await crew.resize(files, backend.tasks(files, wanted))
        elif isinstance(crew, ThreadCrew):
            await crew.resize({item.name: partial(_load, backend, files, item) for item in wanted})
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f"model '{files.name}' failed to load: {type(error).__name__}: {error}") from error


async def start_crews(
    backend: Backend,
    files: ModelFiles,
    loop: asyncio.AbstractEventLoop,
    limiter: RateLimiter | None = None,
    calls: Calls | None = None,
) -> list[Crew]:
    """A crew an instance, for who must choose the instance itself. Raises ModelError; then none is left."""
    if limiter is None:
        return await _start_each(backend, files, loop, calls)
    return [LimitedCrew([member], limiter) for member in await _start_limited(backend, files, loop, limiter, calls)]


async def _start_limited(
    backend: Backend, files: ModelFiles, loop: asyncio.AbstractEventLoop, limiter: RateLimiter, calls: Calls | None
) -> list[tuple[Ticket, Crew]]:
    try:
        tickets = limiter.admit(demands(files))
    except UnmetDemand as error:
        raise ModelError(f"model '{files.name}' can't be served under the rate limiter: {error}") from None
    try:
        return list(zip(tickets, await _start_each(backend, files, loop, calls)))
    except BaseException:
        limiter.dismiss(tickets)
        raise


async def _start_each(
    backend: Backend, files: ModelFiles, loop: asyncio.AbstractEventLoop, calls: Calls | None
) -> list[Crew]:
    starting = [asyncio.ensure_future(_start(backend, files, [item], loop, calls)) for item in placements(files)]
    try:
        return list(await asyncio.gather(*starting))
    except BaseException:
        # Nobody else knows of those that were started.
        for outcome in await asyncio.gather(*starting, return_exceptions=True):
            if not isinstance(outcome, BaseException):
                await outcome.stop()
        raise


async def _start(
    backend: Backend,
    files: ModelFiles,
    wanted: Sequence[Placement],
    loop: asyncio.AbstractEventLoop,
    calls: Calls | None,
) -> Crew:
    try:
        if calls is not None and isinstance(backend, PythonBackend):
            processes = backend.process_crew(files, wanted, calls, loop)
            if processes is not None:
                await processes.load()
                return processes
        if backend.runs_inline(files):
            return InlineCrew(wanted[0].name, _load(backend, files, wanted[0]))
        crew = ThreadCrew({item.name: partial(_load, backend, files, item) for item in wanted}, loop)
        await crew.load()
        return crew
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        raise ModelError(f"model '{files.name}' failed to load: {type(error).__name__}: {error}") from error


def _load(backend: Backend, files: ModelFiles, placement: Placement) -> Instance:
    instance = backend.load(files, placement)
    try:
        warm_up(files, instance)
    except ModelError:
        instance.close()
        raise
    return instance

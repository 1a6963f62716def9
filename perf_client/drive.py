"""One load profile against one server: prepare everything, run the load, return its rows and what is known about it."""

import asyncio
import gc
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import uvloop

from perf_client.check_profile import check_profile, with_sequences
from perf_client.closed_loop import ClosedLoop
from perf_client.control import Control, Refused, describe_model, make_control
from perf_client.lanes import LanedTransport
from perf_client.loads import Concurrency, PeriodicConcurrency
from perf_client.loop import Loop
from perf_client.make_loop import first_slots, make_loop
from perf_client.make_transport import make_transport
from perf_client.metrics_source import MetricsSource
from perf_client.mix import MixRecorder, draws
from perf_client.open_loop import OpenLoop
from perf_client.profile import LoadProfile
from perf_client.record import Columns, Recorder, RunFacts
from perf_client.schedule import due_times
from perf_client.sequences import SequenceLane
from perf_client.server_metrics import MetricsScraper
from perf_client.server_side import ServerSide
from perf_client.server_statistics import StatisticsSampler
from perf_client.service import requests_for, runtime_for
from perf_client.share import WHOLE, Share
from perf_client.shared_tensors import placed
from perf_client.target import ModelDescription, Step, Target
from perf_client.tls import Tls
from perf_client.transports.base import Clock, Connection
from perf_client.watch import Tick, Watch
from perf_client.window import Window, scheduled_times

INTERRUPTED = "the run was interrupted"
SERVER_GONE = "the server was gone at the end of the run"

_LEAD_NS = 5_000_000
"""Between the decision to start and the schedule's zero, so that the first requests can be on time."""

_CATCH_UP_S = 1.0
"""At most, for requests that are due at the end of an open loop and have not left: sent late, they count so."""

_FAREWELL_S = 2.0
"""At most, for the ends of sequences after the run."""

OnTick = Callable[[Tick], None]

Begin = Callable[[], Awaitable[int]]
"""Says when the schedule's zero is; called when all is ready."""


@dataclass(frozen=True, slots=True)
class Run:
    columns: Columns
    facts: RunFacts


@dataclass(frozen=True, slots=True)
class _Prepared:
    """All that is there before the clock starts: encoded requests, open connections, a first server sample."""

    profile: LoadProfile
    load: Loop
    sampler: ServerSide
    recorder: Recorder
    lanes: Mapping[Connection, object]
    share: Share
    begin: Begin


def run_load(
    profile: LoadProfile,
    url: str,
    tls: Tls | None = None,
    on_tick: OnTick | None = None,
    metrics: MetricsSource | None = None,
    *,
    begin: Begin | None = None,
) -> Run:
    """Drive a server from a program that has no event loop. SIGINT and SIGTERM end the run with a partial result.

    ``on_tick`` is told twice a second how far the run is. ``begin``, as in ``drive``, is for a run of one process.
    """
    target = Target.parse(url, profile.protocol, tls)

    def go(interrupted: asyncio.Event) -> Coroutine[Any, Any, Run]:
        if profile.workers > 1:
            from perf_client.workers import drive_shared

            return drive_shared(profile, url, interrupted, on_tick=on_tick, tls=tls, metrics=metrics)
        return drive(profile, target, interrupted, on_tick=on_tick, metrics=metrics, begin=begin)

    run: Run = uvloop.run(_until_signalled(go))
    return run


async def _until_signalled(go: Callable[[asyncio.Event], Coroutine[Any, Any, Run]]) -> Run:
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    try:
        return await go(interrupted)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def drive(
    profile: LoadProfile,
    target: Target,
    interrupted: asyncio.Event | None = None,
    clock: Clock = time.monotonic_ns,
    *,
    on_tick: OnTick | None = None,
    metrics: MetricsSource | None = None,
    share: Share = WHOLE,
    begin: Begin | None = None,
) -> Run:
    """Apply the load and wait for the answers. Setting ``interrupted`` ends it early with what there is.

    A ``share`` is this process's part of the load; ``begin`` is awaited for the moment that all of them begin at.
    Raises LoadError where the load can't begin; once it has begun, errors are rows.
    """
    check_profile(profile)
    async with AsyncExitStack() as stack:
        runtime = await stack.enter_async_context(runtime_for(profile))
        control = stack.enter_context(closing(make_control(target, profile.headers, profile.service, runtime)))
        models = [await describe_model(control, target, each.model, each.version) for each in profile.shares]
        profile = with_sequences(profile, models)
        profile = share.of_profile(profile)
        pools = [share.of_pool(requests_for(profile, model)) for model in models]
        first = await stack.enter_async_context(placed(control, profile, models[0], pools[0]))
        drawn = share.of(draws(profile.mix, profile.seed)) if profile.mix else iter(())
        recorder = MixRecorder(drawn) if profile.mix else Recorder()
        transport = make_transport(profile, target, first, pools[1:], drawn=drawn, clock=clock, runtime=runtime)
        load = stack.enter_context(closing(make_loop(profile, transport, recorder, clock)))
        sampled = await _sampled_models(control, profile, models) if share.index == 0 else []
        statistics = StatisticsSampler(control, sampled, clock)
        sampler = ServerSide(statistics, MetricsScraper(metrics, clock) if metrics and share.index == 0 else None)
        await load.open_first(first_slots(profile))
        await sampler.sample()
        lanes = transport.lanes if isinstance(transport, LanedTransport) else {}
        watch = Watch(load, int(profile.timeout_s * 1e9), clock, on_tick)
        prepared = _Prepared(profile, load, sampler, recorder, lanes, share, begin or _soon(clock))
        return await _measure(prepared, watch, interrupted or asyncio.Event(), clock)


def _soon(clock: Clock) -> Begin:
    async def begin() -> int:
        return clock() + _LEAD_NS

    return begin


async def _sampled_models(control: Control, profile: LoadProfile, models: Sequence[ModelDescription]) -> list[Step]:
    """The driven models first, then those they are composed of, nested ensembles included."""
    found = [Step(model=share.model, version=share.version) for share in profile.shares]
    pending = [step for model in models for step in model.steps]
    while pending:
        step = pending.pop(0)
        if step in found:
            continue
        found.append(step)
        try:
            pending += (await control.config(step.model, step.version)).steps
        except (Refused, OSError, TimeoutError):
            continue
    return found


async def _measure(prepared: _Prepared, watch: Watch, interrupted: asyncio.Event, clock: Clock) -> Run:
    profile, load, sampler = prepared.profile, prepared.load, prepared.sampler
    with _no_garbage_collection():
        window = Window.starting_at(await prepared.begin(), profile)
        started_unix_ns = time.time_ns() + window.start_ns - clock()
        watch.start()
        sampling = asyncio.create_task(sampler.keep_sampling(window.warm_ns if profile.warmup_s else None))
        try:
            await _send(prepared, window, interrupted, clock)
            ended_ns = _ended_ns(load, window, interrupted, clock)
            cpu_s, gone = watch.cpu_s(), load.server_gone
            load.stop_sending()
            await _first_of(load.drained, interrupted)
        finally:
            watch.stop()
            sampling.cancel()
            # It may be in the midst of an answer: it has to be over before its connection is used again.
            await asyncio.gather(sampling, return_exceptions=True)
        load.give_up("interrupted")
        await sampler.sample()
    columns = prepared.recorder.columns(window.start_ns)
    reason = INTERRUPTED if interrupted.is_set() else SERVER_GONE if gone else ""
    facts = RunFacts(
        start_ns=window.start_ns,
        started_unix_ns=started_unix_ns,
        ended_ns=ended_ns - window.start_ns,
        cpu_s=cpu_s,
        wall_s=max(ended_ns - window.start_ns, 1) / 1e9,
        loop_stall_max_ns=watch.stall_max_ns,
        incomplete=bool(reason),
        incomplete_reason=reason,
        server=sampler.statistics.samples(window.start_ns),
        server_unmeasured=sampler.statistics.unmeasured,
        metrics=sampler.metrics_samples(window.start_ns),
        metrics_unmeasured=sampler.metrics_unmeasured,
        failure_examples=dict(prepared.recorder.examples),
        waited_for_slot=load.waited_for_slot,
    )
    if not interrupted.is_set():
        await _end_sequences(prepared)
    return Run(columns, facts)


def _ended_ns(load: Loop, window: Window, interrupted: asyncio.Event, clock: Clock) -> int:
    """The end of the window, the interruption, or where a count decides it, when the next request would be due."""
    if isinstance(load, OpenLoop) and window.end_ns is None and not interrupted.is_set():
        return load.next_due_ns(window.start_ns)
    now_ns = max(clock(), window.start_ns)
    return now_ns if window.end_ns is None else min(now_ns, window.end_ns)


async def _end_sequences(prepared: _Prepared) -> None:
    """Tell the server of sequences that the end of the run cut off, or they would take its places for a while yet."""
    cut_off = [
        (connection, lane)
        for connection, lane in prepared.lanes.items()
        if isinstance(lane, SequenceLane) and lane.unfinished and connection.usable
    ]
    for connection, lane in cut_off:
        lane.ending = True
        prepared.load.one_more(connection)
    if cut_off:
        with suppress(TimeoutError):
            await asyncio.wait_for(prepared.load.drained.wait(), _FAREWELL_S)


async def _send(prepared: _Prepared, window: Window, interrupted: asyncio.Event, clock: Clock) -> None:
    """Apply the load until its end: a moment, or the last of so many answers."""
    profile, load = prepared.profile, prepared.load
    if isinstance(load, OpenLoop):
        assert not isinstance(profile.load, Concurrency | PeriodicConcurrency)
        times = scheduled_times(due_times(profile.load, profile.seed), window, profile.request_count)
        load.start(prepared.share.of(times))
    elif isinstance(load, ClosedLoop):
        await _pause_until(window.start_ns, interrupted, clock)
        if interrupted.is_set():
            return
        if profile.request_count is not None and profile.warmup_s:
            load.start(None)
            await _pause_until(window.warm_ns, interrupted, clock)
            load.limit(profile.request_count)
        else:
            load.limit(profile.request_count)
            load.start(window.end_ns)
    if window.end_ns is None:
        await _first_of(load.drained, interrupted)
    else:
        await _pause_until(window.end_ns, interrupted, clock)
        if isinstance(load, OpenLoop) and not interrupted.is_set():
            await load.catch_up(_CATCH_UP_S)


async def _pause_until(at_ns: int, interrupted: asyncio.Event, clock: Clock) -> None:
    while (left_s := (at_ns - clock()) / 1e9) > 0 and not interrupted.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(interrupted.wait(), left_s)


async def _first_of(done: asyncio.Event, interrupted: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in (done, interrupted)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waits:
            task.cancel()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A collection over all that was encoded would be a stall of the client."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()

"""One load profile against one server: prepare everything, run the load, return its rows and what is known about it."""

import asyncio
import gc
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil

import uvloop

from perf_client.closed_loop import ClosedLoop
from perf_client.control import Control, Refused, describe_model, make_control
from perf_client.errors import usage_error
from perf_client.loop import Loop
from perf_client.open_loop import OpenLoop
from perf_client.pacer import arrivals
from perf_client.payload import make_requests
from perf_client.profile import Concurrency, LoadProfile, RequestRate
from perf_client.record import Columns, Recorder, RunFacts
from perf_client.server_statistics import StatisticsSampler
from perf_client.target import ModelDescription, Step, Target
from perf_client.tls import Tls
from perf_client.transports.base import Clock, Transport
from perf_client.watch import Watch
from perf_client.window import Window, scheduled_times
from perf_client.wire import Envelope, grpc_infer_request, http_infer_request

STREAMS_PER_CONNECTION = 8
"""gRPC streams that share a connection."""

_LEAD_NS = 5_000_000
"""Between the decision to start and the schedule's zero, so that the first requests can be on time."""

_SPARE_FILES = 64


@dataclass(frozen=True, slots=True)
class Run:
    columns: Columns
    facts: RunFacts


@dataclass(frozen=True, slots=True)
class _Prepared:
    """All that is there before the clock starts: encoded requests, open connections, a first server sample."""

    profile: LoadProfile
    load: Loop
    sampler: StatisticsSampler
    recorder: Recorder


def run_load(profile: LoadProfile, url: str, tls: Tls | None = None) -> Run:
    """Drive a server from a program that has no event loop. SIGINT and SIGTERM end the run with a partial result."""
    run: Run = uvloop.run(_until_signalled(profile, Target.parse(url, profile.protocol, tls)))
    return run


async def _until_signalled(profile: LoadProfile, target: Target) -> Run:
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    try:
        return await drive(profile, target, interrupted)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def drive(
    profile: LoadProfile,
    target: Target,
    interrupted: asyncio.Event | None = None,
    clock: Clock = time.monotonic_ns,
) -> Run:
    """Apply the load and wait for the answers. Setting ``interrupted`` ends it early with what there is.

    Raises LoadError where the load can't begin; once it has begun, errors are rows.
    """
    _check(profile)
    control = make_control(target)
    recorder = Recorder()
    try:
        model = await describe_model(control, target, profile.model, profile.version)
        transport = make_transport(profile, target, model, clock)
        load = make_loop(profile.load, transport, recorder, clock)
        sampler = StatisticsSampler(control, await _sampled_models(control, profile, model), clock)
        try:
            await load.open_first(_first_slots(profile.load))
            await sampler.sample()
            return await _measure(_Prepared(profile, load, sampler, recorder), interrupted or asyncio.Event(), clock)
        finally:
            load.close()
    finally:
        control.close()


def _check(profile: LoadProfile) -> None:
    match profile.load:
        case Concurrency(in_flight=count) if count < 1:
            raise usage_error(f"a concurrency of {count} sends nothing; use 1 or more")
        case RequestRate(per_second=rate) if not 0 < rate < 1e9:
            raise usage_error(f"a request rate of {rate:g} per second can't be sent; use one above 0")
        case RequestRate(max_in_flight=cap) if cap is not None and cap < 1:
            raise usage_error(f"a cap of {cap} requests in flight sends nothing; use 1 or more")
    if profile.request_count is not None and profile.request_count < 1:
        raise usage_error(f"a request count of {profile.request_count} measures nothing; use 1 or more")
    if profile.request_count is None and not profile.duration_s > 0:
        raise usage_error(f"a duration of {profile.duration_s:g} s measures nothing; use one above 0")
    if not profile.timeout_s > 0:
        raise usage_error(f"a timeout of {profile.timeout_s:g} s leaves no time for an answer; use one above 0")


def make_transport(profile: LoadProfile, target: Target, model: ModelDescription, clock: Clock) -> Transport:
    """Encode all requests and choose what carries them."""
    requests = make_requests(profile, model)
    envelope = Envelope.of(profile, target)
    match target.protocol:
        case "http":
            from perf_client.transports.http import HttpTransport

            encoded = [http_infer_request(envelope, request) for request in requests]
            return HttpTransport(target, encoded, clock)
        case "grpc":
            from perf_client.transports.grpc import GrpcTransport

            calls = [grpc_infer_request(envelope, request) for request in requests]
            return GrpcTransport(target, calls, clock, STREAMS_PER_CONNECTION)


def make_loop(load: Concurrency | RequestRate, transport: Transport, recorder: Recorder, clock: Clock) -> Loop:
    match load:
        case Concurrency():
            _allow_connections(load.in_flight // transport.slots_per_connection)
            return ClosedLoop(transport, recorder, clock)
        case RequestRate():
            slots = _allow_connections(0) * transport.slots_per_connection
            cap = load.max_in_flight
            dropping = cap is not None and cap <= slots
            return OpenLoop(transport, recorder, clock, cap if cap is not None and dropping else slots, dropping)


def _allow_connections(needed: int) -> int:
    """Raise the limit of open files as far as allowed; how many connections that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return 1 << 20
    if needed > hard - _SPARE_FILES:
        raise usage_error(f"{needed} connections are more than the limit of {hard} open files; raise it with ulimit -n")
    return max(1, hard - _SPARE_FILES)


def _first_slots(load: Concurrency | RequestRate) -> int:
    """Connections that are there when the clock starts: all of a closed loop, 20 ms worth of an open one."""
    match load:
        case Concurrency():
            return load.in_flight
        case RequestRate():
            return min(64, ceil(load.per_second * 0.02) + 1)


async def _sampled_models(control: Control, profile: LoadProfile, model: ModelDescription) -> list[Step]:
    """The driven model first, then those it is composed of, nested ensembles included."""
    found = [Step(model=profile.model, version=profile.version)]
    pending = list(model.steps)
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


async def _measure(prepared: _Prepared, interrupted: asyncio.Event, clock: Clock) -> Run:
    profile, load, sampler = prepared.profile, prepared.load, prepared.sampler
    watch = Watch(load, int(profile.timeout_s * 1e9), clock)
    with _no_garbage_collection():
        window = Window.starting_at(clock() + _LEAD_NS, profile)
        started_unix_ns = time.time_ns() + _LEAD_NS
        watch.start()
        sampling = asyncio.create_task(sampler.keep_sampling(window.warm_ns if profile.warmup_s else None))
        try:
            await _send(profile, load, window, interrupted, clock)
            ended_ns = clock() if window.end_ns is None else min(clock(), window.end_ns)
            cpu_s = watch.cpu_s()
            load.stop_sending()
            await _first_of(load.drained, interrupted)
        finally:
            watch.stop()
            sampling.cancel()
            # It may be in the midst of an answer: it has to be over before its connection is used again.
            await asyncio.gather(sampling, return_exceptions=True)
        await sampler.sample()
    return Run(
        columns=prepared.recorder.columns(window.start_ns),
        facts=RunFacts(
            start_ns=window.start_ns,
            started_unix_ns=started_unix_ns,
            ended_ns=ended_ns - window.start_ns,
            cpu_s=cpu_s,
            wall_s=max(ended_ns - window.start_ns, 1) / 1e9,
            loop_stall_max_ns=watch.stall_max_ns,
            incomplete=interrupted.is_set(),
            incomplete_reason="the run was interrupted" if interrupted.is_set() else "",
            server=sampler.samples(window.start_ns),
            server_unmeasured=sampler.unmeasured,
            failure_examples=dict(prepared.recorder.examples),
        ),
    )


async def _send(profile: LoadProfile, load: Loop, window: Window, interrupted: asyncio.Event, clock: Clock) -> None:
    """Apply the load until its end: a moment, or the last of so many answers."""
    if isinstance(load, OpenLoop):
        assert isinstance(profile.load, RequestRate)
        load.start(scheduled_times(arrivals(profile.load, profile.seed), window, profile.request_count))
    elif isinstance(load, ClosedLoop):
        await _pause_until(window.start_ns, interrupted, clock)
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

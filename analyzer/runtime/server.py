"""The serving runtime's life: open the repository, listen, say so, serve, drain, close."""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import TextIO

import uvloop

from analyzer.runtime.capture import Capture, SpanTracer
from analyzer.runtime.front import BAD_USAGE, StartError, listen
from analyzer.runtime.gpu_trace import CuptiTracer
from analyzer.runtime.host_metrics import Gpus, HostSampler, Processors, open_gpus
from analyzer.runtime.library_traces import TorchTracer
from analyzer.runtime.log_settings import LogSettings, open_log
from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.onnxruntime_trace import OnnxRuntimeTracer
from analyzer.runtime.options import ServerOptions
from analyzer.runtime.own_process import end_with_parent, own_stdout, settle_memory
from analyzer.runtime.polling import RepositoryPoller, look
from analyzer.runtime.rate_limiter import RateLimiter
from analyzer.runtime.rate_policy import RatePolicy
from analyzer.runtime.request import InferError
from analyzer.runtime.response_cache import ResponseCache
from analyzer.runtime.spans import Spans
from analyzer.runtime.trace_settings import read_start
from analyzer.runtime.tracing import Tracing

UNANSWERED = 1
BAD_REPOSITORY = 3

log = logging.getLogger(__name__)


def run(options: ServerOptions) -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit code.

    0: all requests were answered; 1: some were not within the exit time-out, as in Triton; 2: a wrong flag or address;
    3: a bad repository.
    """
    try:
        settings = open_log(options.log_settings)
    except OSError as error:
        sys.stderr.write(f"error: --log-file '{options.log_file}' can't be written to: {error.strerror}\n")
        return BAD_USAGE
    if options.exit_with_parent:
        end_with_parent()
    try:
        with own_stdout() as stdout:
            exit_code: int = uvloop.run(_serve(options, stdout, settings))
    except StartError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return exit_code


async def _serve(options: ServerOptions, stdout: TextIO, settings: LogSettings) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    cache = ResponseCache(options.cache_bytes) if options.cache_bytes else None
    limiter = RateLimiter(RatePolicy(options.resource_limits)) if options.rate_limit == "execution_count" else None
    spans = Spans(options.span_rows) if options.span_rows else None
    capture = _capture(options, spans)
    targets = [Path(folder) for folder in options.link_targets]
    store = ModelStore(
        _repository(options),
        loop=loop,
        cache=cache,
        limiter=limiter,
        spans=spans,
        link_targets=targets,
        metrics=options.metrics_config,
        unload_limit_s=options.unload_timeout_s or None,
    )
    tracing = _tracing(options, store)
    background: list[asyncio.Task[None]] = []
    try:
        poller = await _poller(store, options)
        await _first_of(_open_models(store, options), stop)
        if stop.is_set():
            return 0
        host = _host_sampler(options)
        front = await listen(store, options, host=host, capture=capture, tracing=tracing, settings=settings)
        settle_memory()
        background.append(loop.create_task(host.run(options.metrics_interval_s)))
        if poller is not None:
            background.append(loop.create_task(poller.run(options.repository_poll_s)))
        stdout.write(front.ready_line(_ready_count(store)) + "\n")
        stdout.flush()
        await stop.wait()
        _cancel(background)
        log.info("stopping: requests under way have %g s to finish", options.exit_timeout_s)
        deadline_s = time.monotonic() + options.exit_timeout_s
        await front.drain(deadline_s)
        late = await store.close(max(0.0, deadline_s - time.monotonic()))
        front.close()
        tracing.close()
        if late:
            log.error("gave up requests to %s, which were not answered in time", ", ".join(late))
        return UNANSWERED if late else 0
    finally:
        _cancel(background)
        await store.close(0.0)


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()


def _capture(options: ServerOptions, spans: Spans | None) -> Capture:
    folder = Path(options.capture_dir) if options.capture_dir else None
    if folder is not None and not os.access(folder, os.W_OK | os.X_OK):
        raise StartError(BAD_USAGE, f"--capture-dir '{folder}' is no folder that can be written to; make it first")
    if spans is not None:
        spans.start()
    libraries = TorchTracer(), OnnxRuntimeTracer()
    return Capture(folder, (SpanTracer(spans, asyncio.get_running_loop()), CuptiTracer(spans), *libraries))


def _tracing(options: ServerOptions, store: ModelStore) -> Tracing:
    try:
        setting, file = read_start(options.trace_settings)
    except InferError as error:
        raise StartError(BAD_USAGE, str(error)) from None
    if file and not os.access(Path(file).absolute().parent, os.W_OK | os.X_OK):
        raise StartError(BAD_USAGE, f"--trace-config triton,file='{file}' lies in no folder that can be written to")
    return Tracing(store.signature, store.is_ready, setting, file)


def _host_sampler(options: ServerOptions) -> HostSampler:
    sources: list[Processors | Gpus] = []
    if options.metrics_port is not None:
        sources += [Processors()] if options.cpu_metrics else []
        gpus = open_gpus() if options.gpu_metrics else None
        sources += [gpus] if gpus is not None else []
    return HostSampler(sources)


async def _poller(store: ModelStore, options: ServerOptions) -> RepositoryPoller | None:
    """Made before the models are loaded, so that it misses no change."""
    if options.model_control_mode != "poll":
        return None
    if options.load_models:
        raise StartError(BAD_USAGE, "--load-model can't go with --model-control-mode poll, which serves every model")
    try:
        return RepositoryPoller(store, await asyncio.to_thread(look, store.repository))
    except OSError as error:
        raise StartError(BAD_REPOSITORY, f"model repository '{store.repository}' can't be read: {error}") from None


def _repository(options: ServerOptions) -> Path:
    folder = Path(options.model_repository)
    if not folder.is_dir():
        raise StartError(
            BAD_REPOSITORY, f"model repository '{folder}' is not a folder; give one with --model-repository"
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise StartError(BAD_REPOSITORY, f"model repository '{folder}' can't be read; check its permissions")
    return folder


async def _open_models(store: ModelStore, options: ServerOptions) -> None:
    wanted: tuple[str, ...] | None = options.load_models
    if "*" in options.load_models or (not options.load_models and options.model_control_mode != "explicit"):
        wanted = None
    try:
        await store.open(wanted)
        index = store.index()
    except OSError as error:
        raise StartError(
            BAD_REPOSITORY, f"model repository '{options.model_repository}' can't be read: {error}"
        ) from None
    if not index and wanted is None and options.model_control_mode != "poll":
        raise StartError(
            BAD_REPOSITORY,
            f"model repository '{options.model_repository}' holds no model; a model is a folder with a config.pbtxt "
            "and version folders",
        )
    for name in wanted or ():
        if name not in {model.name for model in index}:
            raise StartError(BAD_REPOSITORY, f"model '{name}' (--load-model) is not in '{options.model_repository}'")
    failed = [model for model in index if model.state == "UNAVAILABLE" and (wanted is None or model.name in wanted)]
    if failed and options.exit_on_error:
        reasons = "; ".join(f"model '{model.name}' failed to load: {model.reason.rstrip('.')}" for model in failed)
        others = " (--exit-on-error false serves the other models)" if _ready_count(store) else ""
        raise StartError(BAD_REPOSITORY, f"{reasons}{others}")


def _ready_count(store: ModelStore) -> int:
    return len({model.name for model in store.index() if model.state == "READY"})


async def _first_of(work: Awaitable[None], stop: asyncio.Event) -> None:
    """Waits for the work, but no longer than until a signal asks to stop."""
    task = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(stop.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
    else:
        task.cancel()

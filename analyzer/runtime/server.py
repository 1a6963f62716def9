"""The serving runtime's life: open the repository, listen, say so, serve, drain, close."""

import asyncio
import errno
import logging
import os
import signal
import ssl
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import uvloop

from analyzer.runtime.capture import Capture, SpanTracer
from analyzer.runtime.flag_values import Port
from analyzer.runtime.gpu_trace import CuptiTracer
from analyzer.runtime.grpc import GrpcSite
from analyzer.runtime.host_metrics import Gpus, HostSampler, Processors, open_gpus
from analyzer.runtime.http import HttpSite
from analyzer.runtime.http_routes import Routes
from analyzer.runtime.intake import Intake
from analyzer.runtime.library_traces import CudaRange, TorchTracer
from analyzer.runtime.log_settings import LogSettings
from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.options import ServerOptions
from analyzer.runtime.own_process import end_with_parent, own_stdout, settle_memory
from analyzer.runtime.patrol import Patrol
from analyzer.runtime.polling import RepositoryPoller, look
from analyzer.runtime.rate_limiter import RateLimiter
from analyzer.runtime.rate_policy import RatePolicy
from analyzer.runtime.response_cache import ResponseCache
from analyzer.runtime.shared_memory import SharedMemory
from analyzer.runtime.spans import Spans
from analyzer.runtime.tls import TlsError, TlsOptions, make_context

UNANSWERED = 1
BAD_USAGE = 2
BAD_REPOSITORY = 3
_BACKLOG = 1024
_DRAIN_POLL_S = 0.01

log = logging.getLogger(__name__)


class StartError(Exception):
    """Why the server can't start, in a sentence for the user."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run(options: ServerOptions) -> int:
    """Serves until SIGTERM or SIGINT. Returns the exit code.

    0: all requests were answered; 1: some were not within the exit time-out, as in Triton; 2: a wrong flag or address;
    3: a bad repository.
    """
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if options.log_verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    if options.exit_with_parent:
        end_with_parent()
    try:
        with own_stdout() as stdout:
            exit_code: int = uvloop.run(_serve(options, stdout))
    except StartError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return exit_code


async def _serve(options: ServerOptions, stdout: TextIO) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    cache = ResponseCache(options.cache_bytes) if options.cache_bytes else None
    limiter = RateLimiter(RatePolicy(options.resource_limits)) if options.rate_limit == "execution_count" else None
    spans = Spans(options.span_rows) if options.span_rows else None
    capture = _capture(options, spans)
    targets = [Path(folder) for folder in options.link_targets]
    store = ModelStore(_repository(options), loop=loop, cache=cache, limiter=limiter, spans=spans, link_targets=targets)
    background: list[asyncio.Task[None]] = []
    try:
        poller = await _poller(store, options)
        await _first_of(_open_models(store, options), stop)
        if stop.is_set():
            return 0
        host = _host_sampler(options)
        front = await _listen(store, options, host, capture)
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
    tracers = SpanTracer(spans, asyncio.get_running_loop()), CuptiTracer(spans), TorchTracer(), CudaRange()
    return Capture(folder, tracers)


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
    for model in failed:
        log.error("model '%s' failed to load: %s", model.name, model.reason)
    if failed and options.exit_on_error:
        reasons = "; ".join(f"model '{model.name}' failed to load: {model.reason}" for model in failed)
        raise StartError(BAD_REPOSITORY, f"{reasons} (--exit-on-error false serves the other models)")


def _ready_count(store: ModelStore) -> int:
    return len({model.name for model in store.index() if model.state == "READY"})


@dataclass(frozen=True, slots=True)
class _Front:
    """The listening sockets and what serves them. ``addresses`` is in the order http, grpc, metrics."""

    routes: Routes
    sites: "tuple[HttpSite | GrpcSite, ...]"
    servers: tuple[asyncio.Server, ...]
    addresses: dict[str, str]

    def ready_line(self, models: int) -> str:
        return " ".join(
            ("ready", *(f"{name}={address}" for name, address in self.addresses.items()), f"models={models}")
        )

    async def drain(self, deadline_s: float) -> None:
        """Listens no more and lets the requests under way finish until ``deadline_s`` (monotonic)."""
        self.routes.accepting = False
        for server in self.servers:
            server.close()
        for site in self.sites:
            if isinstance(site, GrpcSite):
                site.accepting = False
            site.drain()
        while any(site.connections for site in self.sites) and time.monotonic() < deadline_s:
            await asyncio.sleep(_DRAIN_POLL_S)

    def close(self) -> None:
        for site in self.sites:
            site.abort()


async def _listen(store: ModelStore, options: ServerOptions, host: HostSampler, capture: Capture) -> _Front:
    limit = options.request_limit_bytes
    control = options.model_control_mode == "explicit"
    memory, settings = SharedMemory(), LogSettings()
    intake, most = Intake(store, options.max_requests_in_flight), options.max_connections
    routes = Routes(
        store, control=control, body_limit_bytes=limit, memory=memory, log=settings, host=host, intake=intake,
        capture=capture,
    )  # fmt: skip
    http = HttpSite(routes.resolve, limit, connection_limit=most)
    metrics = HttpSite(routes.resolve_metrics, limit, connection_limit=most)
    grpc = GrpcSite(
        store, control=control, message_limit_bytes=limit, memory=memory, log=settings, intake=intake,
        connection_limit=most,
    )  # fmt: skip
    factories: tuple[tuple[str, Callable[[], asyncio.BaseProtocol], Port], ...] = (
        ("http", http.connection, options.http_port),
        ("grpc", grpc.connection, options.grpc_port),
        ("metrics", metrics.connection, options.metrics_port),
    )
    contexts = _tls_contexts(options)
    servers, addresses = [], {}
    for name, factory, port in factories:
        if port is not None:
            server = await _bind(name, factory, options.host, port, contexts.get(name))
            servers.append(server)
            addresses[name] = _address(server)
    sites = http, grpc, metrics
    timeouts = {"idle_timeout_s": options.idle_timeout_s, "stall_timeout_s": options.stall_timeout_s}
    Patrol(sites, **timeouts).start(asyncio.get_running_loop())
    return _Front(routes, sites, tuple(servers), addresses)


def _tls_contexts(options: ServerOptions) -> dict[str, ssl.SSLContext]:
    """By the port's name; the metrics stay readable for who scrapes them."""
    if not options.tls_certificate:
        if options.tls_key or options.tls_client_ca:
            raise StartError(BAD_USAGE, "--tls-key and --tls-client-ca need --tls-certificate")
        return {}
    key = options.tls_key or options.tls_certificate
    given = TlsOptions(certificate=options.tls_certificate, key=key, client_ca=options.tls_client_ca)
    try:
        return {"http": make_context(given, "http/1.1"), "grpc": make_context(given, "h2")}
    except TlsError as error:
        raise StartError(BAD_USAGE, str(error)) from None


async def _bind(
    name: str, factory: Callable[[], asyncio.BaseProtocol], host: str, port: int, tls: ssl.SSLContext | None
) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    try:
        return await loop.create_server(factory, host, port, backlog=_BACKLOG, ssl=tls)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            mend = f"stop what listens there, or give another port with --{name}-port (0 picks a free one)"
            raise StartError(BAD_USAGE, f"{name} port {port} on {host} is in use; {mend}") from None
        raise StartError(BAD_USAGE, f"can't listen on {host} port {port} for {name}: {error}") from None


def _address(server: asyncio.Server) -> str:
    host, port = server.sockets[0].getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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

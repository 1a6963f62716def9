"""The listening sockets of the runtime and what serves them, as the options ask."""

import asyncio
import errno
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from analyzer.runtime.body_memory import BodyMemory, memory_bytes
from analyzer.runtime.capture import Capture
from analyzer.runtime.flag_values import Port
from analyzer.runtime.grpc import GrpcSite
from analyzer.runtime.host_metrics import HostSampler
from analyzer.runtime.http import HttpSite
from analyzer.runtime.http_routes import Routes
from analyzer.runtime.intake import Intake
from analyzer.runtime.log_settings import LogSettings
from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.options import ServerOptions
from analyzer.runtime.patrol import Patrol
from analyzer.runtime.shared_memory import SharedMemory
from analyzer.runtime.tls import TlsError, TlsOptions, make_context
from analyzer.runtime.tracing import Tracing

BAD_USAGE = 2
_BACKLOG = 1024
_DRAIN_POLL_S = 0.01


class StartError(Exception):
    """Why the server can't start, in a sentence for the user."""

    def __init__(self, exit_code: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Front:
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


async def listen(
    store: ModelStore,
    options: ServerOptions,
    *,
    host: HostSampler,
    capture: Capture,
    tracing: Tracing,
    settings: LogSettings,
) -> Front:
    limit = options.request_limit_bytes
    control = options.model_control_mode == "explicit"
    memory = SharedMemory()
    body_memory_bytes = memory_bytes() // 2 if options.body_memory_bytes is None else options.body_memory_bytes
    bodies = BodyMemory(body_memory_bytes, partial(store.count_refusal, "body_memory"))
    intake, most = Intake(store, options.max_requests_in_flight), options.max_connections
    routes = Routes(
        store, control=control, body_limit_bytes=limit, memory=memory, log=settings, host=host, intake=intake,
        capture=capture, tracing=tracing, bodies=bodies,
    )  # fmt: skip
    http = HttpSite(routes.resolve, limit, connection_limit=most, bodies=bodies)
    metrics = HttpSite(routes.resolve_metrics, limit, connection_limit=most)
    grpc = GrpcSite(
        store, control=control, message_limit_bytes=limit, memory=memory, log=settings, intake=intake,
        connection_limit=most, tracing=tracing, bodies=bodies,
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
    return Front(routes, sites, tuple(servers), addresses)


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

"""The paths of KServe v2 and Triton's extensions to it, over one model store."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache, partial
from time import monotonic_ns
from urllib.parse import unquote

import msgspec
from google.protobuf.message import Message

from analyzer.runtime.body_memory import BodyMemory
from analyzer.runtime.capture import Capture
from analyzer.runtime.delivery import delivering
from analyzer.runtime.host_metrics import HostSampler
from analyzer.runtime.http_capture import CaptureRoutes
from analyzer.runtime.http_exchange import Action, Exchange
from analyzer.runtime.http_extensions import Route, SettingRoutes, SharedMemoryRoutes, parse_body
from analyzer.runtime.http_generate import GenerateRoutes
from analyzer.runtime.http_legacy import LegacyRoutes
from analyzer.runtime.http_message import Head, HttpError, compressed, decompressed
from analyzer.runtime.intake import Intake
from analyzer.runtime.log_settings import LogSettings
from analyzer.runtime.message_dict import message_dict
from analyzer.runtime.metrics import CONTENT_TYPE, render
from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.overlay import read_override
from analyzer.runtime.raw_body import read_raw
from analyzer.runtime.request import ErrorKind, InferError, InferResponse, Reply
from analyzer.runtime.server_info import EXTENSIONS, SERVER_NAME, server_version
from analyzer.runtime.shared_memory import SharedMemory
from analyzer.runtime.tracing import Tracing
from analyzer.runtime.wire import Buffer, invalid
from analyzer.runtime.wire_json import AnswerForm, InferDecoder, encode_infer

_MODEL = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
_encode = msgspec.json.Encoder().encode


class _LoadBody(msgspec.Struct):
    parameters: dict[str, bool | int | float | str | None] = {}


class Routes:
    """``resolve`` turns a method and a path into what they do. ``control`` allows loading and unloading."""

    def __init__(
        self,
        store: ModelStore,
        *,
        control: bool,
        body_limit_bytes: int,
        bodies: BodyMemory | None = None,
        memory: SharedMemory | None = None,
        log: LogSettings | None = None,
        host: HostSampler | None = None,
        intake: Intake | None = None,
        capture: Capture | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self._host = host or HostSampler(())
        self._store = store
        self._control = control
        self._limit_bytes = body_limit_bytes
        self._bodies = bodies or BodyMemory()
        self._memory = memory or SharedMemory()
        self._decode = InferDecoder(self._memory).decode
        self._answer = self._answer_infer  # bound once: every request takes it
        self._datatype = self._output_datatype
        self._tasks: set[asyncio.Task[None]] = set()
        self.accepting = True
        self._intake = intake or Intake(store)
        self._tracing = tracing or Tracing(store.signature, store.is_ready)
        generate = GenerateRoutes(store, self._intake, body_limit_bytes, self._tracing)
        model, control_of = _MODEL, r"/v2/repository/models/(?P<model>[^/]+)"
        table: list[Route] = [
            (f"{model}/infer", "POST", self._infer),
            (f"{model}/generate", "POST", generate.generate),
            (f"{model}/generate_stream", "POST", generate.generate_stream),
            (r"/v2/health/live", "GET", self._live),
            (r"/v2/health/ready", "GET", self._ready),
            (f"{model}/ready", "GET", self._model_ready),
            (r"/v2/?", "GET", self._server),
            (r"/v2/models/stats", "GET", self._all_statistics),
            (model, "GET", self._metadata),
            (f"{model}/config", "GET", self._config),
            (f"{model}/stats", "GET", self._statistics),
            (r"/v2/repository(?:/[^/]+)?/index", "POST", self._index),
            (f"{control_of}/load", "POST", self._load),
            (f"{control_of}/unload", "POST", self._unload),
            (r"/metrics", "GET", self._metrics),
            *SharedMemoryRoutes(self._memory).table(),
            *SettingRoutes(log or LogSettings(), self._tracing).table(),
            *LegacyRoutes(store).table(),
            *CaptureRoutes(capture or Capture(None, ())).table(),
        ]
        self._table = [(re.compile(pattern), method, action) for pattern, method, action in table]

    def resolve(self, method: str, path: str) -> Action:
        allowed = ""
        for pattern, wanted, action in self._table:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            if method == wanted or (wanted == "GET" and method == "HEAD"):
                names = [unquote(value or "") for value in match.groups()]
                return _of_names(action, names) if names else action
            allowed = wanted
        return partial(_refuse, allowed)

    def resolve_metrics(self, method: str, path: str) -> Action:
        """The metrics port serves its one page only."""
        return self.resolve(method, path if path == "/metrics" else "/")

    def _live(self, exchange: Exchange, _head: Head, _body: Buffer) -> None:
        _answer_bare(exchange, True)

    def _ready(self, exchange: Exchange, _head: Head, _body: Buffer) -> None:
        _answer_bare(exchange, self.accepting and self._store.all_ready())

    def _model_ready(self, exchange: Exchange, _head: Head, _body: Buffer, model: str, version: str) -> None:
        if self.accepting and self._store.is_ready(model, version):
            _answer_bare(exchange, True)
        else:
            exchange.fail(invalid("Model version not ready"))

    def _server(self, exchange: Exchange, _head: Head, _body: Buffer) -> None:
        exchange.answer(
            [_encode({"name": SERVER_NAME, "version": server_version(), "extensions": EXTENSIONS})],
        )

    def _metadata(self, exchange: Exchange, _head: Head, _body: Buffer, model: str, version: str) -> None:
        _answer_message(exchange, self._store.metadata(model, version))

    def _config(self, exchange: Exchange, _head: Head, _body: Buffer, model: str, version: str) -> None:
        _answer_message(exchange, self._store.config(model, version))

    def _statistics(self, exchange: Exchange, _head: Head, _body: Buffer, model: str, version: str) -> None:
        entries = self._store.statistics(model, version)
        exchange.answer([_encode({"model_stats": [message_dict(entry) for entry in entries]})])

    def _all_statistics(self, exchange: Exchange, _head: Head, _body: Buffer) -> None:
        self._statistics(exchange, _head, _body, "", "")

    def _index(self, exchange: Exchange, _head: Head, body: Buffer) -> None:
        ready_only = bool(parse_body(body, dict[str, bool]).get("ready", False))
        entries = (message_dict(entry) for entry in self._store.index())
        shown = [
            {name: value for name, value in entry.items() if value != ""}
            for entry in entries
            if not ready_only or entry["state"] == "READY"
        ]
        exchange.answer([_encode(shown)])

    def _load(self, exchange: Exchange, _head: Head, body: Buffer, model: str) -> None:
        parameters = parse_body(body, _LoadBody).parameters
        override = read_override(parameters)
        self._run_control(exchange, self._store.load(model, override) if self._control else None)

    def _unload(self, exchange: Exchange, _head: Head, body: Buffer, model: str) -> None:
        with_called = parse_body(body, _LoadBody).parameters.get("unload_dependents") is True
        work = self._store.unload(model, with_called=with_called) if self._control else None
        self._run_control(exchange, work)

    def _run_control(self, exchange: Exchange, work: Awaitable[None] | None) -> None:
        if work is None:
            raise InferError(
                ErrorKind.UNAVAILABLE, "explicit model load / unload needs a server with --model-control-mode explicit"
            )
        task = asyncio.ensure_future(_answer_when_done(exchange, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _metrics(self, exchange: Exchange, _head: Head, _body: Buffer) -> None:
        store = self._store
        page = render(
            store.counters(),
            store.pending(),
            self._host.latest,
            store.refused,
            config=store.metrics,
            now_ns=monotonic_ns(),
        )
        exchange.answer([f"{page}{self._store.custom_metrics()}".encode()], CONTENT_TYPE)

    def _infer(self, exchange: Exchange, head: Head, body: Buffer, model: str, version: str) -> None:
        arrival_ns = monotonic_ns()
        if self._intake.limit:
            self._intake.check()
        if head.encoding:
            body = self._bodies.keep(decompressed(body, head.encoding, self._limit_bytes))
        if head.json_length == 0:
            request, form = read_raw(self._store.signature(model, version), version, body, arrival_ns)
        else:
            request, form = self._decode(model, version, body, head.json_length, arrival_ns)
        reply: Reply = partial(self._answer, exchange, form, head.accept)
        if request.deliveries:
            reply = delivering(request, reply, self._memory, self._store.signature)
        if self._tracing.is_on:
            self._tracing.submit(self._intake.submit, "HTTP", request, reply, exchange.begun_ns)
        else:
            self._intake.submit(request, reply)
        exchange.request = request

    def _answer_infer(
        self, exchange: Exchange, form: AnswerForm, accept: str, response: InferResponse | InferError
    ) -> None:
        if isinstance(response, InferError):
            exchange.fail(response)
            return
        try:
            parts, json_length = encode_infer(response, form, self._datatype)
        except InferError as error:
            exchange.fail(error)
            return
        if accept:
            parts = compressed(parts, accept)
        exchange.answer(parts, _infer_headers(json_length, accept))

    def _output_datatype(self, response: InferResponse, name: str) -> str:
        return self._store.outputs(response.model, response.version)[name].datatype


@lru_cache(maxsize=1024)
def _infer_headers(json_length: int | None, encoding: str) -> str:
    lines = f"Content-Encoding: {encoding}\r\n" if encoding else ""
    if json_length is None:
        return f"Content-Type: application/json\r\n{lines}"
    return f"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: {json_length}\r\n{lines}"


async def _answer_when_done(exchange: Exchange, work: Awaitable[None]) -> None:
    try:
        await work
    except InferError as error:
        exchange.fail(error)
    else:
        exchange.answer([], "")


def _of_names(action: Callable[..., None], names: Sequence[str]) -> Action:
    """The action on what a path names; called for every request, so without keywords and without unpacking."""
    if len(names) == 2:
        model, version = names
        return lambda exchange, head, body: action(exchange, head, body, model, version)
    return lambda exchange, head, body: action(exchange, head, body, *names)


def _refuse(allowed: str, exchange: Exchange, _head: Head, _body: Buffer) -> None:
    if allowed:
        raise HttpError(405, f"this path takes {allowed} only")
    raise HttpError(404, "Not Found")


def _answer_bare(exchange: Exchange, good: bool) -> None:
    exchange.answer([], "", 200 if good else 400)


def _answer_message(exchange: Exchange, message: Message) -> None:
    exchange.answer([_encode(message_dict(message))])

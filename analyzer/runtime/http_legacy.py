"""The probes of the first generation of this protocol, which monitors may still ask: read-only, answered as JSON."""

from typing import Any

import msgspec

from analyzer.runtime.http_exchange import Exchange
from analyzer.runtime.http_extensions import Route
from analyzer.runtime.http_message import Head
from analyzer.runtime.message_dict import message_dict
from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import ErrorKind, InferError
from analyzer.runtime.server_info import server_version
from analyzer.runtime.wire import Buffer

_encode = msgspec.json.Encoder().encode


class LegacyRoutes:
    def __init__(self, store: ModelStore) -> None:
        self._store = store

    def table(self) -> list[Route]:
        return [
            (r"/api/health/live", "GET", self._live),
            (r"/api/health/ready", "GET", self._ready),
            (r"/api/status", "GET", self._status),
            (r"/api/status/(?P<model>[^/]+)", "GET", self._model_status),
        ]

    def _live(self, exchange: Exchange, _head: Head, _body: Buffer) -> None:
        exchange.answer([], "")

    def _ready(self, exchange: Exchange, _head: Head, _body: Buffer) -> None:
        exchange.answer([], "", 200 if self._store.all_ready() else 400)

    def _status(self, exchange: Exchange, _head: Head, _body: Buffer) -> None:
        self._answer(exchange, {entry.name for entry in self._store.index() if entry.state})

    def _model_status(self, exchange: Exchange, _head: Head, _body: Buffer, model: str) -> None:
        if model not in {entry.name for entry in self._store.index()}:
            raise InferError(ErrorKind.NOT_FOUND, f"no status available for unknown model '{model}'")
        self._answer(exchange, {model})

    def _answer(self, exchange: Exchange, names: set[str]) -> None:
        is_ready = self._store.all_ready()
        models: dict[str, dict[str, Any]] = {name: {"version_status": {}} for name in sorted(names)}
        for entry in self._store.index():
            if entry.name not in models:
                continue
            state = "MODEL_READY" if entry.state == "READY" else "MODEL_UNAVAILABLE"
            if entry.version:
                models[entry.name]["version_status"][entry.version] = {"ready_state": state}
                models[entry.name]["config"] = message_dict(self._store.config(entry.name))
        told = {
            "id": "inference:0",
            "version": server_version(),
            "ready_state": "SERVER_READY" if is_ready else "SERVER_FAILED_TO_INITIALIZE",
            "model_status": models,
        }
        exchange.answer([_encode(told)])

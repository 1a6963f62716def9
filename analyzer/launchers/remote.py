"""A server that is running already, driven through its repository API: models are loaded with inline configurations.

When the context of the launcher ends, each model is put back as it was met.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any

from google.protobuf import json_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.errors import ChildError, UsageError
from analyzer.launchers.server import Server, exchange, fetch_config, said

LOAD_TIMEOUT_S = 300.0
_BROKEN = (HTTPException, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """Not ours: neither its process nor its log is known."""

    http_url: str
    grpc_url: str

    @property
    def pid(self) -> None:
        return None

    def is_alive(self) -> bool:
        try:
            return exchange(self.http_url, "GET", "/v2/health/live").status == HTTPStatus.OK
        except _BROKEN:
            return False

    def url(self, protocol: str) -> str:
        return self.grpc_url if protocol == "grpc" else self.http_url

    def model_config(self, model: str) -> ModelConfig:
        return fetch_config(self.http_url, model)

    def log_tail(self) -> str:
        return ""


class RemoteLauncher:
    """Use as a context. ``reload`` false leaves the server's models alone, as they are: nothing can be varied."""

    needs_files = False

    def __init__(self, http_url: str, grpc_url: str, *, reload: bool = True) -> None:
        self._server = RemoteServer(_host(http_url), _host(grpc_url))
        self._reload = reload
        self._met: dict[str, ModelConfig | None] = {}
        """Models as they were before they were touched; None: not loaded."""

    def __enter__(self) -> "RemoteLauncher":
        if not self._server.is_alive():
            raise ChildError(
                f"no server answers at {self._server.http_url}: start it, or name it with --triton-http-endpoint"
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        trouble = []
        for model in reversed(self._met):
            try:
                self._put_back(model, self._met[model])
            except ChildError as failed:
                trouble.append(str(failed))
        self._met.clear()
        if trouble and error is None:
            raise ChildError("not every model could be put back as it was: " + "; ".join(trouble))

    @contextmanager
    def as_it_is(self, models: Sequence[str], log_path: Path) -> Iterator[Server]:
        for model in models:
            if self._is_ready(model):
                continue
            if not self._reload:
                raise UsageError(f"{model} is not loaded at {self._server.http_url}; --reload-model-disable forbids it")
            self._remember(model)
            self._load(model, None)
        yield self._server

    @contextmanager
    def serve(
        self,
        configs: Mapping[str, ModelConfig],
        folder: Path,
        log_path: Path,
        *,
        flags: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> Iterator[Server]:
        if self._reload:
            # Those that ensembles call come first: an ensemble is checked against what is loaded.
            for model in sorted(configs, key=lambda name: bool(configs[name].ensemble_scheduling.step)):
                self._remember(model)
                self._load(model, configs[model])
        yield self._server

    def _remember(self, model: str) -> None:
        if model not in self._met:
            self._met[model] = self._server.model_config(model) if self._is_ready(model) else None

    def _put_back(self, model: str, met: ModelConfig | None) -> None:
        """Its own files, unless it had been loaded with another configuration than theirs."""
        if met is None:
            self._call(model, "unload", None)
            return
        self._load(model, None)
        if self._server.model_config(model) != met:
            self._load(model, met)

    def _load(self, model: str, config: ModelConfig | None) -> None:
        body = None if config is None else {"parameters": {"config": json.dumps(_as_json(config))}}
        self._call(model, "load", body)

    def _call(self, model: str, action: str, body: object) -> None:
        try:
            path = f"/v2/repository/models/{model}/{action}"
            status, answer = exchange(self._server.http_url, "POST", path, body or {}, LOAD_TIMEOUT_S)
        except _BROKEN as error:
            raise ChildError(f"the server at {self._server.http_url} did not {action} {model}: {error}") from error
        if status != HTTPStatus.OK:
            reason = said(answer)
            if "explicit model load" in reason:
                reason += "; start the server with --model-control-mode=explicit, or give --reload-model-disable"
            raise ChildError(f"{action} of {model}: {reason}")

    def _is_ready(self, model: str) -> bool:
        try:
            return exchange(self._server.http_url, "GET", f"/v2/models/{model}/ready").status == HTTPStatus.OK
        except _BROKEN as error:
            raise ChildError(f"the server at {self._server.http_url} can't be asked for {model}: {error}") from error


def _as_json(config: ModelConfig) -> Any:
    return json_format.MessageToDict(config, preserving_proto_field_name=True)


def _host(endpoint: str) -> str:
    return endpoint.removeprefix("http://").removeprefix("grpc://").rstrip("/")

"""What the analyzer needs of a server, however it came to be: started here, or running somewhere already."""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from google.protobuf import json_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer.errors import ChildError

ANSWER_TIMEOUT_S = 10.0


class Server(Protocol):
    """A server that has the models loaded. ``pid`` is None where it is no process of this machine that we know."""

    @property
    def pid(self) -> int | None: ...

    def is_alive(self) -> bool: ...

    def url(self, protocol: str) -> str:
        """``host:port`` of ``http`` or ``grpc``."""
        ...

    def model_config(self, model: str) -> ModelConfig:
        """The model's complete configuration, as served."""
        ...

    def log_tail(self) -> str: ...


class Launcher(Protocol):
    """Where servers come from: one at a time, each with all models of a run.

    ``needs_files`` says that ``serve`` reads the configurations from the folder, which then is a repository.
    """

    @property
    def needs_files(self) -> bool: ...

    def as_it_is(self, models: Sequence[str], log_path: Path) -> AbstractContextManager[Server]:
        """The models as the repository has them."""
        ...

    def serve(
        self,
        configs: Mapping[str, ModelConfig],
        folder: Path,
        log_path: Path,
        *,
        flags: Sequence[str] = (),
        prefix: Sequence[str] = (),
    ) -> AbstractContextManager[Server]:
        """The models in these configurations. ``flags`` and ``prefix`` are for a runtime of ours that is watched.

        Raises:
            ChildError: they could not be loaded; the reason is in the message.
        """
        ...


class Answer(NamedTuple):
    status: int
    content: Any


def fetch_config(http_url: str, model: str) -> ModelConfig:
    """Asks a KServe v2 server for a model's complete configuration."""
    try:
        status, answer = exchange(http_url, "GET", f"/v2/models/{model}/config")
        if status != HTTPStatus.OK:
            raise ChildError(f"the server gave no configuration of {model}: {said(answer)}")
        config: ModelConfig = json_format.ParseDict(answer, ModelConfig(), ignore_unknown_fields=True)
        return config
    except (HTTPException, OSError, ValueError, json_format.ParseError) as error:
        raise ChildError(f"the server gave no configuration of {model}: {error}") from error


def exchange(http_url: str, method: str, path: str, body: object = None, timeout_s: float = ANSWER_TIMEOUT_S) -> Answer:
    """One request with JSON both ways; no content is None. Raises OSError, HTTPException or ValueError."""
    with closing(HTTPConnection(http_url, timeout=timeout_s)) as connection:
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        content = answer.read()
        return Answer(answer.status, json.loads(content) if content.strip() else None)


def said(answer: object) -> str:
    """The reason in an answer that is none of the good ones."""
    if isinstance(answer, dict) and answer.get("error"):
        return " ".join(str(answer["error"]).split())
    return "no reason was given"

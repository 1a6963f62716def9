"""A `tritonserver` binary as a child process, on free loopback ports, for as long as a context lasts."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer import child
from analyzer.errors import ChildError
from analyzer.launchers.server import Server, exchange, fetch_config

STOP_TIMEOUT_S = 60.0
_ASK_AGAIN_S = 0.05


@dataclass(frozen=True, slots=True)
class TritonProcess:
    """A running tritonserver; ``log_path`` holds its stderr."""

    process: "subprocess.Popen[str]"
    http_port: int
    grpc_port: int
    log_path: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def url(self, protocol: str) -> str:
        return f"127.0.0.1:{self.grpc_port if protocol == 'grpc' else self.http_port}"

    def model_config(self, model: str) -> ModelConfig:
        return fetch_config(self.url("http"), model)

    def log_tail(self) -> str:
        return child.last_words(self.log_path)


@dataclass(frozen=True, slots=True)
class TritonLauncher:
    """Starts ``binary`` anew for each configuration. ``flags`` and ``environment`` are given to it as they are."""

    repository: Path
    binary: str
    flags: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    start_timeout_s: float = 120.0
    needs_files: bool = True

    @contextmanager
    def as_it_is(self, models: Sequence[str], log_path: Path) -> Iterator[Server]:
        with self._serve(self.repository, models, log_path) as server:
            yield server

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
        with self._serve(folder, list(configs), log_path) as server:
            yield server

    @contextmanager
    def _serve(self, repository: Path, models: Sequence[str], log_path: Path) -> Iterator[TritonProcess]:
        http_port, grpc_port = _free_ports(2)
        command = [self.binary, *_arguments(repository, models, http_port, grpc_port), *_flags(self.flags)]
        with log_path.open("wb") as log:
            try:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    text=True,
                    process_group=0,
                    env={**os.environ, **self.environment},
                )
            except OSError as error:
                raise ChildError(
                    f"{self.binary} can't be started: {error.strerror}; give --triton-server-path"
                ) from error
        try:
            server = TritonProcess(process, http_port, grpc_port, log_path)
            _await_ready(server, models, self.start_timeout_s)
            yield server
        finally:
            child.stop(process, STOP_TIMEOUT_S)


def _arguments(repository: Path, models: Sequence[str], http_port: int, grpc_port: int) -> list[str]:
    return [
        f"--model-repository={repository.resolve()}",
        "--http-address=127.0.0.1",
        f"--http-port={http_port}",
        "--grpc-address=127.0.0.1",
        f"--grpc-port={grpc_port}",
        "--allow-metrics=false",  # host and device are read where they are
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in models),
    ]


def _flags(flags: Mapping[str, str]) -> list[str]:
    return [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]


def _free_ports(count: int) -> list[int]:
    """Triton picks none itself: they are free now, and another may take one before it does."""
    with ExitStack() as stack:
        held = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]


def _await_ready(server: TritonProcess, models: Sequence[str], timeout_s: float) -> None:
    """A server that lacks a model stays up and is never ready, so that is asked model by model."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if not server.is_alive():
            raise ChildError(_reason(server.log_tail()) or "tritonserver ended at once", server.log_tail())
        if _answers(server, "/v2/health/live"):
            missing = [model for model in models if not _answers(server, f"/v2/models/{model}/ready")]
            if not missing:
                return
        time.sleep(_ASK_AGAIN_S)
    raise ChildError(
        _reason(server.log_tail()) or f"tritonserver was not ready after {timeout_s:g} s", server.log_tail()
    )


def _answers(server: TritonProcess, path: str) -> bool:
    try:
        return exchange(server.url("http"), "GET", path).status == HTTPStatus.OK
    except (HTTPException, OSError, ValueError):
        return False


def _reason(words: str) -> str:
    """The last line that says error, without its time stamp."""
    for line in reversed(words.splitlines()):
        if line.startswith("E") or line.lower().startswith("error"):
            return line.partition("] ")[2].strip('"') or line
    return ""

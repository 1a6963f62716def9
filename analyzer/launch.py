"""The serving runtime as a child process: started, awaited by its ready line, stopped, its last words kept."""

import json
import queue
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO

from google.protobuf import json_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer import child
from analyzer.errors import ChildError, UnusableModelError

_READY = re.compile(r"ready http=(?P<http>\S+) grpc=(?P<grpc>\S+)")
_MODULE = "analyzer.runtime"
STOP_TIMEOUT_S = 30.0
BAD_REPOSITORY = 3
"""The runtime's exit code where a model or its configuration can't be used."""


class Server:
    """A running server. ``http_url`` and ``grpc_url`` are ``host:port``; ``log_path`` holds its stderr.

    ``pid`` is of the runtime itself, which ``process`` may only have started.
    """

    def __init__(
        self, process: "subprocess.Popen[str]", http_url: str, grpc_url: str, log_path: Path, pid: int | None = None
    ) -> None:
        self.process = process
        self.pid = pid or process.pid
        self.http_url = http_url
        self.grpc_url = grpc_url
        self.log_path = log_path

    def is_alive(self) -> bool:
        return self.process.poll() is None

    def url(self, protocol: str) -> str:
        return self.grpc_url if protocol == "grpc" else self.http_url

    def model_config(self, model: str) -> ModelConfig:
        """The model's complete configuration, as served."""
        try:
            with closing(HTTPConnection(self.http_url, timeout=10)) as connection:
                connection.request("GET", f"/v2/models/{model}/config")
                config = json.load(connection.getresponse())
            return json_format.ParseDict(config, ModelConfig(), ignore_unknown_fields=True)
        except (HTTPException, OSError, ValueError, json_format.ParseError) as error:
            raise ChildError(f"the runtime gave no configuration of {model}: {error}") from error

    def log_tail(self) -> str:
        return child.last_words(self.log_path)


@contextmanager
def launch(
    repository: Path,
    models: Sequence[str],
    log_path: Path,
    start_timeout_s: float = 120.0,
    *,
    flags: Sequence[str] = (),
    prefix: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Serve these models of a repository, and no others, on free loopback ports for as long as the context lasts.

    ``flags`` are given to the runtime; ``prefix`` is a command that runs it, such as a profiler;
    ``environment`` is added to ours.

    Raises:
        ChildError: it did not come up; its last words are in the message.
    """
    arguments = ["--model-repository", str(repository), "--http-port", "0", "--grpc-port", "0", "--metrics-port", "off"]
    # Models are links to those of the user, who may have linked them on.
    arguments += ["--exit-with-parent", "--allow-links-to", "/"]
    wanted = [word for model in models for word in ("--load-model", model)]
    # Named none, a server loads all that the repository holds; here it is to hold none.
    arguments += [*(wanted or ("--model-control-mode", "explicit")), *flags]
    process = child.start(_MODULE, arguments, log_path, prefix=prefix, environment=environment)
    try:
        ready = _ready_line(process, start_timeout_s)
        if ready is None:
            raise _why_not_up(process, log_path, start_timeout_s)
        pid = child.wrapped_pid(process, _MODULE) if prefix else process.pid
        yield Server(process, ready["http"], ready["grpc"], log_path, pid)
    finally:
        if prefix:
            child.stop_wrapped(process, _MODULE, STOP_TIMEOUT_S)
        else:
            child.stop(process, STOP_TIMEOUT_S)


def _ready_line(process: "subprocess.Popen[str]", timeout_s: float) -> re.Match[str] | None:
    """The first ready line; None if the process ends or stays silent for too long. Drains stdout ever after."""
    lines: queue.SimpleQueue[re.Match[str] | None] = queue.SimpleQueue()
    assert process.stdout is not None
    threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    try:
        return lines.get(timeout=timeout_s)
    except queue.Empty:
        return None


def _pump(stdout: IO[str], lines: "queue.SimpleQueue[re.Match[str] | None]") -> None:
    try:
        for line in stdout:
            if match := _READY.match(line):
                lines.put(match)
    except ValueError:
        pass  # closed by stop()
    lines.put(None)


def _why_not_up(process: "subprocess.Popen[str]", log_path: Path, timeout_s: float) -> ChildError:
    words = child.last_words(log_path)
    try:
        code = process.wait(1)
    except subprocess.TimeoutExpired:
        return ChildError(f"the runtime was not ready after {timeout_s:g} s", words)
    last = words.splitlines()[-1:] or [f"the runtime ended at once with exit code {code}"]
    kind = UnusableModelError if code == BAD_REPOSITORY else ChildError
    return kind(last[0].removeprefix("error: "), words)

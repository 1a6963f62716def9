"""The real serving runtime as a child process on free ports, for as long as a ``with`` block lasts."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_END_TIMEOUT_S = 30


@dataclass(frozen=True)
class RunningServer:
    process: "subprocess.Popen[str]"
    http: str
    grpc: str
    metrics: str
    models: int
    log: Path

    def end(self) -> int:
        """SIGTERM, then the exit code."""
        self.process.terminate()
        return self.process.wait(_END_TIMEOUT_S)


def server_command(repository: Path, *flags: str) -> list[str]:
    ports = ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    start = [sys.executable, "-m", "analyzer.runtime", "--model-repository", str(repository), "--exit-with-parent"]
    return [*start, *ports, *flags]


@contextmanager
def running_server(
    repository: Path, *flags: str, environment: Mapping[str, str] | None = None
) -> Iterator[RunningServer]:
    """Fails with the server's log where it does not get ready. ``environment`` is added to our own."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("w") as stderr:
            command = server_command(repository, *flags)
            whole = {**os.environ, **(environment or {})}
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=whole)
        assert process.stdout is not None
        try:
            words = process.stdout.readline().split()
            assert words[:1] == ["ready"], f"the server did not get ready: {log.read_text()}"
            values = dict(word.split("=", 1) for word in words[1:])
            yield RunningServer(process, values["http"], values["grpc"], values["metrics"], int(values["models"]), log)
        finally:
            process.terminate()
            try:
                process.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()

"""A real Triton on free ports, for tests that ask it and us the same; TRITONSERVER names its program."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TRITON = os.environ.get("TRITONSERVER") or shutil.which("tritonserver")
_START_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def real_triton(repository: Path, *flags: str, probe: str = "/v2/health/ready") -> Iterator[tuple[str, ...]]:
    """Its addresses: HTTP, gRPC and metrics. It is up when ``probe`` is answered with 200."""
    ports = {name: free_port() for name in ("http", "grpc", "metrics")}
    where = [f"--{name}-port={port}" for name, port in ports.items()]
    where += [f"--{name}-address=127.0.0.1" for name in ports]
    command = [str(TRITON), "--model-repository", str(repository), *where, *flags]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        _wait_ready(process, f"http://127.0.0.1:{ports['http']}{probe}")
        yield tuple(f"127.0.0.1:{port}" for port in ports.values())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_START_S)


def _wait_ready(process: "subprocess.Popen[bytes]", probe: str) -> None:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            urllib.request.urlopen(probe, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the real Triton did not get ready")

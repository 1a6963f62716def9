"""Child processes: how they are started, how they end, and what they said last."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

LOG_TAIL_LINES = 15


def start(
    module: str,
    arguments: Sequence[str],
    log_path: Path,
    environment: Mapping[str, str] | None = None,
    *,
    prefix: Sequence[str] = (),
) -> "subprocess.Popen[str]":
    """Run ``python -m module`` with pipes on stdin and stdout and its stderr in ``log_path``.

    ``environment`` is added to our own; ``prefix`` is a command that runs it, such as a profiler.
    It gets a process group of its own, so that Ctrl-C reaches only the analyzer, which then ends its children in order.
    """
    with log_path.open("wb") as log:
        return subprocess.Popen(
            [*prefix, sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            process_group=0,
            env={**os.environ, **(environment or {})},
        )


def stop(process: "subprocess.Popen[str]", timeout_s: float) -> None:
    """Ask it to drain and end; end it if it does not. Closes its pipes."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()


def stop_wrapped(process: "subprocess.Popen[str]", module: str, timeout_s: float) -> None:
    """As ``stop``, for a module under a command such as a profiler, which ends by itself once the module has ended."""
    for pid in _running(process, module):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout_s)
    stop(process, timeout_s)


def wrapped_pid(process: "subprocess.Popen[str]", module: str) -> int:
    """The process that runs a module under a command; the command's own where there is none."""
    return next(iter(_running(process, module)), process.pid)


def _running(process: "subprocess.Popen[str]", module: str) -> list[int]:
    """Those that run ``python -m module`` among the descendants, those nearest to the top first."""
    found = []
    for pid in _descendants(process.pid):
        words = _command_line(pid).split(b"\0")
        if module.encode() in words and b"python" in Path(os.fsdecode(words[0])).name.encode():
            found.append(pid)
    return found


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for each in found:
        for children in Path(f"/proc/{each}/task").glob("*/children"):
            with suppress(OSError):
                found.extend(map(int, children.read_text().split()))
    return found[1:]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def last_words(log_path: Path) -> str:
    """The end of a child's log; empty where there is none."""
    try:
        return "\n".join(log_path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
    except OSError:
        return ""

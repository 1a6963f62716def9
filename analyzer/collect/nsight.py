"""Nsight Systems around the runtime: it starts the server, and records only what lies between start and stop.

The server is launched in a session of its own; each window is a collection of that session. (A window told by
cudaProfilerStart and cudaProfilerStop would do without commands, but its report is written only once the server has
ended: seen with 2025.3.1.)
"""

import shutil
import subprocess
import time
from pathlib import Path

from analyzer.runtime.capture import Availability

_LAUNCH = ("--trace=cuda,nvtx", "--cuda-graph-trace=node")
_START = ("--sample=none", "--cpuctxsw=none", "--force-overwrite=true")
_COLLECTS = "Collection"  # the state of a session, as `nsys sessions list` names it
_BEGIN_TIMEOUT_S = 10.0
_COMMAND_TIMEOUT_S = 300.0
_POLL_S = 0.05


class Nsight:
    """One server under Nsight Systems. ``folder`` takes its reports; its name tells the session from others."""

    def __init__(self, command: str, folder: Path, begin_timeout_s: float = _BEGIN_TIMEOUT_S) -> None:
        self._wanted = command
        self._command = shutil.which(command)
        self._folder = folder
        self._begin_timeout_s = begin_timeout_s
        self._session = f"analyzer-{folder.name}"
        self._windows = 0
        self._report: Path | None = None

    def probe(self) -> Availability:
        if self._command is None:
            return Availability(
                "absent", f"Nsight Systems ('{self._wanted}') was not found; install it, or name it with --nsys PATH"
            )
        return Availability("on")

    def prefix(self) -> list[str]:
        """What the server is started with."""
        return [] if self._command is None else [self._command, "launch", f"--session-new={self._session}", *_LAUNCH]

    def start(self) -> Availability:
        """Begins a window, and waits until Nsight Systems collects."""
        found = self.probe()
        if found.state != "on":
            return found
        self._windows += 1
        report = self._folder / f"nsys-{self._windows}.nsys-rep"
        if trouble := self._asked("start", f"--session={self._session}", *_START, f"--output={report}"):
            return Availability("absent", f"Nsight Systems did not begin to collect: {trouble}")
        self._report = report
        deadline_s = time.monotonic() + self._begin_timeout_s
        while not self._collects():
            if time.monotonic() >= deadline_s:
                return Availability("absent", f"Nsight Systems did not collect within {self._begin_timeout_s:g} s")
            time.sleep(_POLL_S)
        return found

    def stop(self) -> str:
        """Ends the window, if one is open: its report is written when this returns. What went wrong, or nothing."""
        return "" if self._report is None else self._asked("stop", f"--session={self._session}")

    def export(self) -> Path | None:
        """The window that has just ended, as SQLite; None where there is no report that can be exported."""
        report, self._report = self._report, None
        if report is None or not report.exists():
            return None
        path = report.with_suffix(".sqlite")
        trouble = self._asked("export", "--type=sqlite", "--force-overwrite=true", f"--output={path}", str(report))
        return None if trouble or not path.exists() else path

    def _collects(self) -> bool:
        try:
            listed = self._run("sessions", "list").stdout
        except (OSError, subprocess.TimeoutExpired):
            return False
        return any(self._session in line and _COLLECTS in line for line in listed.splitlines())

    def _asked(self, *words: str) -> str:
        """What Nsight Systems said last where it failed; nothing where it did as asked."""
        try:
            done = self._run(*words)
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        said = (done.stderr or done.stdout).strip().splitlines()
        return "" if done.returncode == 0 else said[-1] if said else f"it ended with code {done.returncode}"

    def _run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        assert self._command is not None, "asked of an Nsight Systems that is there"
        return subprocess.run(
            [self._command, *words], capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False
        )

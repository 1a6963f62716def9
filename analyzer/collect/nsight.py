"""Nsight Systems around the runtime: it starts the server, and records only what lies between start and stop.

The server tells the window by cudaProfilerStart and cudaProfilerStop (its capture ``cuda_range``). Each window leaves a
report of its own, which it exports itself.
"""

import shutil
import subprocess
import time
from pathlib import Path

from analyzer.runtime.capture import Availability

_OPTIONS = (
    "profile", "--trace=cuda,nvtx", "--sample=none", "--cpuctxsw=none", "--cuda-graph-trace=node",
    "--capture-range=cudaProfilerApi", "--capture-range-end=repeat", "--kill=none",
    "--flush-on-cudaprofilerstop=true",
)  # fmt: skip
_NAME = "nsys"
_REPORT_TIMEOUT_S = 60.0
_EXPORT_TIMEOUT_S = 300.0
_POLL_S = 0.1


class Nsight:
    """One server under Nsight Systems. ``folder`` takes its reports."""

    def __init__(self, command: str, folder: Path, timeout_s: float = _REPORT_TIMEOUT_S) -> None:
        self._wanted = command
        self._command = shutil.which(command)
        self._folder = folder
        self._timeout_s = timeout_s
        self._read: set[Path] = set()

    def probe(self) -> Availability:
        if self._command is None:
            return Availability(
                "absent", f"Nsight Systems ('{self._wanted}') was not found; install it, or name it with --nsys PATH"
            )
        return Availability("on")

    def prefix(self) -> list[str]:
        """What the server is started with."""
        if self._command is None:
            return []
        return [self._command, *_OPTIONS, f"--output={self._folder / _NAME}", "--"]

    def reports(self) -> list[Path]:
        """Exports of the window that has just ended; waits for Nsight Systems to have written its report."""
        if self._command is None:
            return []
        deadline_s = time.monotonic() + self._timeout_s
        while True:
            new = sorted({*self._folder.glob(f"{_NAME}*.nsys-rep")} - self._read)
            exports = [path for path in map(self._exported, new) if path is not None]
            if exports or time.monotonic() > deadline_s:
                return exports
            time.sleep(_POLL_S)

    def _exported(self, report: Path) -> Path | None:
        """None where the report is not complete yet, or is none."""
        assert self._command is not None, "only Nsight Systems writes reports"
        path = report.with_suffix(".sqlite")
        command = [self._command, "export", "--type=sqlite", "--force-overwrite=true", f"--output={path}", str(report)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=_EXPORT_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode or not path.exists():
            return None
        self._read.add(report)
        return path

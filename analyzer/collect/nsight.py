"""Nsight Systems around the runtime: it starts the server, and records only what lies between start and stop.

The server tells the window by cudaProfilerStart and cudaProfilerStop (its capture ``cuda_range``). Each window leaves a
report of its own, which is imported through ``nsys export``.
"""

import shutil
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
_POLL_S = 0.1


class Nsight:
    """One server under Nsight Systems. ``folder`` takes its reports."""

    def __init__(self, command: str, folder: Path) -> None:
        self._wanted = command
        self._command = shutil.which(command)
        self._folder = folder
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
        # Without this only ranges with registered names would be seen by its window.
        return [self._command, *_OPTIONS, f"--output={self._folder / _NAME}", "--"]

    def reports(self) -> list[Path]:
        """Those of the window that has just ended; waits for Nsight Systems to have written one."""
        if self._command is None:
            return []
        deadline_s = time.monotonic() + _REPORT_TIMEOUT_S
        while time.monotonic() < deadline_s:
            new = sorted({*self._folder.glob(f"{_NAME}*.nsys-rep")} - self._read)
            if new:
                self._read |= set(new)
                return new
            time.sleep(_POLL_S)
        return []

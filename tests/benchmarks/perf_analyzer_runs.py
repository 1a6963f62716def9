"""One run of the real perf_analyzer, and what it says of it."""

import re
import subprocess
from dataclasses import dataclass

_PATIENCE_S = 60
_WINDOW_MS = 1000


@dataclass(frozen=True)
class Seen:
    """``status`` is the exit status, None where it did not end by itself; ``complaint`` its last line if it failed."""

    status: int | None
    per_second: float | None = None
    p99_us: int | None = None
    complaint: str = ""


def run_perf_analyzer(program: str, *flags: str) -> Seen:
    """Three windows of a second; they count though they differ, as the machine may be busy."""
    measured = [f"--measurement-interval={_WINDOW_MS}", "--max-trials=3", "--stability-percentage=999"]
    command = [program, *measured, *flags]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return Seen(None, complaint=f"did not end within {_PATIENCE_S} s")
    said = done.stdout + done.stderr
    rates = re.findall(r"Throughput: ([\d.]+) infer/sec", done.stdout)
    latencies = re.findall(r"p99 latency: (\d+) usec", done.stdout)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    complaint = lines[-1] if done.returncode and lines else ""
    return Seen(
        done.returncode, float(rates[-1]) if rates else None, int(latencies[-1]) if latencies else None, complaint
    )

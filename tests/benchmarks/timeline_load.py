"""Seconds and memory to load a timeline of a million events (or as many as the first argument says). Run by hand.

Loading is timed in a process of its own, so that its peak memory is not that of making the file.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from analyzer.timeline import archive
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.table import Kind, Meta, Timeline


def made_up(count: int) -> Timeline:
    """Events whose columns differ from row to row, so that none is stored as one value."""
    rng = np.random.default_rng(1)
    build = TimelineBuilder()
    names = build.name_ids(f"kernel_{number}" for number in range(400))
    start = rng.integers(0, 10**11, count)
    ids = {name: rng.integers(0, 100_000, count) for name in ("request", "batch", "step", "bytes", "size")}
    build.add(
        rng.choice([Kind.RANGE, Kind.API, Kind.KERNEL, Kind.MEMCPY], count),
        start,
        start + rng.integers(100, 100_000, count),
        rng.choice(names, count),
        process=rng.integers(400, 410, count),
        thread=rng.integers(400, 500, count),
        device=rng.integers(0, 8, count),
        stream=rng.integers(7, 20, count),
        correlation=np.arange(count),
        **ids,
    )
    return build.build(Meta(producer="benchmark"))


def peak_mib() -> float:
    """From /proc: the figure of getrusage starts at that of the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def load(path: Path) -> None:
    before, began = peak_mib(), time.perf_counter()
    timeline = archive.load(path)
    seconds = time.perf_counter() - began
    print(
        f"{len(timeline):,} events loaded in {seconds:.2f} s; process {peak_mib():.0f} MiB at most, {before:.0f} before"
    )


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--load"]:
        load(Path(arguments[1]))
        return
    count = int(arguments[0]) if arguments else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"benchmark{archive.SUFFIX}"
        timeline = made_up(count)
        began = time.perf_counter()
        archive.save(timeline, path)
        print(f"saved in {time.perf_counter() - began:.2f} s, {path.stat().st_size / 2**20:.0f} MiB")
        subprocess.run([sys.executable, "-m", "tests.benchmarks.timeline_load", "--load", str(path)], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])

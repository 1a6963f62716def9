"""Seconds and memory to load a timeline of a million events (or as many as the first argument says), in every format.

Run by hand. Loading is timed in a process of its own, so that its peak memory is not that of making the file.
"""

import gzip
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np

from analyzer.timeline import archive, export_chrome, export_nsight, import_any
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kinds import CopyKind, Kind, MemoryKind, copy_name
from analyzer.timeline.table import Device, Meta, Timeline


def made_up(count: int) -> Timeline:
    """Eight threads that call, each with a stream of its own: operators with a call in them, which launches a kernel.

    Every sixteenth kernel is a copy; each operator is in a range. Columns differ from row to row.
    """
    rng = np.random.default_rng(1)
    build = TimelineBuilder()
    rounds = np.arange(count // 4)
    thread, start = 400 + rounds % 8, rounds // 8 * 100_000 + rng.integers(0, 1000, len(rounds))
    host = {"process": 77, "thread": thread}
    operators = build.name_ids(f"aten::operator_{number}" for number in range(90))
    kernels = build.name_ids(f"void kernel_{number}<float, {number}, 4>(float const*, int)" for number in range(400))
    ranges, call = build.name_ids(f"model:step {number}" for number in range(40)), build.name_id("cudaLaunchKernel")
    build.add(Kind.RANGE, start, start + 90_000 + rounds % 777, rng.choice(ranges, len(rounds)), **host)
    build.add(Kind.OPERATOR, start + 1000, start + 80_000, rng.choice(operators, len(rounds)), **host)
    build.add(Kind.API, start + 2000, start + 7000 + rounds % 313, call, correlation=rounds, **host)
    is_copy = rounds % 16 == 0
    build.add(
        np.where(is_copy, Kind.MEMCPY, Kind.KERNEL),
        start + 12_000,
        start + 70_000 + rounds % 911,
        np.where(is_copy, build.name_id(copy_name(CopyKind.HOST_TO_DEVICE)), rng.choice(kernels, len(rounds))),
        process=77,
        device=0,
        stream=7 + rounds % 8,
        correlation=rounds,
        bytes=np.where(is_copy, 1 + rounds, -1),
        copy_kind=np.where(is_copy, CopyKind.HOST_TO_DEVICE, -1),
        src_kind=np.where(is_copy, MemoryKind.PINNED, -1),
        dst_kind=np.where(is_copy, MemoryKind.DEVICE, -1),
        block_count=np.where(is_copy, -1, 1 + rounds % 4000),
        thread_count=np.where(is_copy, -1, 128),
    )
    return build.build(Meta(producer="benchmark"), devices=[Device(id=0, name="GPU", compute_capability=(9, 0))])


def as_json_lines(database: Path, path: Path) -> None:
    """What ``nsys export --type jsonlines`` writes: the rows of the tables, each with the name of its table."""
    with closing(sqlite3.connect(database)) as db, path.open("wb") as file:
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            rows = db.execute(f'SELECT * FROM "{table}"')
            names = [each[0] for each in rows.description]
            for row in rows:
                told = {name: value for name, value in zip(names, row, strict=True) if value is not None}
                file.write(msgspec.json.encode({"table": table, **told}) + b"\n")


def as_onnx_profile(count: int, path: Path) -> None:
    shapes = {"input_type_shape": [{"float": [1, 64, 56, 56]}], "output_type_shape": [{"float": [1, 64, 56, 56]}]}
    args = {"op_name": "Conv", "provider": "CPUExecutionProvider", "node_index": "7", "output_size": "802816", **shapes}
    with path.open("wb") as file:
        for number in range(count):
            event = {"cat": "Node", "pid": 7, "tid": 9, "dur": 8, "ts": 10 * number, "ph": "X"}
            name = f"node_{number % 300}_kernel_time"
            file.write((b",\n" if number else b"[\n") + msgspec.json.encode(event | {"name": name, "args": args}))
        file.write(b"\n]\n")


def files(count: int, folder: Path) -> Iterator[tuple[str, Path]]:
    timeline = made_up(count)
    archive.save(timeline, own := folder / f"own{archive.SUFFIX}")
    yield "own file", own
    export_nsight.write(timeline, tables := folder / "capture.sqlite")
    yield "Nsight SQLite", tables
    as_json_lines(tables, lines := folder / "capture.jsonl")
    yield "Nsight JSON Lines", lines
    export_chrome.write(timeline, trace := folder / "kineto.json")
    yield "Kineto", trace
    with trace.open("rb") as plain, gzip.open(zipped := folder / "kineto.json.gz", "wb", 4) as file:
        shutil.copyfileobj(plain, file)
    yield "Kineto, gzipped", zipped
    as_onnx_profile(count, profile := folder / "onnx.json")
    yield "ONNX Runtime", profile


def peak_mib() -> float:
    """From /proc: the figure of getrusage starts at that of the process that started this one."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def load(path: Path) -> None:
    before, began = peak_mib(), time.perf_counter()
    worked = time.process_time()
    timeline = import_any.read(path)
    seconds, worked = time.perf_counter() - began, time.process_time() - worked
    print(
        f"{len(timeline):,} events in {seconds:.2f} s ({worked:.2f} s of the processor); "
        f"process {peak_mib():.0f} MiB at most, {before:.0f} before"
    )


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--load"]:
        load(Path(arguments[1]))
        return
    count = int(arguments[0]) if arguments else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files(count, Path(folder)):
            print(f"{name} ({path.stat().st_size / 2**20:.0f} MiB): ", end="", flush=True)
            subprocess.run([sys.executable, "-m", "tests.benchmarks.timeline_load", "--load", str(path)], check=True)


if __name__ == "__main__":
    main(sys.argv[1:])

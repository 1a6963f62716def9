"""Throughput as the real perf_analyzer sees it: of our runtime and of the real Triton, in turns, in one run.

``python -m tests.benchmarks.seen_by_perf_analyzer --perf-analyzer PATH --triton PATH [--in-flight 8] [--repeat 3]``

Both serve the identity of ``runtime_requests``: ``script`` is the same ``model.py`` on both, ``inline`` and ``queued``
are identities without one. perf_analyzer waits for each answer in a thread of its own, its default. Where there are two
cores it has the first and the server the second, children included, so that one can't take the other's time.
"""

import argparse
import os
import statistics
from pathlib import Path

from tests.benchmarks.perf_analyzer_runs import run_perf_analyzer
from tests.benchmarks.runtime_requests import Server, our_server, triton_server


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--perf-analyzer", required=True)
    parser.add_argument("--triton", type=Path, required=True, help="a tritonserver with its Python backend")
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[1:2] or cores)  # what is started inherits it
    with our_server() as ours, triton_server(given.triton) as triton:
        os.sched_setaffinity(0, cores[:1])
        print("| protocol, model | ours, per s | Triton, per s | ratio (smallest to largest) |\n|---|---|---|---|")
        for protocol in ("http", "grpc"):
            for model in ours.models:
                turns = [
                    (look(given, ours, protocol, model), look(given, triton, protocol, "script"))
                    for _ in range(given.repeat)
                ]
                print_row(f"{protocol}, {model}", turns)


def look(given: argparse.Namespace, server: Server, protocol: str, model: str) -> float:
    address = server.http if protocol == "http" else server.grpc
    flags = ["-m", model, "-i", protocol, "-u", address, f"--concurrency-range={given.in_flight}", "--sync"]
    seen = run_perf_analyzer(given.perf_analyzer, *flags)
    if seen.per_second is None:
        raise SystemExit(f"perf_analyzer against {server.name} ended with status {seen.status}: {seen.complaint}")
    return seen.per_second


def print_row(name: str, turns: list[tuple[float, float]]) -> None:
    ratios = sorted(ours / triton for ours, triton in turns)
    mine, peer = (statistics.median(column) for column in zip(*turns))
    told = f"{statistics.median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
    print(f"| {name} | {mine:,.0f} | {peer:,.0f} | {told} |", flush=True)


if __name__ == "__main__":
    main()

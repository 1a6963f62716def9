"""What a request costs this load generator and what it costs the real perf_analyzer, on one null server, in one run.

``python -m tests.benchmarks.client_against_perf_analyzer --perf-analyzer PATH [--requests 30000] [--repeat 5]``

PATH may also stand in the environment as PERF_ANALYZER. Both drive ``null_server.c`` in turns, on the same core where
there are two, the server on the other. Printed are medians of requests per second of the client's own processor time,
and the median of the ratios of neighbouring turns: a busy machine makes both dearer, so the ratio is the sturdy figure.
perf_analyzer sends from threads, its default, 32 of them in the open loop: asynchronously it costs more.
"""

import argparse
import os
import re
import subprocess
import threading
from statistics import median

from perf_client.drive import run_load
from perf_client.profile import Concurrency, LoadProfile, Protocol, RequestRate
from tests.benchmarks.client_null_server import figures, null_server

LOADS: tuple[Concurrency | RequestRate, ...] = (
    Concurrency(in_flight=1),
    Concurrency(in_flight=8),
    Concurrency(in_flight=32),
    RequestRate(per_second=5_000.0),
    RequestRate(per_second=20_000.0),
)


PATIENCE_S = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--perf-analyzer", default=os.environ.get("PERF_ANALYZER"))
    parser.add_argument("--protocol", default="http,grpc")
    parser.add_argument("--requests", type=int, default=30_000)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    if not given.perf_analyzer:
        parser.error("give the path of perf_analyzer with --perf-analyzer")
    print(
        "| load | perf-client, per CPU-s | perf_analyzer, per CPU-s | ratio (smallest to largest) |\n|---|---|---|---|"
    )
    with null_server() as ports:
        for protocol in given.protocol.split(","):
            for load in LOADS:
                turns = [
                    (
                        ours(protocol, load, ports[protocol], given.requests),
                        theirs(given.perf_analyzer, protocol, load, ports[protocol], given.requests),
                    )
                    for _ in range(given.repeat)
                ]
                print_row(f"{protocol}, {said(load)}", turns)


def ours(protocol: Protocol, load: Concurrency | RequestRate, port: int, count: int) -> float:
    profile = LoadProfile(model="null", load=load, protocol=protocol, request_count=count, warmup_s=0.0)
    return figures(run_load(profile, f"127.0.0.1:{port}"))["per_cpu_s"]


def theirs(path: str, protocol: Protocol, load: Concurrency | RequestRate, port: int, count: int) -> float | None:
    """None where it was not asked, or did not do what it was asked for."""
    match load:
        case Concurrency(in_flight=level):
            flags = [f"--concurrency-range={level}"]
        case RequestRate(per_second=rate):
            flags = [f"--request-rate-range={rate:g}", "--max-threads=32"]
            count = max(count, int(rate))  # it refuses fewer than a second of them
    command = [path, "-m", "null", "-i", protocol, "-u", f"127.0.0.1:{port}", f"--request-count={count}", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as client:
        assert client.stdout is not None
        # With --request-count it sometimes waits for ever at the end.
        patience = threading.Timer(PATIENCE_S, client.kill)
        patience.start()
        said = client.stdout.read()
        _, status, used = os.wait4(client.pid, 0)
        client.returncode = os.waitstatus_to_exitcode(status)
        patience.cancel()
    done = re.search(r"Request count: (\d+)", said)
    if client.returncode or not done:
        return None
    return int(done[1]) / (used.ru_utime + used.ru_stime)


def print_row(name: str, turns: list[tuple[float, float | None]]) -> None:
    mine = f"{median(own for own, _ in turns):,.0f}"
    both = [(own, other) for own, other in turns if other is not None]
    if len(both) < len(turns) / 2:
        print(f"| {name} | {mine} | | |", flush=True)
        return
    ratios = sorted(own / other for own, other in both)
    other = f"{median(other for _, other in both):,.0f}"
    print(f"| {name} | {mine} | {other} | {median(ratios):.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f}) |", flush=True)


def said(load: Concurrency | RequestRate) -> str:
    return f"{load.in_flight} in flight" if isinstance(load, Concurrency) else f"open loop, {load.per_second:,.0f}/s"


if __name__ == "__main__":
    main()

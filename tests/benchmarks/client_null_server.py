"""What a request costs the load generator: requests per client CPU-second against a server that computes nothing.

``python tests/benchmarks/client_null_server.py [--protocol http,grpc] [--seconds 3] [--repeat 3]``

The server (``null_server.c``, built with the system's C compiler) has a core of its own where there are two. Printed
are medians; in open loop also how late requests left. A fixed Python loop is timed before and after as a measure of
how calm the machine is: figures taken at different values don't compare. On a machine that does other work, too, how
late requests left says more of the other work than of the load generator; ``--real-time`` keeps it away.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np

from perf_client.drive import Run, run_load
from perf_client.profile import Concurrency, Load, LoadProfile, Protocol, RequestRate
from perf_client.record import OK

LOADS: tuple[Load, ...] = (
    Concurrency(in_flight=1),
    Concurrency(in_flight=8),
    Concurrency(in_flight=32),
    RequestRate(per_second=5_000.0),
    RequestRate(per_second=20_000.0, arrival="poisson"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--protocol", default="http,grpc")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--real-time", action="store_true", help="keep other programs off both cores; needs root")
    given = parser.parse_args()
    if given.real_time:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    print(f"calibration before: {calibration_s() * 1e3:.1f} ms")
    print(f"{'load':32} {'requests/s':>11} {'per CPU-s':>10} {'service p50, p99 µs':>21} {'late p50, p99, max µs':>24}")
    with null_server() as ports:
        for protocol in given.protocol.split(","):
            for load in LOADS:
                profile = LoadProfile(
                    model="null", load=load, protocol=protocol, duration_s=given.seconds, warmup_s=0.3
                )
                url = f"127.0.0.1:{ports[protocol]}"
                print_row(protocol, load, [figures(run_load(profile, url)) for _ in range(given.repeat)])
    print(f"calibration after: {calibration_s() * 1e3:.1f} ms")


def figures(run: Run) -> dict[str, float]:
    columns, facts = run.columns, run.facts
    answered = columns.failure == OK
    if not answered.all():
        raise SystemExit(f"{(~answered).sum()} requests failed: {facts.failure_examples}")
    done = np.count_nonzero(columns.last_byte_ns <= facts.ended_ns)
    service_us = (columns.last_byte_ns - columns.sent_ns) / 1e3
    late_us = (columns.sent_ns - columns.scheduled_ns) / 1e3
    return {
        "rate": done / facts.wall_s,
        "per_cpu_s": done / facts.cpu_s,
        "p50": float(np.percentile(service_us, 50)),
        "p99": float(np.percentile(service_us, 99)),
        "late50": float(np.percentile(late_us, 50)),
        "late99": float(np.percentile(late_us, 99)),
        "late_max": float(late_us.max()),
    }


def print_row(protocol: Protocol, load: Load, runs: list[dict[str, float]]) -> None:
    middle = {name: median(run[name] for run in runs) for name in runs[0]}
    match load:
        case Concurrency(in_flight=count):
            name, late = f"{protocol}, {count} in flight", ""
        case RequestRate(per_second=rate, arrival=arrival):
            name = f"{protocol}, {rate:,.0f}/s {arrival}"
            late = f"{middle['late50']:.0f}, {middle['late99']:.0f}, {middle['late_max']:.0f}"
    service = f"{middle['p50']:.0f}, {middle['p99']:.0f}"
    print(f"{name:32} {middle['rate']:11,.0f} {middle['per_cpu_s']:10,.0f} {service:>21} {late:>24}")


@contextmanager
def null_server() -> Iterator[dict[Protocol, int]]:
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "null_server"
        source = Path(__file__).with_name("null_server.c")
        subprocess.run(["cc", "-O2", "-o", str(binary), str(source)], check=True)
        with subprocess.Popen([str(binary)], stdout=subprocess.PIPE, text=True) as server:
            try:
                cores = sorted(os.sched_getaffinity(0))
                if len(cores) > 1:
                    os.sched_setaffinity(server.pid, {cores[1]})
                    os.sched_setaffinity(0, {cores[0]})
                assert server.stdout is not None
                ports = json.loads(server.stdout.readline())
                yield {"http": ports["http_port"], "grpc": ports["grpc_port"]}
            finally:
                server.kill()


def calibration_s() -> float:
    """The fastest of some rounds of a fixed loop, in CPU time."""

    def once() -> float:
        began, total = time.process_time(), 0
        for number in range(1_000_000):
            total += number
        return time.process_time() - began

    return min(once() for _ in range(5))


if __name__ == "__main__":
    main()

"""How much memory a long run takes: a constant rate against the null server, looked at every half second.

``python -m tests.benchmarks.client_memory [--rate 20000] [--seconds 60]``

Printed are the resident memory before, at its highest while the load runs, and at its highest while the result is made,
apart from pages of files, which the kernel may take back; and the growth for each request.
"""

import argparse
import threading
from dataclasses import dataclass
from pathlib import Path

from perf_client.drive import run_load
from perf_client.profile import LoadProfile, RequestRate
from perf_client.summarize import summarize
from tests.benchmarks.client_null_server import null_server

_EVERY_S = 0.5
_EVERY_WHILE_SUMMARIZING_S = 0.01


@dataclass
class Highest:
    """Of this process's memory, until it is stopped."""

    every_s: float
    mib: float = 0.0

    def __enter__(self) -> "Highest":
        self.mib = resident_mib()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._ended.wait(self.every_s):
            self.mib = max(self.mib, resident_mib())

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def resident_mib() -> float:
    """Without mapped files."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=20_000.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--protocol", choices=("http", "grpc"), default="http")
    given = parser.parse_args()
    load = RequestRate(per_second=given.rate)
    profile = LoadProfile(model="null", load=load, protocol=given.protocol, duration_s=given.seconds)
    before = resident_mib()
    with null_server() as ports:
        with Highest(_EVERY_S) as running:
            run = run_load(profile, f"127.0.0.1:{ports[given.protocol]}")
        with Highest(_EVERY_WHILE_SUMMARIZING_S) as summarizing:
            result = summarize(profile, run.columns, run.facts)
    count = len(run.columns)
    print(f"{count:,} requests, {result.throughput.per_second:,.0f} per second, {result.verdict}")
    print(f"before {before:.0f} MiB, load {running.mib:.0f} MiB, result {summarizing.mib:.0f} MiB")
    print(f"growth of the highest: {(max(running.mib, summarizing.mib) - before) * 2**20 / count:.0f} bytes a request")


if __name__ == "__main__":
    main()

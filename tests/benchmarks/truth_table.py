"""What happened, what this load generator says of it, and what the real perf_analyzer says: on scripted servers.

``python -m tests.benchmarks.truth_table [--perf-analyzer PATH] [--case NAME]``

PATH may also stand in the environment as PERF_ANALYZER; without it that column stays empty. Each client drives a fresh
server with the same script, for 20 to 24 s. The truth is the server's own log: in an open loop its answers minus the
moments at which requests were due, in a closed loop minus those at which they came.
"""

import argparse
import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from perf_client.drive import run_load
from perf_client.estimate import nearest_rank
from perf_client.profile import Concurrency, LoadProfile, LoadResult, RequestRate
from perf_client.summarize import summarize
from tests.fakes.scripted_server import Log, Script, running


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    script: Script
    load: Concurrency | RequestRate
    duration_s: float
    flags: tuple[str, ...]
    """perf_analyzer's, for the same load."""


CASES = (
    Case(
        "one freeze of 3 s, 50/s",
        Script([0.005], freeze_at_s=5.0, freeze_s=3.0),
        RequestRate(per_second=50.0),
        20.0,
        ("--request-rate-range=50", "--request-count=1000"),
    ),
    Case(
        "freezes of 0.6 s every 8 s, 50/s",
        Script([0.005], freeze_at_s=0.5, freeze_s=0.6, freeze_every_s=8.0),
        RequestRate(per_second=50.0),
        24.0,
        ("--request-rate-range=50", "-p", "1000"),
    ),
    Case(
        "overload, 60/s for a capacity of 50/s",
        Script([0.02]),
        RequestRate(per_second=60.0),
        20.0,
        ("--request-rate-range=60", "-p", "2000"),
    ),
    Case(
        "each 50th request fails, 4 in flight",
        Script([0.005], queue=False, fail_every=50),
        Concurrency(in_flight=4),
        20.0,
        ("--concurrency-range=4", "-p", "1000"),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--perf-analyzer", default=os.environ.get("PERF_ANALYZER"))
    parser.add_argument("--case", default="", help="only cases with this in their name")
    given = parser.parse_args()
    print("| case | server's log | perf-client | perf_analyzer |\n|---|---|---|---|")
    for case in CASES:
        if given.case in case.name:
            truth, own = _ours(case)
            print(f"| {case.name} | {truth} | {own} | {_theirs(case, given.perf_analyzer)} |", flush=True)


def _ours(case: Case) -> tuple[str, str]:
    profile = LoadProfile(model="m", load=case.load, warmup_s=0.0, duration_s=case.duration_s)
    with TemporaryDirectory() as folder, running(case.script, Path(folder)) as server:
        run = run_load(profile, server.url)
        result, log = summarize(profile, run.columns, run.facts), server.stop()
    from_ns = log.arrived_ns
    if isinstance(case.load, RequestRate):
        from_ns = run.columns.scheduled_ns + run.facts.start_ns
    return _truth(log, from_ns, result, run.facts.start_ns), _said(result)


def _truth(log: Log, from_ns: NDArray[np.int64], result: LoadResult, start_ns: int) -> str:
    answered = log.kind == 0
    took_ns = np.sort((log.done_ns - from_ns)[answered])
    ended = log.done_ns[answered] - start_ns
    seconds = (result.counted_to_ns - result.counted_from_ns) / 1e9
    rate = np.count_nonzero((ended >= result.counted_from_ns) & (ended < result.counted_to_ns)) / seconds
    failed = f", {np.count_nonzero(~answered)} failed" if not answered.all() else ""
    return f"{_figures(rate, lambda percent: int(took_ns[nearest_rank(len(took_ns), percent) - 1]))}{failed}"


def _said(result: LoadResult) -> str:
    assert result.response is not None
    known = {percentile.percent: percentile.value_ns for percentile in result.response.percentiles}
    failed = sum(result.failures.values())
    figures = _figures(result.throughput.per_second, lambda percent: known[percent])
    return f"{figures}{f', {failed} failed' if failed else ''}; {result.verdict}"


def _figures(per_second: float, latency_ns: Callable[[float], int]) -> str:
    shown = ", ".join(f"p{percent} {latency_ns(percent) / 1e6:.1f} ms" for percent in (50.0, 95.0, 99.0))
    return f"{per_second:.1f}/s, {shown.replace('.0 ', ' ')}"


def _theirs(case: Case, path: str | None) -> str:
    if not path:
        return "not run"
    with TemporaryDirectory() as folder, running(case.script, Path(folder)) as server:
        command = [path, "-m", "m", "-u", server.url, *case.flags]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    said = ended.stdout
    rate = re.search(r"Throughput: ([\d.]+)", said)
    found = dict(re.findall(r"(p50|p95|p99) latency: (\d+) usec", said))
    if not rate or not found:
        lines = (said + ended.stderr).strip().splitlines()
        return f"no result, exit status {ended.returncode}: {lines[-1] if lines else ''}"
    shown = ", ".join(f"{name} {int(value) / 1e3:.1f} ms" for name, value in found.items())
    return f"{float(rate[1]):.1f}/s, {shown}; exit status {ended.returncode}"


if __name__ == "__main__":
    main()

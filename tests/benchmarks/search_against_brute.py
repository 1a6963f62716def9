"""Runs the default search and the whole grid over one space with the real programs, and measures both winners again.

    python -m tests.benchmarks.search_against_brute -m REPOSITORY --model NAME --latency-budget 50ms [--dry-run]

By hand, on a machine that does nothing else: the grid of the default space is some 300 points of 5 s. Both runs go into
``--scratch``, where an interrupted one is taken up again. Prints points, server starts, wall time and throughput of
each, and what the search reached of the grid's best: as each run told it, and as both winners do in turns, measured
for longer on a server of their own each time.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import mkdtemp

from analyzer.domain.measurement import Measurement, Outcome
from analyzer.domain.run import ServerConfig
from analyzer.rank.rank import rank
from analyzer.store import RunFolder

_LISTS = {
    "--instance-counts": "1,2",
    "--max-batch-sizes": "1,2,4,8,16,32",
    "--dynamic-batching": "true,false",
    "--queue-delays-us": "0,100,500,2000",
    "--concurrency": "1:64",
}


@dataclass(frozen=True, slots=True)
class Found:
    """What a run measured and picked. ``wall_s`` is of this call: little where the run was there already."""

    outcomes: list[Outcome]
    best: Measurement | None
    wall_s: float

    @property
    def starts(self) -> int:
        servers: list[ServerConfig | None] = [None, *(o.config.server for o in self.outcomes)]
        return sum(before != after for before, after in pairwise(servers))


def main() -> None:
    asked = _asked()
    scratch = Path(asked.scratch or mkdtemp(prefix="search-against-brute-"))
    print(f"in {scratch}", flush=True)
    if asked.dry_run:
        for mode in ("brute", "capacity"):
            _analyzer(asked, scratch / mode, mode, "--dry-run")
        return
    found = {mode: _searched(asked, scratch / mode, mode) for mode in ("capacity", "brute")}
    for mode, each in found.items():
        _say(mode, each)
    ours, grid = found["capacity"], found["brute"]
    print(f"points {len(ours.outcomes) / max(len(grid.outcomes), 1):.3f} of the grid's (at most 0.1 is wanted)")
    print(f"time   {ours.wall_s / max(grid.wall_s, 1e-9):.3f} of the grid's (at most 0.2 is wanted)")
    if ours.best is None or grid.best is None:
        print("no winner in one of the runs: nothing to compare")
        return
    _compare(asked, scratch / "again", ours.best, grid.best)


def _searched(asked: argparse.Namespace, run: Path, mode: str) -> Found:
    began_s = time.monotonic()
    _analyzer(asked, run, mode, "--quiet", "--formats", "json")
    wall_s = time.monotonic() - began_s
    folder = RunFolder.open(run)
    outcomes = folder.outcomes()
    ranking = rank(outcomes, folder.header.objectives, folder.header.budgets)
    return Found(outcomes, ranking.recommended, wall_s)


def _analyzer(asked: argparse.Namespace, run: Path, mode: str, *more: str) -> None:
    """Exit code 6 says that nothing keeps the limits, which is a result here."""
    lists = {flag: getattr(asked, flag[2:].replace("-", "_")) for flag in _LISTS}
    space = [part for flag, values in lists.items() if values for part in (flag, values)]
    lengths = ["--duration", asked.duration, "--screen-duration", asked.screen_duration]
    model = ["-m", asked.repository, "--profile-models", asked.model, "--latency-budget", asked.latency_budget]
    command = [sys.executable, "-m", "analyzer", "profile", *model, *space, *lengths]
    command += ["--run", str(run), "--search", mode, *more, *asked.more]
    done = subprocess.run(command, check=False, stdout=None if asked.dry_run else subprocess.PIPE, text=True)
    if done.returncode not in {0, 6}:
        sys.exit(f"analyzer profile --search {mode} ended with {done.returncode}: {done.stdout or ''}")


def _say(mode: str, found: Found) -> None:
    best = (
        "none" if found.best is None else f"{found.best.load.throughput.per_second:.1f} infer/s, {_named(found.best)}"
    )
    print(
        f"{mode:8} {len(found.outcomes):4d} points {found.starts:4d} starts {found.wall_s:7.1f} s  best {best}",
        flush=True,
    )


def _named(point: Measurement) -> str:
    variant = point.config.server.variants[0]
    fields = ("instance_count", "max_batch_size", "dynamic_batching", "queue_delay_us")
    parts = [f"{name}={value}" for name in fields if (value := getattr(variant, name)) is not None]
    return f"{' '.join(parts) or 'default'} at {point.config.load.load.level:g}"


def _compare(asked: argparse.Namespace, scratch: Path, ours: Measurement, grid: Measurement) -> None:
    """A B B A, each time in a run of its own over one configuration (and the default, passed over) at one load."""
    values: dict[str, list[float]] = {"ours": [], "grid": []}
    turns = [("ours", ours), ("grid", grid), ("grid", grid), ("ours", ours)] * asked.rounds
    for turn, (name, point) in enumerate(turns):
        run = scratch / f"{turn}-{name}"
        only = ["--max-points", "1"] if point.config.server.is_default else []
        _analyzer(_only(asked, point), run, "brute", "--quiet", "--formats", "json", *only)
        for outcome in RunFolder.open(run).outcomes():
            if isinstance(outcome, Measurement) and outcome.config.server == point.config.server:
                values[name].append(outcome.load.throughput.per_second)
    means = {name: sum(each) / max(len(each), 1) for name, each in values.items()}
    print(f"again, {asked.again} each: ours {values['ours']}, grid {values['grid']}")
    print(f"ratio  {means['ours'] / max(means['grid'], 1e-9):.3f} of the grid's winner (at least 0.95 is wanted)")
    told = ours.load.throughput.per_second / grid.load.throughput.per_second
    print(f"ratio  {told:.3f} as the two runs told it (a grid's best of many noisy points is a lucky one)")


def _only(asked: argparse.Namespace, point: Measurement) -> argparse.Namespace:
    """The options with one value each; what the point leaves as it is stays out, as it has no effect there."""
    variant = point.config.server.variants[0]
    level = f"{point.config.load.load.level:g}"
    one = argparse.Namespace(**vars(asked))
    one.instance_counts = "" if variant.instance_count is None else str(variant.instance_count)
    one.max_batch_sizes = "" if variant.max_batch_size is None else str(variant.max_batch_size)
    one.dynamic_batching = "" if variant.dynamic_batching is None else str(variant.dynamic_batching).lower()
    one.queue_delays_us = "" if variant.queue_delay_us is None else str(variant.queue_delay_us)
    one.concurrency, one.duration = f"{level}:{level}", asked.again
    return one


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="the default search against the whole grid")
    parser.add_argument("-m", "--repository", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--latency-budget", default="50ms")
    for flag, value in _LISTS.items():
        parser.add_argument(flag, default=value)
    parser.add_argument("--duration", default="5s")
    parser.add_argument("--screen-duration", default="2s")
    parser.add_argument("--again", default="15s", help="how long the winners are measured each time")
    parser.add_argument("--rounds", type=int, default=2, help="of A B B A")
    parser.add_argument("--scratch", default="")
    parser.add_argument("--dry-run", action="store_true", help="the size of both and their estimated time")
    parser.add_argument("more", nargs="*", help="after --: other options of analyzer profile")
    return parser.parse_args()


if __name__ == "__main__":
    main()

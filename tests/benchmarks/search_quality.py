"""Prints how good a search is on known landscapes: case, what it must reach, in how many points, and what it got.

Run by hand from the repository root: ``python -m tests.benchmarks.search_quality [RANDOM_LANDSCAPES]``.
"""

import sys
from dataclasses import dataclass
from time import perf_counter

from analyzer.search.make import make_planner
from analyzer.search.options import SearchOptions
from tests.fakes.landscapes import (
    BASE,
    NAMES,
    OBJECTIVES,
    P99_20,
    Landscape,
    best_throughput,
    explore,
    landscape,
    load_template,
    p99_ms,
    pick,
    random_landscape,
    space,
    true_figures,
)
from tests.fakes.shared_landscapes import BASES, TEMPLATES, SharedLandscape, shared, shared_pick, shared_space


@dataclass(frozen=True, slots=True)
class Result:
    """``ratio`` is the pick's true throughput over the best there is; ``kept`` whether it truly meets the limit."""

    name: str
    points: int
    ratio: float
    kept: bool
    ask_s: float


def search(land: Landscape, limit_ms: float | None, mode: str = "capacity", at_most: int = 1000) -> Result:
    budgets = P99_20 if limit_ms is not None else ()
    planner = make_planner(mode, space(), OBJECTIVES, budgets, load_template(), "content", SearchOptions(bases=(BASE,)))
    started = perf_counter()
    outcomes = explore(planner, land.measure, at_most)
    elapsed_s = perf_counter() - started
    chosen = pick(outcomes, limit_ms)
    best = best_throughput(land, limit_ms)
    throughput, p99 = true_figures(land, chosen.config) if chosen else (0.0, 0.0)
    kept = best == 0.0 if chosen is None else limit_ms is None or p99 <= limit_ms
    ratio = throughput / best if best else 1.0
    return Result(land.name, len(outcomes), ratio, kept, elapsed_s / max(len(outcomes), 1))


def search_shared(land: SharedLandscape) -> Result:
    """Two models on one device, both limited."""
    options = SearchOptions(bases=BASES)
    planner = make_planner(
        "capacity", shared_space(), OBJECTIVES, land.budgets, TEMPLATES[0], "content", options, beside=TEMPLATES[1:]
    )
    started = perf_counter()
    outcomes = explore(planner, land.measure, 200)
    elapsed_s = perf_counter() - started
    throughput, kept = shared_pick(land, outcomes)
    return Result(land.name, len(outcomes), throughput / land.best(), kept, elapsed_s / max(len(outcomes), 1))


def _row(case: str, must: str, at_most: int, results: list[Result]) -> None:
    worst = min(results, key=lambda r: r.ratio)
    most = max(results, key=lambda r: r.points)
    kept = sum(r.kept for r in results) / len(results)
    slowest_ms = 1000 * max(r.ask_s for r in results)
    print(
        f"{case:34} {must:>16} {at_most:4d} | worst {worst.ratio:.3f} ({worst.name}) most points {most.points:3d} "
        f"({most.name}) limit kept {kept:4.0%} {slowest_ms:.1f} ms/point"
    )


def main() -> None:
    random_count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    print(f"{'case':34} {'must reach':>16} {'in':>4} | got")
    for name in NAMES:
        _row(f"{name}, no limit", ">= 0.98", 30, [search(landscape(name), None)])
    for name in NAMES:
        _row(f"{name}, p99 <= 20 ms", ">= 0.97", 40, [search(landscape(name), 20.0)])
    for name in NAMES:
        noisy = [search(landscape(name, noise=0.03, seed=seed), 20.0) for seed in range(20)]
        _row(f"{name}, p99 <= 20 ms, 3 % noise", "kept in 95 %", 50, noisy)
    lands = [land for seed in range(random_count) if p99_ms((land := random_landscape(seed)).service_ms(1, 1)) <= 20]
    _row(f"{len(lands)} random, no limit", ">= 0.98", 30, [search(land, None) for land in lands])
    _row(f"{len(lands)} random, p99 <= 20 ms", ">= 0.97", 40, [search(land, 20.0) for land in lands])
    for name in ("mixed+insty", "batchy+mixed", "mixed+mixed"):
        _row(f"{name}, both p99 <= 20 ms", ">= 0.95", 80, [search_shared(shared(name))])
    print("for comparison, other modes")
    for mode in ("quick", "optuna"):
        for name in NAMES:
            _row(f"{mode}: {name}, p99 <= 20 ms", ">= 0.97", 40, [search(landscape(name), 20.0, mode)])


if __name__ == "__main__":
    main()

"""Prints how good a search is on known landscapes: case, what it must reach, in how many points, and what it got.

Run by hand from the repository root: ``python -m tests.benchmarks.search_quality [RANDOM_LANDSCAPES [PAIRS]]``; 200
and 40 unless given. Then the time that a search takes where a server is slow to start, and what a planner costs itself.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import process_time

from msgspec.structs import replace as replace_fields

from analyzer.domain.budget import Budget
from analyzer.domain.measurement import Outcome
from analyzer.domain.run import RunConfig
from analyzer.domain.space import LoadRange
from analyzer.search.make import MODES, make_planner
from analyzer.search.options import SearchOptions
from analyzer.search.planner import Planner
from tests.fakes.landscapes import (
    BASE,
    CONCURRENCY,
    NAMES,
    OBJECTIVES,
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
from tests.fakes.recorded_landscapes import RECORDED, Recorded
from tests.fakes.shared_landscapes import (
    BASES,
    TEMPLATES,
    SharedLandscape,
    random_shared,
    shared,
    shared_pick,
    shared_space,
)

RATES = LoadRange(kind="request_rate", minimum=10, maximum=20_000)
_SERVERS, _DOUBLINGS = 40, 11
"""Of the space of the landscapes: configurations that can behave differently, and loads of a grid."""

POINT_OVERHEAD_S, SERVER_WARMUP_S = 0.2, 0.5

PAIRS = ("mixed+insty", "batchy+mixed", "mixed+mixed", "batchy+insty/work")


@dataclass(frozen=True, slots=True)
class Result:
    """``ratio`` is the pick's true throughput over the best there is; ``kept`` whether it truly meets the limit.

    ``starts`` counts points whose server was not the one of the point before, ``load_s`` is the time under load.
    """

    name: str
    points: int
    ratio: float
    kept: bool
    ask_s: float
    starts: int
    load_s: float


def search(
    land: Landscape,
    limit_ms: float | None,
    mode: str = "capacity",
    at_most: int = 1000,
    load: LoadRange = CONCURRENCY,
    options: SearchOptions | None = None,
) -> Result:
    budgets = () if limit_ms is None else (Budget(metric="p99_latency_ms", limit=limit_ms),)
    options = options or SearchOptions(bases=(BASE,))
    planner = make_planner(mode, space(load=load), OBJECTIVES, budgets, load_template(), "content", options)
    outcomes, ask_s = timed(planner, land.measure, at_most)
    chosen = pick(outcomes, limit_ms)
    best = best_throughput(land, limit_ms)
    best = min(best, load.maximum) if load.kind == "request_rate" else best
    throughput, p99 = true_figures(land, chosen.config) if chosen else (0.0, 0.0)
    kept = best == 0.0 if chosen is None else limit_ms is None or p99 <= limit_ms
    return result(land.name, outcomes, throughput / best if best else 1.0, kept, ask_s)


def search_recorded(land: Recorded) -> Result:
    """First in windows of 0.6 of the recorded length; ``kept`` allows for what interpolation is off."""
    budgets = (Budget(metric="p99_latency_ms", limit=land.limit_ms),)
    short_s = 0.6 * land.window_s
    options = SearchOptions(bases=(land.base,), screen_duration_s=short_s, confirm_duration_s=land.window_s)
    planner = make_planner("capacity", land.space, OBJECTIVES, budgets, land.load_template, "content", options)
    outcomes, ask_s = timed(planner, land.measure, 1000)
    chosen = pick(outcomes, land.limit_ms)
    figures = land.figures(chosen.config) if chosen else None
    throughput, p99 = (figures[0], figures[2]) if figures else (0.0, 0.0)
    return result(land.name, outcomes, throughput / land.best, p99 <= 1.03 * land.limit_ms, ask_s)


def search_shared(land: SharedLandscape, at_most: int = 200, **options: float) -> Result:
    """Two models on one device, both limited."""
    outcomes, ask_s = timed(joint_planner(land, **options), land.measure, at_most)
    throughput, kept = shared_pick(land, outcomes)
    best = land.best()
    return result(land.name, outcomes, throughput / best if best else 1.0, kept, ask_s)


def joint_planner(land: SharedLandscape, mode: str = "capacity", **options: float) -> Planner:
    steered = replace_fields(SearchOptions(bases=BASES), **options)
    return make_planner(
        mode, shared_space(), OBJECTIVES, land.budgets, TEMPLATES[0], "content", steered, beside=TEMPLATES[1:]
    )


def timed(planner: Planner, measure: Callable[[RunConfig], Outcome], at_most: int) -> tuple[list[Outcome], float]:
    """Outcomes, and the processor time that each of them cost the planner (and the landscape, which is little)."""
    began_s = process_time()
    outcomes = explore(planner, measure, at_most)
    return outcomes, (process_time() - began_s) / max(len(outcomes), 1)


def result(name: str, outcomes: Sequence[Outcome], ratio: float, kept: bool, ask_s: float) -> Result:
    servers = [outcome.config.server for outcome in outcomes]
    starts = sum(before != after for before, after in zip([None, *servers], servers))
    load_s = sum(outcome.config.load.duration_s + POINT_OVERHEAD_S for outcome in outcomes)
    return Result(name, len(outcomes), ratio, kept, ask_s, starts, load_s)


def row(case: str, must: str, at_most: int, results: list[Result]) -> None:
    worst = min(results, key=lambda r: r.ratio)
    most = max(results, key=lambda r: r.points)
    kept = sum(r.kept for r in results) / len(results)
    mean = sum(r.ratio for r in results) / len(results)
    print(
        f"{case:34} {must:>12} {at_most:4d} | worst {worst.ratio:.3f} ({worst.name}) mean {mean:.3f} "
        f"most points {most.points:3d} limit kept {kept:4.0%} {1000 * max(r.ask_s for r in results):.0f} ms/point",
        flush=True,
    )


def named() -> None:
    for name in NAMES:
        row(f"{name}, no limit", ">= 0.98", 30, [search(landscape(name), None)])
    for name in NAMES:
        row(f"{name}, p99 <= 20 ms", ">= 0.97", 40, [search(landscape(name), 20.0)])
    for noise in (0.03, 0.1):
        for name in NAMES:
            noisy = [search(landscape(name, noise=noise, seed=seed), 20.0) for seed in range(20)]
            row(f"{name}, p99 <= 20 ms, {noise:.0%} noise", "kept in 95 %", 50, noisy)
    for name in NAMES:
        rates = [search(landscape(name, noise=0.03, seed=seed), 20.0, load=RATES) for seed in range(20)]
        row(f"{name}, rates, p99 <= 20 ms, 3 %", "kept in 95 %", 50, rates)


def at_random(count: int) -> None:
    lands = [land for seed in range(count) if p99_ms((land := random_landscape(seed)).service_ms(1, 1)) <= 20]
    failing = [replace(land, slot_limit=16 + 8 * place % 240) for place, land in enumerate(lands)]
    row(f"{len(lands)} random, no limit", ">= 0.98", 30, [search(land, None) for land in lands])
    row(f"{len(lands)} random, p99 <= 20 ms", ">= 0.97", 40, [search(land, 20.0) for land in lands])
    row(f"{len(failing)} random, some fail to load", ">= 0.97", 40, [search(land, 20.0) for land in failing])
    noisy = [replace(land, noise=0.03) for land in lands]
    row(f"{len(noisy)} random, 3 % noise", "kept in 95 %", 50, [search(land, 20.0) for land in noisy])


def recorded(seeds: int = 20) -> None:
    """Grids of real models, with 5 % of noise."""
    for land in RECORDED:
        at_most = land.point_count // 10
        row(f"{land.name}, recorded", "", at_most, [search_recorded(land.seeded(seed)) for seed in range(seeds)])


def pairs(count: int) -> None:
    for name in PAIRS:
        row(f"{name}, both p99 <= 20 ms", ">= 0.95", 80, [search_shared(shared(name))])
    noisy = [search_shared(shared("mixed+insty", noise=0.03, seed=seed)) for seed in range(10)]
    row("mixed+insty, both limited, 3 %", "kept in 95 %", 80, noisy)
    lands = [random_shared(seed) for seed in range(count)]
    row(f"{count} random pairs, both limited", ">= 0.95", 80, [search_shared(land) for land in lands])


def restarts(seeds: int = 10, pair_seeds: int = 3) -> None:
    """As in real runs: first short windows, then long ones, with noise that falls with the root of their length."""
    print("time, with a server that takes so long to start; of a grid: measured for 5 s each, a start a configuration")
    for start_s in (1.0, 5.0, 20.0):
        for name in (*NAMES, "cores", "flat"):
            _restarted(name, start_s, seeds)
        for name in PAIRS:
            _restarted_pair(name, start_s, pair_seeds)


def _restarted(name: str, start_s: float, seeds: int) -> None:
    limit_ms, restart_s = 50.0 if name == "flat" else 20.0, start_s + SERVER_WARMUP_S
    options = SearchOptions(bases=(BASE,), screen_duration_s=2.0, confirm_duration_s=5.0, restart_s=restart_s)
    lands = [replace(landscape(name, noise=0.015, seed=seed), noise_at_s=5.0) for seed in range(seeds)]
    found = [search(land, limit_ms, options=options) for land in lands]
    grid_s = _SERVERS * _DOUBLINGS * (5 + POINT_OVERHEAD_S) + _SERVERS * restart_s
    _restarted_row(f"start {start_s:2.0f} s, {name:17}", found, restart_s, grid_s)


def _restarted_pair(name: str, start_s: float, seeds: int) -> None:
    restart_s = start_s + SERVER_WARMUP_S
    lands = [replace(shared(name, noise=0.015, seed=seed), noise_at_s=5.0) for seed in range(seeds)]
    found = [search_shared(land, screen_duration_s=2.0, confirm_duration_s=5.0, restart_s=restart_s) for land in lands]
    grid_s = _SERVERS**2 * _DOUBLINGS**2 * (5 + POINT_OVERHEAD_S) + _SERVERS**2 * restart_s
    _restarted_row(f"start {start_s:2.0f} s, {name:17}", found, restart_s, grid_s)


def _restarted_row(case: str, found: list[Result], restart_s: float, grid_s: float) -> None:
    count = len(found)
    points, starts, load_s = (sum(values) / count for values in zip(*((r.points, r.starts, r.load_s) for r in found)))
    took_s = load_s + starts * restart_s
    worst, kept = min(r.ratio for r in found), sum(r.kept for r in found) / count
    print(
        f"{case} {points:5.1f} points {starts:5.1f} starts ({starts / points:.0%}) "
        f"{took_s:5.0f} s, {took_s / grid_s:.2%} of a grid's; worst {worst:.3f}, limit kept {kept:.0%}",
        flush=True,
    )


def comparison() -> None:
    print("for comparison, other modes")
    for mode in ("quick", "optuna"):
        for limit_ms, case in ((None, "no limit"), (20.0, "p99 <= 20 ms")):
            for name in NAMES:
                row(f"{mode}: {name}, {case}", "", 40, [search(landscape(name), limit_ms, mode)])


def overhead() -> None:
    """Processor time of an asked point with 1,000 points in the store."""
    for mode in MODES:
        land = landscape("mixed", noise=0.03)
        options = SearchOptions(bases=(BASE,))
        where = space(tuple(range(1, 6)), delays_us=(0, 100, 500, 1000))
        budgets = (Budget(metric="p99_latency_ms", limit=20.0),)
        planner = make_planner(mode, where, OBJECTIVES, budgets, load_template(), "content", options)
        grid = make_planner("brute", where, OBJECTIVES, budgets, load_template(), "content", options)
        _overhead(f"{mode}, {len(grid.ledger())} candidates", planner, grid, land.measure)
    for mode in MODES:
        land = shared("mixed+insty", noise=0.03)
        grid = joint_planner(land, "brute")
        _overhead(f"{mode}, two models, {len(grid.ledger())} pairs", joint_planner(land, mode), grid, land.measure)


def _overhead(case: str, planner: Planner, grid: Planner, measure: Callable[[RunConfig], Outcome]) -> None:
    for outcome in explore(grid, measure, 1000):
        planner.tell(outcome)
    planner.ask()
    asked, ask_s = timed(planner, measure, 10)
    print(f"{case:34} {1000 * ask_s:.0f} ms a point with 1,000 stored ({len(asked)} asked)", flush=True)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    pair_count = int(sys.argv[2]) if len(sys.argv) > 2 else 40
    print(f"{'case':34} {'must reach':>12} {'in':>4} | got")
    named()
    at_random(count)
    recorded()
    pairs(pair_count)
    comparison()
    restarts()
    overhead()


if __name__ == "__main__":
    main()

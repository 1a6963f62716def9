"""What is still to be measured again before leaders can be called apart, tied, and within their limits."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from analyzer.domain.metrics import METRICS
from analyzer.domain.run import ServerConfig
from analyzer.search.evidence import Level, clearly_breaks, secures
from analyzer.search.options import SearchOptions
from analyzer.search.outlook import Outlook
from analyzer.search.problem import Goal, Problem
from analyzer.stats import half_width, odds_of_separation, separated

MOST_LEADERS = 3

_WORTH_RATIO = 0.01
"""Differences of the objective below this do not earn another measurement."""

_WORTH_ODDS = 0.1
"""Of telling two leaders apart with all the repeats that are allowed: below it they tie at once."""

_PRECISE_RATIO = 0.02
"""Leaders known this well, and still not told apart, are a tie worth reporting, not worth more measurements."""


@dataclass(frozen=True, slots=True)
class Step:
    """Measure ``row`` at ``load``: ``again`` for a repeat of a level that was seen, longer where that is asked for."""

    row: int
    load: float
    again: bool


def steps(outlook: Outlook, options: SearchOptions, running: ServerConfig | None = None) -> Iterator[Step]:
    """The most useful first, of equally useful ones those of the server that runs.

    None: the answer stands, or repeating has reached its bound.
    """
    for found in (_confirm(outlook, options), _secure(outlook, options)):
        yield from sorted(found, key=lambda step: outlook.problem.candidates[step.row].server != running)
    yield from _separate(outlook, options, running)


def _confirm(outlook: Outlook, options: SearchOptions) -> Iterator[Step]:
    """Leaders, and the default's best level, were only screened so far: measure them for as long as was asked."""
    if options.confirm_duration_s is None:
        return
    default = [level for level in outlook.best_kept if level.candidate == outlook.problem.candidates[0]]
    for level in [*_leaders(outlook.problem, outlook.best_kept), *default]:
        if level.longest_s < options.confirm_duration_s:
            yield _repeat(outlook, level)


def _secure(outlook: Outlook, options: SearchOptions) -> Iterator[Step]:
    """A leader whose interval reaches over the limit is measured again, or at a load with room for the interval."""
    problem = outlook.problem
    if not problem.budgets:
        return
    safe = [
        level
        for levels in outlook.levels
        for level in levels
        if outlook.keeps(level) and secures(level, problem.budgets)
    ]
    best_safe = max((outlook.at(outlook.row(level.candidate), level.load) for level in safe), default=-math.inf)
    for row, leader in _contenders(outlook):
        if outlook.at(row, leader.load) < best_safe + _WORTH_RATIO:
            continue
        if _is_doubtful(leader, problem) and len(leader.measurements) < 1 + options.max_repeats:
            yield _repeat(outlook, leader)
        lower = _safe_load(outlook, row, leader)
        if lower is None or outlook.at(row, lower) < best_safe + _WORTH_RATIO:
            continue
        seen = [level for level in outlook.levels[row] if level.load == lower]
        if not seen:
            yield Step(row, lower, again=False)
        elif not clearly_breaks(seen[0], problem.budgets) and len(seen[0].measurements) < 1 + options.max_repeats:
            yield _repeat(outlook, seen[0])


def _contenders(outlook: Outlook) -> list[tuple[int, Level]]:
    """The candidates with the best forecasts, each with the level that comes nearest to it without clearly failing.

    By the forecast, not by what was kept: noise may have pushed the best of all just over a limit.
    """
    found = []
    for prospect in sorted(outlook.prospects, key=lambda p: -p.score):
        levels = [
            level
            for level in outlook.levels[prospect.row]
            if level.usable and not clearly_breaks(level, outlook.problem.budgets)
        ]
        if levels and prospect.p_kept >= 0.5:
            nearest = min(levels, key=lambda level: (abs(math.log(level.load / prospect.load)), level.load))
            found.append((prospect.row, nearest))
    return found[:MOST_LEADERS]


def _is_doubtful(level: Level, problem: Problem) -> bool:
    """Near enough to a limit that narrowing the interval can decide: repeats halve it, no more."""
    if secures(level, problem.budgets):
        return False
    for budget in problem.budgets:
        figure = level.figures.get(budget.figure)
        half = None if figure is None else half_width(figure)
        if figure is None or half is None or budget.violation(level.measurements[0]) is None:
            continue
        room = budget.limit - figure.value if budget.at_most else figure.value - budget.limit
        if room < half / 2:
            return False
    return True


def _safe_load(outlook: Outlook, row: int, level: Level) -> float | None:
    """The highest load whose forecast keeps every limit with room for the interval that two measurements would have."""
    room = np.ones(len(outlook.loads), dtype=bool)
    for budget in outlook.problem.budgets:
        figure, seen = outlook.figures.get(budget.figure), level.figures.get(budget.figure)
        if figure is None or seen is None or budget.limit <= 0 or not seen.value:
            continue
        half = (half_width(seen) or 0.0) * math.sqrt(len(level.measurements)) / abs(seen.value)
        edge = (
            math.log(budget.limit) - figure.mean[row] if budget.at_most else figure.mean[row] - math.log(budget.limit)
        )
        room &= edge >= half
    allowed = room & (outlook.loads < outlook.ceiling(row))
    return float(outlook.loads[np.flatnonzero(allowed)[-1]]) if allowed.any() else None


def _separate(outlook: Outlook, options: SearchOptions, running: ServerConfig | None) -> Iterator[Step]:
    """Leaders that can't be told apart take turns, the least measured first: A B, B A, so that both get a drift.

    Those that all the repeats allowed are unlikely to tell apart tie now: more of them would only cost time.
    """
    most = 1 + options.max_repeats
    safe = [level for level in outlook.best_kept if secures(level, outlook.problem.budgets)]
    leaders = _leaders(outlook.problem, safe)
    if len(leaders) < 2 or all(_is_precise(level, outlook.problem) for level in leaders):
        return
    rivals = [level for level in leaders[1:] if may_separate(outlook.problem, leaders[0], level, most)]
    turns = sorted([leaders[0], *rivals], key=lambda x: (len(x.measurements), x.candidate.server != running))
    for level in turns if rivals else ():
        if len(level.measurements) < most:
            yield _repeat(outlook, level)


def may_separate(problem: Goal, first: Level, rival: Level, most: int) -> bool:
    """Whether measuring both ``most`` times is likely enough to tell them apart by a difference that matters."""
    a, b = first.figures[problem.main.figure], rival.figures[problem.main.figure]
    growth = _growth(first, most), _growth(rival, most)
    return odds_of_separation(a, b, growth, _WORTH_RATIO * abs(a.value)) >= _WORTH_ODDS


def _growth(level: Level, most: int) -> float:
    """How many times as long it will have been measured, with windows as long as its longest."""
    counted_s = sum(m.config.load.duration_s for m in level.measurements)
    return 1 + max(most - len(level.measurements), 0) * level.longest_s / counted_s


def _leaders(problem: Problem, levels: list[Level]) -> list[Level]:
    """The first of ``levels`` and those whose main objective can't be told apart from it."""
    main = problem.main
    if not levels or METRICS[main.metric].higher_is_better is None:
        return levels[:1]
    first = levels[0].figures[main.figure]
    return [level for level in levels if not separated(first, level.figures[main.figure])][:MOST_LEADERS]


def _is_precise(level: Level, problem: Problem) -> bool:
    for objective in problem.objectives:
        figure = level.figures[objective.figure]
        half = half_width(figure)
        if half is not None and half > _PRECISE_RATIO * abs(figure.value):
            return False
    return True


def _repeat(outlook: Outlook, level: Level) -> Step:
    return Step(outlook.row(level.candidate), level.load, again=True)

"""Models that share a device: what is still to be measured again, or at lower loads, before the leaders stand."""

from collections.abc import Iterator
from dataclasses import dataclass

from analyzer.domain.run import ServerConfig
from analyzer.search.evidence import Level, secures
from analyzer.search.joint_outlook import JointOutlook
from analyzer.search.options import SearchOptions
from analyzer.search.problem import JointProblem
from analyzer.search.settle import MOST_LEADERS, may_separate
from analyzer.stats import separated

_STEP_BACK = 0.96
"""Loads are lowered by so much where the best point's interval reaches over a limit."""


@dataclass(frozen=True, slots=True)
class JointStep:
    """Measure a level again, for longer where that is asked for; or its candidate at other ``loads``."""

    level: Level
    loads: tuple[float, ...] | None = None


def steps(look: JointOutlook, options: SearchOptions, running: ServerConfig | None) -> Iterator[JointStep]:
    """Leaders longer where they were only screened, again where they tie, lower where they may be over a limit."""
    best = look.best_kept
    if not best:
        return
    leaders = [level for level in best if not _is_apart(look.problem, best[0], level)][:MOST_LEADERS]
    if options.confirm_duration_s is not None:
        screened = [level for level in leaders if level.longest_s < options.confirm_duration_s]
        yield from (JointStep(level) for level in sorted(screened, key=lambda x: x.candidate.server != running))
    for level in leaders:
        if look.problem.budgets and not secures(level, look.problem.budgets):
            yield from _secured(look, level, options.confirm_duration_s or 0.0)
    most = 1 + options.max_repeats
    rivals = [level for level in leaders[1:] if may_separate(look.problem, leaders[0], level, most)]
    turns = sorted([leaders[0], *rivals], key=lambda x: (len(x.measurements), x.candidate.server != running))
    yield from (JointStep(level) for level in turns if rivals and len(level.measurements) < most)


def _secured(look: JointOutlook, level: Level, confirm_s: float) -> Iterator[JointStep]:
    """Once again as it is; then lower loads, until one of about the same score has room for its interval."""
    problem = look.problem
    if len(level.measurements) < 2 and _has_interval(problem, level):
        yield JointStep(level)
        return
    seen = look.levels[problem.rows[level.candidate]]
    if any(secures(x, problem.budgets) and _is_about(problem, x, level) for x in seen):
        return
    for times in (1, 2, 3):
        loads = problem.within([load * _STEP_BACK**times for load in level.loads])
        there = next((x for x in seen if x.loads == loads), None)
        if there is None:
            yield JointStep(level, loads)
            return
        if secures(there, problem.budgets):
            return
        if there.longest_s < confirm_s:
            yield JointStep(there)
            return


def _is_about(problem: JointProblem, level: Level, leader: Level) -> bool:
    own, best = problem.score(level), problem.score(leader)
    return own is not None and best is not None and own >= best - (1 - _STEP_BACK)


def _is_apart(problem: JointProblem, best: Level, level: Level) -> bool:
    main = problem.main
    return level is not best and (
        separated(best.figures[main.figure], level.figures[main.figure]) or not _has_interval(problem, level)
    )


def _has_interval(problem: JointProblem, level: Level) -> bool:
    """Repeating teaches nothing of figures that come out the same each time."""
    figures = [level.figures[wanted.figure] for wanted in problem.objectives if wanted.figure in level.figures]
    return any(f.low is not None and f.high is not None and f.high > f.low for f in figures)

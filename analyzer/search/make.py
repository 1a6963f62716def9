"""The planner that a mode names."""

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.space import SearchSpace
from analyzer.errors import UsageError
from analyzer.search.brute import BrutePlanner
from analyzer.search.capacity import CapacityPlanner
from analyzer.search.joint import JointPlanner
from analyzer.search.options import SearchOptions
from analyzer.search.optuna_tpe import OptunaPlanner
from analyzer.search.planner import Planner
from analyzer.search.quick import QuickPlanner
from analyzer.search.task import SearchTask
from perf_client.profile import LoadProfile

MODES = ("capacity", "brute", "quick", "optuna")
"""The first is the default."""


def make_planner(  # noqa: PLR0917 - the one place where the parts of a search come together
    mode: str,
    space: SearchSpace,
    objectives: tuple[Objective, ...],
    budgets: tuple[Budget, ...],
    load_template: LoadProfile,
    content: str,
    options: SearchOptions | None = None,
    beside: tuple[LoadProfile, ...] = (),
) -> Planner:
    """``load_template`` is asked for as it is, but for its load, client batch and shapes; so are those of ``beside``,
    for the other driven models. ``content`` goes into each point.
    """
    task = SearchTask(space, objectives, budgets, load_template, content, options or SearchOptions(), beside)
    match mode:
        case "capacity" if len(space.driven) > 1:
            return JointPlanner(task)
        case "capacity":
            return CapacityPlanner(task)
        case "brute":
            return BrutePlanner(task)
        case "quick":
            return QuickPlanner(task)
        case "optuna":
            return OptunaPlanner(task)
        case _:
            raise UsageError(f"search mode {mode!r} is not known; use one of {', '.join(MODES)}")

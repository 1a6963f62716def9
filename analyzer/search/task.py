"""What a search is given."""

from dataclasses import dataclass

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.space import SearchSpace
from analyzer.search.options import SearchOptions
from perf_client.profile import LoadProfile


@dataclass(frozen=True, slots=True)
class SearchTask:
    """``content`` is the digest of the models' files and of the input data, and part of each point's identity."""

    space: SearchSpace
    objectives: tuple[Objective, ...]
    budgets: tuple[Budget, ...]
    load_template: LoadProfile
    content: str
    options: SearchOptions

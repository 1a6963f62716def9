"""What a search is given."""

from dataclasses import dataclass

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.space import SearchSpace
from analyzer.search.options import SearchOptions
from perf_client.profile import LoadProfile


@dataclass(frozen=True, slots=True)
class SearchTask:
    """``content`` is the digest of the models' files and of the input data, and part of each point's identity.

    ``load_template`` is for the first driven model of the space, ``beside`` are for the others in their order.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...]
    budgets: tuple[Budget, ...]
    load_template: LoadProfile
    content: str
    options: SearchOptions
    beside: tuple[LoadProfile, ...] = ()

    def cap_reached(self, point_count: int) -> int | None:
        """The bound on points, where so many have reached it."""
        most = self.options.max_points
        return most if most is not None and point_count >= most else None

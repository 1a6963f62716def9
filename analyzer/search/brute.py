"""Every candidate at every doubling of the load: the yardstick for the other planners.

Of models that are driven together, every combination of their loads.
"""

from itertools import product

from analyzer.domain.ledger import Candidate, LedgerEntry, LedgerState
from analyzer.domain.measurement import Failure, Outcome
from analyzer.domain.run import RunConfig
from analyzer.search.candidates import doublings, joint_config, roster, template_for
from analyzer.search.task import SearchTask


class BrutePlanner:
    """Goes through the grid in order, load rising within each candidate. One that fails to start is left at once."""

    def __init__(self, task: SearchTask) -> None:
        self._roster = roster(task.space, task.options.bases)
        ranges = [model.load for model in task.space.driven if model.load is not None]
        templates = [template_for(load, each) for load, each in zip(ranges, (task.load_template, *task.beside))]
        self._points = [
            (candidate, joint_config(candidate, loads, templates, task.content, task.options.confirm_duration_s))
            for candidate in self._roster.kept
            for loads in product(*map(doublings, ranges))
        ]
        self._max_points = task.options.max_points
        self._asked: set[str] = set()
        self._reused: set[str] = set()
        self._told: dict[str, Outcome] = {}

    def ask(self) -> RunConfig | None:
        if self._max_points is not None and len(self._asked | self._told.keys()) >= self._max_points:
            return None
        config = next(iter(self._open()), None)
        if config is not None:
            self._asked.add(config.key)
        return config

    def tell(self, outcome: Outcome) -> None:
        if outcome.config.key not in self._asked:
            self._reused.add(outcome.config.key)
        self._told[outcome.config.key] = outcome

    def expected_remaining(self) -> int:
        left = len(self._open())
        return (
            left
            if self._max_points is None
            else min(left, max(0, self._max_points - len(self._asked | self._told.keys())))
        )

    def ledger(self) -> tuple[LedgerEntry, ...]:
        entries = [self._entry(candidate) for candidate in self._roster.kept]
        entries += [LedgerEntry(candidate=c, state="skipped", rule=rule) for c, rule in self._roster.skipped]
        return tuple(entries)

    def _open(self) -> list[RunConfig]:
        failed = self._failed()
        seen = self._asked | self._told.keys()
        return [config for candidate, config in self._points if candidate not in failed and config.key not in seen]

    def _failed(self) -> dict[Candidate, str]:
        """Candidates that broke and never answered."""
        answered = {c for c, config in self._points if not isinstance(self._told.get(config.key, None), Failure | None)}
        broken = {}
        for candidate, config in self._points:
            outcome = self._told.get(config.key)
            if isinstance(outcome, Failure) and candidate not in answered:
                broken[candidate] = outcome.reason
        return broken

    def _entry(self, candidate: Candidate) -> LedgerEntry:
        told = [config.key for c, config in self._points if c == candidate and config.key in self._told]
        failed = self._failed().get(candidate)
        if failed is not None:
            return LedgerEntry(candidate=candidate, state="failed", rule=failed, point_count=len(told))
        if not told:
            return LedgerEntry(
                candidate=candidate, state="skipped", rule="not reached: the search ended before its turn"
            )
        state: LedgerState = "reused" if self._reused.issuperset(told) else "measured"
        rule = "the grid measures every candidate"
        return LedgerEntry(candidate=candidate, state=state, rule=rule, point_count=len(told))

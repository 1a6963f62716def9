"""The whole grid: every candidate at every doubling of the load, of each model where several are driven together."""

from itertools import product

from analyzer.domain.ledger import Candidate, LedgerEntry, LedgerState, candidate_of
from analyzer.domain.measurement import Failure, Outcome
from analyzer.domain.run import RunConfig
from analyzer.search.candidates import doublings, joint_config, load_of, roster, template_for
from analyzer.search.conclude import any_keeps, conclusion
from analyzer.search.task import SearchTask


class BrutePlanner:
    """A candidate that fails before it ever answered is not tried again."""

    def __init__(self, task: SearchTask) -> None:
        self._task = task
        self._roster = roster(task.space, task.options.bases)
        ranges = [model.load for model in task.space.driven if model.load is not None]
        self._templates = [template_for(load, each) for load, each in zip(ranges, (task.load_template, *task.beside))]
        self._loads = list(product(*map(doublings, ranges)))
        self._levels = set(self._loads)
        self._places = {candidate: place for place, candidate in enumerate(self._roster.kept)}
        self._next = [0] * len(self._roster.kept)
        self._first_open = 0
        self._asked: set[str] = set()
        self._told: dict[str, Outcome] = {}
        self._reused: set[str] = set()
        self._seen = [set[str]() for _ in self._roster.kept]
        self._answered: set[Candidate] = set()
        self._broken: dict[Candidate, tuple[str, str]] = {}

    def ask(self) -> RunConfig | None:
        most = self._task.options.max_points
        if most is not None and len(self._asked | self._told.keys()) >= most:
            return None
        config = self._next_open()
        if config is not None:
            self._asked.add(config.key)
            self._seen[self._places[candidate_of(config)]].add(config.key)
        return config

    def tell(self, outcome: Outcome) -> None:
        """Points that are not of this grid are passed over."""
        config, candidate = outcome.config, candidate_of(outcome.config)
        levels = tuple(load_of(load) for load in config.loads)
        if candidate not in self._places or levels not in self._levels:
            return
        if config.key != self._config(candidate, levels).key:
            return
        if config.key not in self._asked:
            self._reused.add(config.key)
        self._told[config.key] = outcome
        self._seen[self._places[candidate]].add(config.key)
        if isinstance(outcome, Failure):
            told = (config.key, outcome.reason)
            self._broken[candidate] = min(told, self._broken.get(candidate, told))
        else:
            self._answered.add(candidate)

    def expected_remaining(self) -> int:
        gone = {self._places[candidate] for candidate in self._broken.keys() - self._answered}
        left = sum(len(self._loads) - len(seen) for place, seen in enumerate(self._seen) if place not in gone)
        most = self._task.options.max_points
        return left if most is None else min(left, max(0, most - len(self._asked | self._told.keys())))

    def conclusion(self) -> str:
        keeps = any_keeps(self._told.values(), self._task.budgets)
        capped_at = self._task.cap_reached(len(self._asked | self._told.keys()))
        return conclusion(self.ledger(), keeps, "the whole grid is measured", capped_at)

    def ledger(self) -> tuple[LedgerEntry, ...]:
        entries = [self._entry(candidate) for candidate in self._roster.kept]
        entries += [LedgerEntry(candidate=c, state="skipped", rule=rule) for c, rule in self._roster.skipped]
        return tuple(entries)

    def _config(self, candidate: Candidate, levels: tuple[float, ...]) -> RunConfig:
        duration_s = self._task.options.confirm_duration_s
        return joint_config(candidate, levels, self._templates, self._task.content, duration_s)

    def _next_open(self) -> RunConfig | None:
        """The first point that was not seen, of a candidate that did not fail."""
        for place in range(self._first_open, len(self._next)):
            candidate = self._roster.kept[place]
            if candidate in self._broken and candidate not in self._answered:
                continue
            while self._next[place] < len(self._loads):
                config = self._config(candidate, self._loads[self._next[place]])
                if config.key not in self._seen[place]:
                    return config
                self._next[place] += 1
            if place == self._first_open:
                self._first_open += 1
        return None

    def _entry(self, candidate: Candidate) -> LedgerEntry:
        told = self._seen[self._places[candidate]] & self._told.keys()
        if candidate in self._broken and candidate not in self._answered:
            reason = self._broken[candidate][1]
            return LedgerEntry(candidate=candidate, state="failed", rule=reason, point_count=len(told))
        if not told:
            return LedgerEntry(
                candidate=candidate, state="skipped", rule="not reached: the search ended before its turn"
            )
        state: LedgerState = "reused" if self._reused.issuperset(told) else "measured"
        rule = "the grid measures every candidate"
        return LedgerEntry(candidate=candidate, state=state, rule=rule, point_count=len(told))

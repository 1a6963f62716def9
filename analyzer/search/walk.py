"""What planners that go from point to point share: the points asked for, told or failed, and the account of them."""

import math
from collections.abc import Sequence

from analyzer.domain.ledger import Candidate, LedgerEntry, LedgerState, candidate_of
from analyzer.domain.measurement import Failure, Measurement, Outcome
from analyzer.domain.metrics import METRICS
from analyzer.domain.run import RunConfig
from analyzer.search.candidates import doublings, joint_config, roster, template_for
from analyzer.search.conclude import any_keeps, conclusion
from analyzer.search.evidence import read_named
from analyzer.search.task import SearchTask


class Walk:
    """The points that were seen, by key, and the candidates that broke and never answered."""

    def __init__(self, task: SearchTask) -> None:
        self.task = task
        self.roster = roster(task.space, task.options.bases)
        ranges = [model.load for model in task.space.driven if model.load is not None]
        self.ladders = [doublings(load) for load in ranges]
        self._templates = [template_for(load, each) for load, each in zip(ranges, (task.load_template, *task.beside))]
        self.asked: set[str] = set()
        self.told: dict[str, Outcome] = {}
        self._reused: set[str] = set()
        self._known = set(self.roster.kept)

    def config(self, candidate: Candidate, steps: Sequence[int]) -> RunConfig:
        """``steps`` count along the ladder of loads of each driven model."""
        loads = [ladder[min(step, len(ladder) - 1)] for ladder, step in zip(self.ladders, steps)]
        duration_s = self.task.options.confirm_duration_s
        return joint_config(candidate, loads, self._templates, self.task.content, duration_s)

    def tell(self, outcome: Outcome) -> bool:
        """False for outcomes of other models, contents or kinds of load, which are passed over."""
        config = outcome.config
        kinds = [type(template.load) for template in self._templates]
        strange = config.content != self.task.content or [type(load.load) for load in config.loads] != kinds
        if strange or candidate_of(config) not in self._known:
            return False
        if config.key not in self.asked:
            self._reused.add(config.key)
        self.told[config.key] = outcome
        return True

    def may_ask(self) -> bool:
        most = self.task.options.max_points
        return most is None or len(self.asked | self.told.keys()) < most

    def is_seen(self, config: RunConfig) -> bool:
        return config.key in self.asked or config.key in self.told

    def failed(self) -> dict[Candidate, str]:
        """Why each candidate that never answered broke."""
        outcomes = list(self.told.values())
        answered = {candidate_of(o.config) for o in outcomes if isinstance(o, Measurement)}
        broken = {candidate_of(o.config): o.reason for o in outcomes if isinstance(o, Failure)}
        return {candidate: reason for candidate, reason in broken.items() if candidate not in answered}

    def worth(self, outcome: Outcome | None) -> tuple[float, float]:
        """By how much the limits are missed, and the weighted logarithm of the objectives: the least, then the most."""
        if not isinstance(outcome, Measurement):
            return math.inf, -math.inf
        violation = sum(max(0.0, budget.violation(outcome) or 0.0) for budget in self.task.budgets)
        spoiled = any(load.verdict == "overloaded" or load.client.bound or load.incomplete for load in outcome.loads)
        score = 0.0
        for objective in self.task.objectives:
            figure = read_named(objective.figure, outcome)
            if figure is None:
                return math.inf, -math.inf
            sign = -1.0 if METRICS[objective.metric].higher_is_better is False else 1.0
            score += objective.weight * sign * math.log(max(figure.value, 1e-12))
        return violation + spoiled, score

    def is_better(self, a: Outcome | None, b: Outcome | None) -> bool:
        """True where ``a`` misses the limits by less, or both keep them and ``a`` has more."""
        (over_a, score_a), (over_b, score_b) = self.worth(a), self.worth(b)
        return over_a < over_b or (over_a == over_b and score_a > score_b)

    def conclusion(self, ledger: Sequence[LedgerEntry], reached: str) -> str:
        keeps = any_keeps(self.told.values(), self.task.budgets)
        return conclusion(ledger, keeps, reached, self.task.cap_reached(len(self.asked | self.told.keys())))

    def ledger(self, measured_rule: str, skipped_rule: str) -> tuple[LedgerEntry, ...]:
        failed = self.failed()
        keys: dict[Candidate, list[str]] = {}
        for key, outcome in self.told.items():
            keys.setdefault(candidate_of(outcome.config), []).append(key)
        best = max(self.told.values(), key=lambda o: (-self.worth(o)[0], self.worth(o)[1]), default=None)
        entries = []
        for candidate in self.roster.kept:
            told = keys.get(candidate, [])
            state: LedgerState = "reused" if self._reused.issuperset(told) else "measured"
            rule = measured_rule
            if not told:
                state, rule = "skipped", skipped_rule
            elif candidate in failed:
                state, rule = "failed", failed[candidate]
            elif best is not None and candidate_of(best.config) == candidate:
                rule = "the best found" if self.worth(best)[0] <= 0 else "the nearest to the limits"
            entries.append(LedgerEntry(candidate=candidate, state=state, rule=rule, point_count=len(told)))
        entries += [LedgerEntry(candidate=c, state="skipped", rule=rule) for c, rule in self.roster.skipped]
        return tuple(entries)

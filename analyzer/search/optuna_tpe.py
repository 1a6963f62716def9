"""Optuna's tree-structured Parzen estimator behind ask and tell, with the budgets as its constraints.

Needs the extra ``optuna``, which is imported here only.
"""

import math
from collections.abc import Sequence
from typing import Any

from analyzer.domain.ledger import Candidate, LedgerEntry, candidate_of
from analyzer.domain.measurement import Outcome
from analyzer.domain.run import RunConfig
from analyzer.errors import MissingExtraError
from analyzer.search.task import SearchTask
from analyzer.search.walk import Walk

_SHARE, _FEWEST, _MOST = 0.1, 20, 60
"""Points asked for: a tenth of the grid within these bounds."""

_TRIES = 20
"""Suggestions of points that were seen before the first unseen one of the grid is taken."""


class OptunaPlanner:
    """The study is made anew from what was told, so that a resumed search goes on where it stood."""

    def __init__(self, task: SearchTask) -> None:
        self._optuna = _optuna()
        self._walk = Walk(task)
        steps = math.prod(len(ladder) for ladder in self._walk.ladders)
        self._grid = len(self._walk.roster.kept) * steps
        self._most = min(self._grid, max(round(_SHARE * self._grid), _FEWEST), _MOST)

    def ask(self) -> RunConfig | None:
        seen = self._walk.asked | self._walk.told.keys()
        if not self._walk.may_ask() or len(seen) >= self._most:
            return None
        config = self._config(self._walk.roster.kept[0], [0] * len(self._walk.ladders))
        if self._walk.is_seen(config):
            found = self._suggested() or self._unseen()
            if found is None:
                return None
            config = found
        self._walk.asked.add(config.key)
        return config

    def tell(self, outcome: Outcome) -> None:
        self._walk.tell(outcome)

    def expected_remaining(self) -> int:
        most = self._walk.task.options.max_points
        bound = self._most if most is None else min(most, self._most)
        left = max(0, bound - len(self._walk.asked | self._walk.told.keys()))
        return left if left and self._unseen() is not None else 0

    def conclusion(self) -> str:
        count = len(self._walk.asked | self._walk.told.keys())
        reached = f"{self._most} suggestions are measured, a tenth of the grid but {_FEWEST} to {_MOST}"
        return self._walk.conclusion(self.ledger(), reached if count >= self._most else "the whole grid is measured")

    def ledger(self) -> tuple[LedgerEntry, ...]:
        return self._walk.ledger("suggested by the estimator", "not among the points that the estimator suggested")

    def _config(self, candidate: Candidate, steps: Sequence[int]) -> RunConfig:
        return self._walk.config(candidate, steps)

    def _open(self) -> list[Candidate]:
        failed = self._walk.failed()
        return [candidate for candidate in self._walk.roster.kept if candidate not in failed]

    def _suggested(self) -> RunConfig | None:
        """What the estimator asks for that was not seen; candidates that failed are told to it as the worst."""
        study, failed = self._study(), self._walk.failed()
        for _ in range(_TRIES):
            trial = study.ask(self._distributions())
            candidate = self._walk.roster.kept[trial.params["candidate"]]
            steps = [trial.params[f"load {place}"] for place in range(len(self._walk.ladders))]
            config = self._config(candidate, steps)
            if candidate not in failed and not self._walk.is_seen(config):
                return config
            trial.set_constraint("over", 1e3)
            study.tell(trial, -1e3)
        return None

    def _study(self) -> Any:
        optuna = self._optuna
        seed = self._walk.task.load_template.seed * 1000 + len(self._walk.told)
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=8)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for key in sorted(self._walk.told):
            outcome = self._walk.told[key]
            over, score = self._walk.worth(outcome)
            study.add_trial(
                optuna.trial.create_trial(
                    params=self._params(outcome.config),
                    distributions=self._distributions(),
                    value=max(score, -1e3),
                    constraints={"over": min(over, 1e3)},
                )
            )
        return study

    def _distributions(self) -> dict[str, Any]:
        spread = self._optuna.distributions
        found: dict[str, Any] = {"candidate": spread.IntDistribution(0, len(self._walk.roster.kept) - 1)}
        for place, ladder in enumerate(self._walk.ladders):
            found[f"load {place}"] = spread.IntDistribution(0, len(ladder) - 1)
        return found

    def _params(self, config: RunConfig) -> dict[str, int]:
        """Where a point lies; a load between two steps of the ladder, as another search may ask, is the nearest."""
        found = {"candidate": self._walk.roster.kept.index(candidate_of(config))}
        for place, (ladder, load) in enumerate(zip(self._walk.ladders, config.loads)):
            level = load.load.level
            found[f"load {place}"] = min(range(len(ladder)), key=lambda step: abs(ladder[step] - level))
        return found

    def _unseen(self) -> RunConfig | None:
        for candidate in self._open():
            for step in range(max(len(ladder) for ladder in self._walk.ladders)):
                config = self._config(candidate, [step] * len(self._walk.ladders))
                if not self._walk.is_seen(config):
                    return config
        return None


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError(
            "--search optuna needs the library optuna: pip install 'serving-analyzer[optuna]', or leave --search out"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna

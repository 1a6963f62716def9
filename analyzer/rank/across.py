"""The best configurations over several models: one ranking of all their points, beside each model's own."""

from collections.abc import Sequence

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.measurement import Measurement, Outcome
from analyzer.domain.ranking import Ranking
from analyzer.domain.record import Record
from analyzer.rank.rank import rank


class OwnAnswer(Record, frozen=True):
    """What was measured of one model, and its ranking under the limits that hold for all."""

    model: str
    outcomes: tuple[Outcome, ...]
    ranking: Ranking


class Place(Record, frozen=True):
    """One configuration at its best load. ``is_tied`` with the best of all; ``is_chosen`` is its model's answer."""

    model: str
    measurement: Measurement
    is_tied: bool
    is_chosen: bool


class Across(Record, frozen=True):
    """``ordered`` holds the best point of each configuration of every model, best first; ``without`` are the models
    none of whose points can be recommended.
    """

    objectives: tuple[Objective, ...]
    budgets: tuple[Budget, ...]
    ordered: tuple[Place, ...]
    without: tuple[OwnAnswer, ...]


def rank_across(answers: Sequence[OwnAnswer], objectives: Sequence[Objective], budgets: Sequence[Budget]) -> Across:
    """Models are told apart by their configurations, so all points can be ranked as if they were of one."""
    every = rank((outcome for answer in answers for outcome in answer.outcomes), objectives, budgets)
    owner = {m.config.key: answer.model for answer in answers for m in answer.ranking.points}
    chosen = {a.ranking.recommended.config.key for a in answers if a.ranking.recommended is not None}
    tied = {m.config.key for m in every.tied} if len(every.tied) > 1 else set()
    return Across(
        objectives=every.objectives,
        budgets=every.budgets,
        ordered=tuple(
            Place(
                model=owner[m.config.key],
                measurement=m,
                is_tied=m.config.key in tied,
                is_chosen=m.config.key in chosen,
            )
            for m in every.ordered
        ),
        without=tuple(answer for answer in answers if answer.ranking.recommended is None),
    )

"""Which measured points may be recommended: within every budget, and with figures that can be trusted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.figures import limits, title_of
from analyzer.domain.measurement import Measurement
from analyzer.domain.ranking import Excluded, Miss
from perf_client.profile import LoadResult


@dataclass(slots=True)
class Sifted:
    """Every measurement stands in exactly one of the three."""

    kept: list[Measurement] = field(default_factory=list)
    missed: list[Miss] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)


def sift(measurements: Iterable[Measurement], objectives: Sequence[Objective], budgets: Sequence[Budget]) -> Sifted:
    """Part the points. A point outside a budget is a miss, whatever else is wrong with it."""
    sifted = Sifted()
    for measurement in measurements:
        miss = worst_miss(measurement, budgets)
        reason = _unfit(measurement) or _unchecked(measurement, budgets) or _unscored(measurement, objectives)
        if miss is not None:
            sifted.missed.append(miss)
        elif reason:
            sifted.excluded.append(Excluded(measurement=measurement, reason=reason))
        else:
            sifted.kept.append(measurement)
    sifted.missed.sort(key=lambda miss: (miss.violation, miss.measurement.config.key))
    sifted.excluded.sort(key=lambda excluded: (excluded.reason, excluded.measurement.config.key))
    return sifted


def worst_miss(measurement: Measurement, budgets: Sequence[Budget]) -> Miss | None:
    """The budget missed by most, or None where every budget that could be checked is kept."""
    worst: Miss | None = None
    for budget in budgets:
        violation = budget.violation(measurement)
        if violation is not None and violation > 0 and (worst is None or violation > worst.violation):
            worst = Miss(measurement=measurement, budget=budget, violation=violation)
    return worst


def surely_kept(measurement: Measurement, budgets: Sequence[Budget]) -> bool:
    """True where the far end of each figure's interval keeps its limit too; where it is unknown, the figure counts.

    The best of many noisy points near a limit is likely one that noise helped over it, so the point alone won't do.
    """
    for budget in budgets:
        estimate = budget.read(measurement)
        if estimate is None:
            return False
        far = estimate.high if budget.at_most else estimate.low
        bound = estimate.value if far is None else far
        if (bound > budget.limit) if budget.at_most else (bound < budget.limit):
            return False
    return True


def _unfit(measurement: Measurement) -> str:
    """The first reason of any of its loads; the model is named where there are several."""
    for load in measurement.loads:
        reason = _unfit_load(load)
        if reason:
            return f"{load.profile.model}: {reason}" if measurement.beside else reason
    return ""


def _unfit_load(load: LoadResult) -> str:
    if load.incomplete:
        return "the measurement was cut short"
    if load.verdict == "overloaded":
        return (
            f"the server was overloaded: {load.verdict_reason}" if load.verdict_reason else "the server was overloaded"
        )
    if load.client.bound:
        return f"the load generator was the limit: {load.client.reason}"
    return "no request succeeded" if load.response is None else ""


def _unchecked(measurement: Measurement, budgets: Sequence[Budget]) -> str:
    unknown = [budget for budget in budgets if budget.violation(measurement) is None]
    return f"{limits(unknown)} could not be checked: it was not measured" if unknown else ""


def _unscored(measurement: Measurement, objectives: Sequence[Objective]) -> str:
    unknown = [title_of(o) for o in objectives if o.read(measurement) is None]
    return f"{', '.join(unknown)} not measured, so it can't be compared" if unknown else ""

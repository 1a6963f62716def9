"""Limits and objectives that could not be told of any point are refused before one is looked at."""

from collections.abc import Iterable, Sequence

from analyzer.domain.budget import Budget, Objective
from analyzer.errors import UsageError


def check_models(objectives: Iterable[Objective], budgets: Iterable[Budget], models: Sequence[str]) -> None:
    """``models`` get load: of another one, nothing is measured."""
    figures = {budget.figure: budget.model for budget in budgets}
    figures |= {objective.figure: objective.model for objective in objectives}
    for figure, model in figures.items():
        if model and model not in models:
            raise UsageError(f"{figure} is of a model that gets no load here; those that do: {', '.join(models)}")


def check_price(objectives: Iterable[Objective], budgets: Iterable[Budget], price_per_hour: float | None) -> None:
    metrics = [*(budget.metric for budget in budgets), *(objective.metric for objective in objectives)]
    if price_per_hour is None and "cost_per_million" in metrics:
        raise UsageError("cost_per_million needs the price of a device: give it with --price-per-hour")

"""Figures as people read them: three significant digits or all whole ones, thousands separated, the unit behind."""

from collections.abc import Iterable
from math import floor, log10

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.metrics import METRICS, Estimate, Metric

NOT_MEASURED = "not measured"


def number(value: float) -> str:
    """``1240.4`` to ``1,240``, ``18.34`` to ``18.3``, ``0.01234`` to ``0.0123``: no more digits than a reader uses."""
    if value == 0:
        return "0"
    rounded = round(value, 2 - floor(log10(abs(value))))
    digits = max(0, 2 - floor(log10(abs(rounded))))
    return f"{value:,.0f}" if digits == 0 else f"{rounded:.{digits}f}"


def quantity(metric: Metric, value: float) -> str:
    """A value with its unit; ratios are shown in percent."""
    if metric.unit == "ratio":
        return f"{number(100 * value)} %"
    return f"{number(value)} {metric.unit}"


def interval(metric: Metric, estimate: Estimate) -> str:
    """``405 to 419``, or nothing where there is no interval. A missing bound is said, never invented."""
    scale = 100.0 if metric.unit == "ratio" else 1.0
    if estimate.low is None and estimate.high is None:
        return ""
    low = "unknown" if estimate.low is None else number(scale * estimate.low)
    high = "unknown" if estimate.high is None else number(scale * estimate.high)
    return f"{low} to {high}"


def figure(metric: Metric, estimate: Estimate | None) -> str:
    """``412 infer/s (405 to 419)``; what was not measured says so."""
    if estimate is None:
        return NOT_MEASURED
    bounds = interval(metric, estimate)
    return quantity(metric, estimate.value) + (f" ({bounds})" if bounds else "")


def title_in_sentence(metric: Metric) -> str:
    """``Throughput`` to ``throughput``; ``GPU memory`` and ``p99 latency`` stay."""
    title = metric.title
    return title if title[:2].isupper() else title[0].lower() + title[1:]


def title_of(wanted: Budget | Objective) -> str:
    """``p99 latency``, or ``p99 latency of MODEL``."""
    title = METRICS[wanted.metric].title
    return f"{title} of {wanted.model}" if wanted.model else title


def named_in_sentence(wanted: Budget | Objective) -> str:
    """As ``title_of``, with a small first letter."""
    title = title_in_sentence(METRICS[wanted.metric])
    return f"{title} of {wanted.model}" if wanted.model else title


def limit(budget: Budget) -> str:
    """``at most 20 ms``."""
    return f"{'at most' if budget.at_most else 'at least'} {limit_value(budget)}"


def limit_value(budget: Budget) -> str:
    """The limit with its unit and the digits it was given with."""
    metric = METRICS[budget.metric]
    return f"{100 * budget.limit:g} %" if metric.unit == "ratio" else f"{budget.limit:,.12g} {metric.unit}"


def limits(budgets: Iterable[Budget]) -> str:
    """``p99 latency at most 20 ms, GPU memory at most 4,000 MB``."""
    return ", ".join(
        "no failed requests" if forbids_failures(b) else f"{named_in_sentence(b)} {limit(b)}" for b in budgets
    )


def forbids_failures(budget: Budget) -> bool:
    """The budget that holds unless the user says otherwise reads better in words than as a ratio of 0."""
    return budget.metric == "failure_ratio" and budget.at_most and budget.limit == 0 and not budget.model

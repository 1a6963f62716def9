"""What is wanted and what is allowed, as options."""

from typing import Annotated

from msgspec import field

from analyzer.domain.budget import Budget, Objective
from analyzer.settings.options import Settings, option
from analyzer.settings.rule_limits import rule_limits
from analyzer.settings.values import (
    at_least,
    budget_list,
    megabytes,
    milliseconds,
    number,
    objective_list,
    positive,
)


class WantedSettings(Settings, frozen=True):
    """What is wanted and what is allowed; the same for a new run and for a new look at an old one."""

    latency_budget_ms: Annotated[
        float | None,
        option(
            positive(milliseconds),
            "Upper limit of the p99 latency.",
            "20ms",
            key="latency_budget",
            section="What is wanted",
        ),
    ] = None
    min_throughput_per_s: Annotated[
        float | None, option(positive(number), "Least inferences per second.", "N", key="min_throughput")
    ] = None
    gpu_memory_budget_mb: Annotated[
        float | None,
        option(positive(megabytes), "Upper limit of the GPU memory in use.", "4GB", key="gpu_memory_budget"),
    ] = None
    server_memory_budget_mb: Annotated[
        float | None,
        option(positive(megabytes), "Upper limit of the server's memory.", "2GB", key="server_memory_budget"),
    ] = None
    constraints: Annotated[
        tuple[Budget, ...],
        option(
            budget_list,
            "A limit on any metric, such as 'p99_latency_ms<=20', or of one model: 'NAME:p99_latency_ms<=20'. "
            "May be repeated.",
            "METRIC<=N",
            key="constraint",
            repeated=True,
        ),
    ] = ()
    objectives: Annotated[
        tuple[Objective, ...],
        option(
            objective_list,
            "Metrics to optimize, with weights: throughput or throughput:2,server_memory_mb:1, or of one model: "
            "NAME:throughput:2.",
            "METRIC",
        ),
    ] = (Objective(metric="throughput"),)
    price_per_hour: Annotated[
        float | None,
        option(at_least(0, number), "Price of a device (GPU, or machine without one); gives cost_per_million.", "N"),
    ] = None

    rules: Annotated[
        dict[str, float],
        option(
            rule_limits,
            "A limit at which a rule of the report fires, such as R1.gap_us=200. May be repeated.",
            "RULE.LIMIT=N",
            key="rule",
            repeated=True,
        ),
    ] = field(default_factory=dict)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """All limits. Unless something is said of ``failure_ratio``, no request may fail: a fast error is no answer."""
        named = (
            ("p99_latency_ms", self.latency_budget_ms, True),
            ("throughput", self.min_throughput_per_s, False),
            ("gpu_memory_mb", self.gpu_memory_budget_mb, True),
            ("server_memory_mb", self.server_memory_budget_mb, True),
        )
        short = [
            Budget(metric=metric, limit=limit, at_most=at_most) for metric, limit, at_most in named if limit is not None
        ]
        given = (*short, *self.constraints)
        if any(budget.metric == "failure_ratio" for budget in given):
            return given
        return (*given, Budget(metric="failure_ratio", limit=0.0))

"""What is wanted (objectives) and what is allowed (budgets)."""

import re

from analyzer.domain.measurement import Measurement
from analyzer.domain.metrics import METRICS, Estimate, read_figure, unknown_metric
from analyzer.domain.record import Record


class Objective(Record, frozen=True):
    """A metric to make as good as possible, in the metric's own better direction. Weights are relative.

    ``model`` names one of several models; empty means all: throughput is their sum, a latency that of the slowest.
    """

    metric: str
    weight: float = 1.0
    model: str = ""

    @property
    def figure(self) -> str:
        """Names the figure: the metric, of one model where it is of one."""
        return figure_name(self.metric, self.model)

    def read(self, measurement: Measurement) -> Estimate | None:
        """None where it was not measured."""
        return read_figure(self.metric, measurement, self.model)


class Budget(Record, frozen=True):
    """A limit on one metric: ``at_most`` true is ``<=``, false is ``>=``.

    ``model`` names one of several models; empty means all: throughput is their sum, a latency that of the slowest, so
    that a limit kept by it is kept by each.
    """

    metric: str
    limit: float
    at_most: bool = True
    model: str = ""

    @property
    def figure(self) -> str:
        """Names the figure: the metric, of one model where it is of one."""
        return figure_name(self.metric, self.model)

    def read(self, measurement: Measurement) -> Estimate | None:
        """None where it was not measured."""
        return read_figure(self.metric, measurement, self.model)

    def violation(self, measurement: Measurement) -> float | None:
        """By how much the limit is missed, relative to it (absolute where it is 0); zero or less is kept.

        None where the metric was not measured, which is neither kept nor missed.
        """
        estimate = self.read(measurement)
        if estimate is None:
            return None
        over = estimate.value - self.limit if self.at_most else self.limit - estimate.value
        return over / abs(self.limit) if self.limit else over

    def __str__(self) -> str:
        return f"{self.figure}{'<=' if self.at_most else '>='}{self.limit:g}"


def figure_name(metric: str, model: str) -> str:
    """``p99_latency_ms``, or ``MODEL:p99_latency_ms``."""
    return f"{model}:{metric}" if model else metric


_CONSTRAINT = re.compile(
    r"\s*((?P<model>[^:<>]+):)?(?P<metric>[a-z0-9_.]+)\s*(?P<op><=|>=)\s*(?P<limit>[-+0-9.eE]+)\s*"
)


def parse_budget(text: str) -> Budget:
    """``p99_latency_ms<=20`` or ``MODEL:p99_latency_ms<=20`` to a Budget.

    Raises ValueError with a sentence for the user.
    """
    match = _CONSTRAINT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not of the form METRIC<=NUMBER, METRIC>=NUMBER or MODEL:METRIC<=NUMBER")
    metric = match["metric"]
    if metric not in METRICS:
        raise ValueError(f"{text!r} names {unknown_metric(metric)}")
    model = match["model"] or ""
    if model and METRICS[metric].of_load is None:
        raise ValueError(f"{text!r}: {metric} is of the whole server, so leave {model}: out")
    try:
        limit = float(match["limit"])
    except ValueError:
        raise ValueError(f"{text!r}: {match['limit']!r} is not a number") from None
    return Budget(metric=metric, limit=limit, at_most=match["op"] == "<=", model=model)

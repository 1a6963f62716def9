"""How much better one point is than another: a ratio with its interval."""

from math import exp, inf, log, sqrt

from analyzer.domain.figures import number
from analyzer.domain.measurement import Measurement
from analyzer.domain.metrics import METRICS, Estimate


def ratio(measurement: Measurement, base: Measurement, metric: str) -> Estimate | None:
    """The metric of one over that of the other. The interval adds the relative errors of both in quadrature."""
    above, below = METRICS[metric].read(measurement), METRICS[metric].read(base)
    if above is None or below is None or above.value <= 0 or below.value <= 0:
        return None
    value = above.value / below.value
    up = _relative(above.value, above.high), _relative(below.low, below.value)
    down = _relative(above.low, above.value), _relative(below.value, below.high)
    if inf in (*up, *down):
        return Estimate(value)
    return Estimate(value, value * exp(-sqrt(down[0] ** 2 + down[1] ** 2)), value * exp(sqrt(up[0] ** 2 + up[1] ** 2)))


def times(estimate: Estimate) -> str:
    """``2.41`` with as many digits as a factor deserves."""
    return f"{estimate.value:.2f}" if estimate.value < 10 else number(estimate.value)


def bounds(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{times(Estimate(estimate.low))} to {times(Estimate(estimate.high))}"


def _relative(low: float | None, high: float | None) -> float:
    """Distance of two bounds as a logarithm; infinite where one is unknown."""
    if low is None or high is None or low <= 0 or high <= 0:
        return inf
    return log(high / low)

import pytest

from analyzer.domain.budget import Budget
from analyzer.domain.figures import figure, interval, limits, number, quantity
from analyzer.domain.metrics import METRICS, Estimate


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (1240.4, "1,240"),
        (999.6, "1,000"),
        (99.96, "100"),
        (18.34, "18.3"),
        (20.0, "20.0"),
        (9.999, "10.0"),
        (0.01234, "0.0123"),
        (-3.456, "-3.46"),
        (1234567.0, "1,234,567"),
    ],
)
def test_a_number_has_the_digits_a_reader_uses(value, shown):
    assert number(value) == shown


def test_a_quantity_has_its_unit_and_a_ratio_is_in_percent():
    assert quantity(METRICS["throughput"], 412.3) == "412 infer/s"
    assert quantity(METRICS["failure_ratio"], 0.0123) == "1.23 %"


def test_limits_are_told_with_the_digits_they_were_given_with():
    budgets = (
        Budget(metric="p99_latency_ms", limit=20.0),
        Budget(metric="gpu_memory_mb", limit=4096.5),
        Budget(metric="throughput", limit=1000, at_most=False),
        Budget(metric="failure_ratio", limit=0.001),
        Budget(metric="failure_ratio", limit=0.0),
    )
    assert limits(budgets) == (
        "p99 latency at most 20 ms, GPU memory at most 4,096.5 MB, throughput at least 1,000 infer/s,"
        " failed requests at most 0.1 %, no failed requests"
    )


def test_what_is_not_known_is_said_and_never_zero():
    p99 = METRICS["p99_latency_ms"]
    assert figure(p99, None) == "not measured"
    assert figure(p99, Estimate(4.0)) == "4.00 ms"
    assert figure(p99, Estimate(4.0, 3.9, None)) == "4.00 ms (3.90 to unknown)"
    assert interval(METRICS["failure_ratio"], Estimate(0.1, 0.05, 0.2)) == "5.00 to 20.0"

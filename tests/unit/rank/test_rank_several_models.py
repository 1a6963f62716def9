"""Models that are driven at the same time: whose figure it is, what all of them come to, and how repeats are pooled."""

from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

from analyzer import report
from analyzer.domain.budget import Budget, Objective, parse_budget
from analyzer.domain.measurement import Measurement
from analyzer.domain.metrics import METRICS, read_figure
from analyzer.domain.run import RunConfig
from analyzer.domain.space import LoadRange, ModelSpace, SearchSpace
from analyzer.errors import NothingMeetsBudgetError, UsageError
from analyzer.rank.order import group_key
from analyzer.rank.pool import pool_repeats
from analyzer.rank.rank import rank
from perf_client.profile import Concurrency, LoadProfile
from tests.fakes.outcomes import measurement, run_config, server_config
from tests.fakes.runs import header, write_run


def together(first: int, second: int, *, instances: int = 1, seed: int = 0, rate: float = 1.0) -> Measurement:
    """Models ``synthetic`` and ``other`` at these concurrencies; ``rate`` scales the first one's throughput."""
    config = run_config(server_config(instances, 8, True, 0), first, seed=seed)
    beside = LoadProfile(model="other", load=Concurrency(in_flight=second), seed=seed)
    pair = RunConfig(server=config.server, load=config.load, content=config.content, beside=(beside,))
    alone = measurement(config)
    scaled = replace(alone.load.throughput, **{k: rate * v for k, v in _fields(alone.load.throughput).items()})
    other = measurement(run_config(server_config(2, 8, True, 0), second, seed=seed)).load
    return replace(
        alone,
        config=pair,
        load=replace(alone.load, throughput=scaled),
        beside=(replace(other, profile=beside),),
    )


def _fields(record: object) -> dict[str, float]:
    return {name: getattr(record, name) for name in record.__struct_fields__}


def value(metric: str, of: Measurement, model: str = "") -> float:
    estimate = read_figure(metric, of, model)
    assert estimate is not None
    return estimate.value


def test_throughput_is_the_sum_and_a_latency_that_of_the_slowest():
    m = together(1, 32)
    each = [value("throughput", m, model) for model in ("synthetic", "other")]
    assert value("throughput", m) == pytest.approx(sum(each))
    p99 = [value("p99_latency_ms", m, model) for model in ("synthetic", "other")]
    assert value("p99_latency_ms", m) == max(p99) > min(p99)


def test_the_interval_of_a_sum_is_narrower_than_the_sum_of_the_intervals():
    m = together(4, 4)
    parts = [METRICS["throughput"].of_load(load) for load in m.loads]
    total = METRICS["throughput"].read(m)
    widths = [part.high - part.low for part in parts]
    assert max(widths) < total.high - total.low < sum(widths)


def test_a_figure_that_one_model_lacks_is_not_measured():
    m = together(1, 1)
    dead = replace(m, beside=(replace(m.beside[0], response=None),))
    assert METRICS["p99_latency_ms"].read(dead) is None
    assert read_figure("p99_latency_ms", dead, "synthetic") is not None
    assert read_figure("p99_latency_ms", dead, "nobody") is None


def test_a_limit_may_be_on_one_model_and_each_must_keep_one_on_all():
    m = together(1, 32)
    slow = value("p99_latency_ms", m, "other")
    fast = value("p99_latency_ms", m, "synthetic")
    between = (slow + fast) / 2
    assert parse_budget(f"synthetic:p99_latency_ms<={between}").violation(m) < 0
    assert parse_budget(f"other:p99_latency_ms<={between}").violation(m) > 0
    assert parse_budget(f"p99_latency_ms<={between}").violation(m) > 0


def test_weights_of_models_decide_between_them():
    favours_first, favours_second = together(4, 1, rate=2.0), together(1, 4, instances=2, rate=0.5)
    for model, best in (("synthetic", favours_first), ("other", favours_second)):
        ranking = rank([favours_first, favours_second], [Objective(metric="throughput", model=model)], ())
        assert ranking.recommended is not None
        assert ranking.recommended.config == best.config


def test_an_overloaded_model_spoils_the_point_and_is_named():
    m = together(1, 1)
    over = replace(m, beside=(replace(m.beside[0], verdict="overloaded", verdict_reason="it fell behind"),))
    (excluded,) = rank([over], (), ()).excluded
    assert excluded.reason == "other: the server was overloaded: it fell behind"


def test_repeats_are_pooled_model_by_model_and_loads_apart():
    repeats = [together(2, 2, seed=1), together(2, 2, seed=2)]
    others = [together(2, 3)]
    pooled = pool_repeats([*repeats, *others])
    assert len(pooled) == 2
    both = next(m for m in pooled if m.config.beside[0].load.level == 2)
    for place in (0, 1):
        assert both.loads[place].request_count == sum(m.loads[place].request_count for m in repeats)
    assert group_key(pooled[0]) == group_key(pooled[1])


def test_cost_follows_the_price_and_the_devices_in_use():
    m = together(4, 4)
    assert METRICS["cost_per_million"].read(m) is None
    paid = METRICS["cost_per_million"].read(replace(m, price_per_hour=3.6))
    assert paid.value == pytest.approx(1000 / value("throughput", m))
    assert paid.low < paid.value < paid.high
    assert METRICS["cost_per_million"].read(replace(m, price_per_hour=0.0)).value == 0


def test_an_old_run_is_reported_at_another_price_and_under_limits_of_one_model(tmp_path: Path):
    load = LoadRange(kind="concurrency", minimum=1, maximum=8)
    space = SearchSpace(models=(ModelSpace(model="synthetic", load=load), ModelSpace(model="other", load=load)))
    points = [together(1, 1), together(4, 4)]
    folder = write_run(tmp_path / "run", points, replace(header(budgets=()), space=space))
    quiet = Console(quiet=True)

    def reported(*budgets: Budget, **given: object) -> Measurement:
        chosen = report.run(folder, budgets=budgets, formats=("json",), console=quiet, **given).recommended
        assert chosen is not None
        return chosen

    dear = reported(objectives=(Objective(metric="cost_per_million"),), price_per_hour=2.0)
    assert (dear.price_per_hour, dear.config) == (2.0, points[1].config)
    limit = value("p99_latency_ms", points[0], "other") * 1.05
    assert reported(Budget(metric="p99_latency_ms", limit=limit, model="other")).config == points[0].config
    with pytest.raises(NothingMeetsBudgetError):
        reported(Budget(metric="p99_latency_ms", limit=0.01, model="other"))
    with pytest.raises(UsageError, match="needs the price"):
        reported(objectives=(Objective(metric="cost_per_million"),))
    with pytest.raises(UsageError, match="those that do: synthetic, other"):
        reported(objectives=(Objective(metric="throughput", model="third"),))

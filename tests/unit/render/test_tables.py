import csv
import json
from io import StringIO

import pytest

from analyzer.domain.budget import Budget
from analyzer.rank.rank import rank
from analyzer.render.context import RunContext
from analyzer.render.tables import COLUMNS, csv_text, json_text, row
from perf_client.profile import RequestRate
from tests.fakes.outcomes import failure, measurement, run_config, server_config
from tests.fakes.runs import P99_20, model_spec, typical


def context() -> RunContext:
    return RunContext(
        name="run",
        model="synthetic",
        model_specs=(model_spec(),),
        command="analyzer profile",
        started_at="2026-01-01T12:00:00Z",
        tool_version="0",
        config_text=lambda server, model: "",
        environment={"cores": 2},
    )


def read(outcomes, budgets=P99_20) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(csv_text(outcomes, rank(outcomes, (), budgets)))))


def test_every_outcome_has_one_row_in_the_order_measured_repeats_apart():
    outcomes = typical()
    rows = read(outcomes)
    assert [found["point"] for found in rows] == [outcome.config.key for outcome in outcomes]
    assert [found["outcome"] for found in rows].count("failure") == 1


def test_what_was_not_measured_is_empty_and_never_zero():
    (found,) = read([measurement(run_config(server_config(), 4))])
    assert found["gpu_memory_mb"] == ""
    assert found["instance_count"] == ""
    assert found["failure_ratio"] == "0.0"
    assert float(found["throughput_per_s_low"]) < float(found["throughput_per_s"])


def test_a_failure_has_its_stage_and_reason_and_no_figures():
    (found,) = read([failure(run_config(server_config(2), 4), reason='out, of "memory"')])
    assert (found["failed_at"], found["reason"]) == ("launch", 'out, of "memory"')
    assert found["throughput_per_s"] == ""


@pytest.mark.parametrize(
    ("budget", "within", "violation"),
    [
        (Budget(metric="p99_latency_ms", limit=10.225), True, -0.5),
        (Budget(metric="p99_latency_ms", limit=4.09), False, 0.25),
        (Budget(metric="gpu_memory_mb", limit=1), None, None),
    ],
)
def test_a_row_says_whether_the_budget_is_kept_and_by_how_much(budget, within, violation):
    found = row(measurement(run_config(server_config(), 1)), (budget,))
    assert found["within_budget"] is within
    assert found["violation_ratio"] == (violation if violation is None else pytest.approx(violation))


def test_open_loop_rows_have_a_rate_and_no_concurrency():
    found = row(measurement(run_config(server_config(), RequestRate(per_second=50.0, arrival="poisson"))), ())
    assert (found["load"], found["concurrency"], found["request_rate_per_s"]) == ("open", None, 50.0)
    assert found["arrival"] == "poisson"


def test_columns_are_unique_and_every_row_has_them_all():
    assert len(COLUMNS) == len(set(COLUMNS))
    for outcome in typical():
        assert tuple(row(outcome, ())) == COLUMNS


def test_the_json_holds_the_answer_and_why():
    outcomes = typical()
    ranking = rank(outcomes, (), P99_20)
    answer = json.loads(json_text(outcomes, ranking, context()))
    assert answer["format_version"] == 1
    assert answer["recommended"]["point"] == ranking.recommended.config.key
    assert answer["reasons"] == list(ranking.reasons)
    assert len(answer["outcomes"]) == len(outcomes)
    assert answer["environment"] == {"cores": 2}


def test_the_json_of_nothing_recommended_says_null():
    answer = json.loads(json_text([], rank([], (), ()), context()))
    assert answer["recommended"] is None
    assert answer["reasons"] == ["Nothing was measured. A longer --time-limit gives it time for a point."]

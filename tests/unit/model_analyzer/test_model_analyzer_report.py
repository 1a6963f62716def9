import csv
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from analyzer import checkpoint_report
from analyzer.domain.budget import Budget, Objective
from analyzer.domain.ranking import Ranking
from analyzer.errors import NothingMeetsBudgetError
from tests.fakes import model_analyzer as fake

NO_FAILURE = Budget(metric="failure_ratio", limit=0.0)


def answers(path: Path, *budgets: Budget, metric: str = "throughput", top: int | None = None) -> list[Ranking]:
    return checkpoint_report.run(
        path,
        "analyzer report checkpoints",
        budgets=budgets,
        objectives=(Objective(metric=metric),),
        formats=("csv", "model-analyzer"),
        console=Console(file=StringIO(), width=80),
        top_count=top,
    )


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def of_two_models(folder: Path) -> Path:
    """Two checkpoints that Model Analyzer wrote, of a model each, as one."""
    checkpoint = fake.tree("single-model")
    results = checkpoint["ResultManager.results"]["_results"]
    results |= fake.in_newer_layout(fake.tree("older-layout"))["ResultManager.results"]["_results"]
    return fake.folder(folder, checkpoint)


def test_failed_requests_that_were_never_counted_leave_nothing_out(tmp_path):
    (ranking,) = answers(fake.folder(tmp_path, fake.content("single-model")), NO_FAILURE)
    assert ranking.recommended.load.throughput.per_second == 13205.0
    assert ranking.budgets == ()


def test_an_objective_that_was_not_kept_is_named_and_the_tables_are_written(tmp_path):
    with pytest.raises(NothingMeetsBudgetError):
        answers(fake.folder(tmp_path, fake.content("single-model")), metric="p50_latency_ms")
    assert len(list((tmp_path / "results").iterdir())) == 3


def test_a_limit_that_cannot_be_checked_is_not_satisfied(tmp_path):
    with pytest.raises(NothingMeetsBudgetError):
        answers(fake.folder(tmp_path, fake.content("single-model")), Budget(metric="p99.9_latency_ms", limit=1e9))
    assert ",Yes," not in (tmp_path / "results" / "metrics-model-inference.csv").read_text()


def test_a_model_without_an_answer_keeps_none_of_the_others_from_theirs(tmp_path):
    with pytest.raises(NothingMeetsBudgetError, match="None of 2 measured points"):
        answers(of_two_models(tmp_path), Budget(metric="p99_latency_ms", limit=1.0))
    assert {path.parent.name for path in tmp_path.glob("*/measurements.csv")} == {"add_sub", "vgg19_libtorch"}
    missed = rows(tmp_path / "summary.csv")[-1]
    assert (missed["Model"], missed["Satisfies Constraints"]) == ("vgg19_libtorch", "No")


def test_the_best_over_the_models_of_a_checkpoint_stand_in_rows_of_its_tables(tmp_path):
    answers(of_two_models(tmp_path), Budget(metric="p99_latency_ms", limit=20.0), top=40)
    best = rows(tmp_path / "summary.csv")
    table = rows(tmp_path / "results" / "metrics-model-inference.csv")
    assert all(row in table for row in best)
    assert list(best[0]) == list(table[0])
    assert {row["Model"] for row in best} == {"add_sub", "vgg19_libtorch"}
    rates = [float(row["Throughput (infer/sec)"]) for row in best]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == max(
        float(row["Throughput (infer/sec)"]) for row in table if row["Satisfies Constraints"] == "Yes"
    )


def test_models_that_were_profiled_together_and_no_number_ask_for_no_summary(tmp_path):
    answers(fake.folder(tmp_path / "together", fake.content("multi-model")))
    answers(of_two_models(tmp_path / "apart"), top=0)
    assert not list(tmp_path.rglob("summary.*"))

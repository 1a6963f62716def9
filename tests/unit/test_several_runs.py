"""`analyzer report RUN RUN ...`: each run's report, and the best configurations over all of them."""

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from analyzer.cli import analyzer
from analyzer.domain.budget import Budget
from analyzer.domain.measurement import Outcome
from analyzer.errors import InputError, NothingMeetsBudgetError, UsageError
from analyzer.model_analyzer.tables import INFERENCE_FILE
from analyzer.several_runs import Anew, report_several
from analyzer.store import RunHeader
from tests.fakes.outcomes import QueueModel, sweep
from tests.fakes.runs import header, write_run

LIGHT = ("html", "csv", "json")
FAST = QueueModel()
MEDIUM = QueueModel(fixed_ms=1, per_item_ms=4, contention=0.05)
SLOW = QueueModel(fixed_ms=30, per_item_ms=4)


def stored(top: Path, model: str, queue: QueueModel = FAST, head: RunHeader | None = None) -> Path:
    outcomes: Sequence[Outcome] = sweep(queue, model=model)
    return write_run(top / model, outcomes, head or header(model))


@pytest.fixture
def two(tmp_path: Path) -> Path:
    stored(tmp_path / "runs", "fast")
    stored(tmp_path / "runs", "medium", MEDIUM)
    return tmp_path / "runs"


def report(*words: str | Path) -> Result:
    return CliRunner().invoke(analyzer, ["report", *map(str, words)], terminal_width=80)


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_folder_of_runs_ends_in_their_reports_and_a_summary_beside_them(two: Path):
    report_several([two], Anew(formats=LIGHT))
    assert {path.name for path in two.iterdir() if path.is_file()} == {"summary.html", "summary.csv", "summary.json"}
    assert all((two / model / "report.html").is_file() for model in ("fast", "medium"))
    links = set(re.findall(r'<a href="([^"]+)"', (two / "summary.html").read_text()))
    assert links == {"fast/report.html", "medium/report.html"}
    assert all((two / link).is_file() for link in links)


def test_the_tables_columns_are_model_analyzers_and_its_rows_the_best_first(two: Path):
    report_several([two / "medium", two / "fast"], Anew(formats=("csv", "model-analyzer"), top_count=3))
    text = (two / "summary.csv").read_text()
    usual = (two / "fast" / "results" / INFERENCE_FILE).read_text()
    assert text.splitlines()[0] == usual.splitlines()[0]
    rates = [float(row["Throughput (infer/sec)"]) for row in table(two / "summary.csv")]
    assert len(rates) == 3
    assert rates == sorted(rates, reverse=True)
    assert all(line in usual for line in text.splitlines() if line.startswith("fast,"))


def test_new_limits_hold_for_every_report_and_for_the_summary(two: Path):
    strict = (Budget(metric="p99_latency_ms", limit=6.0),)
    with pytest.raises(NothingMeetsBudgetError, match=r"^medium: None of"):
        report_several([two], Anew(formats=LIGHT, budgets=strict))
    answer = json.loads((two / "summary.json").read_text())
    assert {row["model"] for row in answer["best"]} == {"fast"}
    (without,) = answer["nothing_met"]
    assert without["model"] == "medium"
    assert without["nearest"]["p99_latency_ms"] > 6
    assert [row["Satisfies Constraints"] for row in table(two / "summary.csv")][-1] == "No"
    assert "No configuration of medium meets the budget: nearest is" in (two / "summary.html").read_text()


def test_runs_with_limits_of_their_own_are_compared_only_under_limits_for_all(two: Path):
    other = header("other", budgets=(Budget(metric="p99_latency_ms", limit=9.0),))
    stored(two, "other", head=other)
    done = report(two, "--formats", "csv")
    assert done.exit_code == 0
    assert "the models are not compared" in done.output
    assert "--latency-budget" in done.output
    assert not (two / "summary.csv").exists()
    with pytest.raises(UsageError, match=r"p99 latency at most 20 ms, and .*other for p99 latency at most 9 ms"):
        report_several([two], Anew(formats=("csv",), top_count=2))
    assert report(two, "--formats", "csv", "--latency-budget", "30").exit_code == 0
    assert (two / "summary.csv").is_file()


def test_two_runs_of_one_model_are_not_mixed(two: Path, tmp_path: Path):
    again = stored(tmp_path / "again", "fast")
    with pytest.raises(UsageError, match="are both runs of fast: name one of them"):
        report_several([two, again], Anew(formats=("csv",), top_count=2))


def test_runs_in_different_places_need_a_place_for_the_summary(two: Path, tmp_path: Path):
    away = stored(tmp_path / "away", "other")
    with pytest.raises(UsageError, match="name one for the summary with --output DIR"):
        report_several([two, away], Anew(formats=("csv",)))
    report_several([two, away], Anew(formats=LIGHT, output=tmp_path / "out"))
    assert 'href="other/report.html"' in (tmp_path / "out" / "summary.html").read_text()
    assert not (away / "report.html").exists()


@pytest.mark.parametrize("flag", ["0", "1", "99"])
def test_as_many_are_listed_as_were_asked_for(two: Path, flag: str):
    assert report(two, "--formats", "csv,json", "--num-top-model-configs", flag).exit_code == 0
    if flag == "0":
        assert not (two / "summary.csv").exists()
        return
    answer = json.loads((two / "summary.json").read_text())
    assert len(answer["best"]) == min(int(flag), answer["kept_count"])


def test_one_run_has_its_report_and_nothing_beside_it(tmp_path: Path):
    run = stored(tmp_path / "runs", "fast")
    assert report(run, "--formats", "csv", "--output", tmp_path / "out").exit_code == 0
    assert (tmp_path / "out" / "measurements.csv").is_file()
    assert not list(tmp_path.rglob("summary.*"))


def test_a_folder_without_runs_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="is no run folder"):
        report_several([tmp_path], Anew())


def test_figures_of_different_machines_are_said_to_be_that(two: Path):
    environment = two / "fast" / "environment.json"
    environment.write_text(environment.read_text().replace("synthetic processor", "faster processor"))
    report_several([two], Anew(formats=("html",)))
    assert "Not all were measured on one machine" in (two / "summary.html").read_text()


def test_models_together_are_one_of_the_models(two: Path):
    head = header("pair")
    spaces = tuple(replace(each, model=name) for each in head.space.models for name in ("pair", "other"))
    stored(two, "pair", SLOW, replace(head, space=replace(head.space, models=spaces)))
    with pytest.raises(NothingMeetsBudgetError, match="pair"):
        report_several([two], Anew(formats=("html", "csv")))
    assert "No configuration of pair and other meets the budget" in (two / "summary.html").read_text()


def test_a_link_to_a_model_with_an_odd_name_is_one(tmp_path: Path):
    for model in ("50 % of #1", "plain"):
        stored(tmp_path / "runs", model)
    report_several([tmp_path / "runs"], Anew(formats=("html",)))
    assert '<a href="50%20%25%20of%20%231/report.html">50 % of #1</a>' in (tmp_path / "runs/summary.html").read_text()

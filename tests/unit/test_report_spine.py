from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from analyzer import report
from analyzer.domain.budget import Budget, Objective
from analyzer.errors import InputError, MissingExtraError, NothingMeetsBudgetError
from tests.fakes.outcomes import sweep
from tests.fakes.runs import typical, write_run

LIGHT = ("csv", "json")


def quiet() -> Console:
    return Console(file=StringIO(), width=80)


def test_a_run_folder_becomes_a_page_and_tables(tmp_path: Path):
    folder = write_run(tmp_path / "run", typical())
    ranking = report.run(folder, formats=("html", *LIGHT), console=quiet())
    assert ranking.recommended.config.server.variants[0].instance_count == 3
    page = (folder / "report.html").read_text()
    assert "instance_group { count: 3 }" in page
    assert "analyzer profile --model-repository models" in page
    assert (folder / "measurements.csv").read_text().startswith("outcome,model,")
    assert not (folder / "report.pdf").exists()


def test_other_budgets_and_objectives_need_no_new_run(tmp_path: Path):
    folder = write_run(tmp_path / "run", typical())
    strict = report.run(folder, budgets=(Budget(metric="p99_latency_ms", limit=8.0),), formats=LIGHT, console=quiet())
    small = report.run(folder, objectives=(Objective(metric="server_memory_mb"),), formats=LIGHT, console=quiet())
    assert strict.recommended != small.recommended
    assert report.run(folder, budgets=(), formats=LIGHT, console=quiet()).misses == ()


def test_the_report_may_lie_elsewhere(tmp_path: Path):
    folder = write_run(tmp_path / "run", sweep(loads=(1, 8)))
    report.run(folder, formats=("csv",), output=tmp_path / "a" / "b", console=quiet())
    assert (tmp_path / "a" / "b" / "measurements.csv").is_file()
    assert not (folder / "measurements.csv").exists()


def test_nothing_within_the_budget_is_written_before_it_is_raised(tmp_path: Path):
    folder = write_run(tmp_path / "run", typical())
    limit = (Budget(metric="p99_latency_ms", limit=1.0),)
    with pytest.raises(NothingMeetsBudgetError, match="None of 61 measured points has p99 latency at most 1 ms"):
        report.run(folder, budgets=limit, formats=LIGHT, console=quiet())
    assert (folder / "report.json").is_file()


def test_a_run_without_measurements_says_so(tmp_path: Path):
    with pytest.raises(NothingMeetsBudgetError, match="Nothing was measured"):
        report.run(write_run(tmp_path / "run", []), formats=LIGHT, console=quiet())


def test_what_is_no_run_folder_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="is no run folder"):
        report.run(tmp_path, console=quiet())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    folder = write_run(tmp_path / "run", sweep(loads=(1,)))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written into"):
        report.run(folder, formats=("csv",), output=tmp_path / "file", console=quiet())


def test_a_pdf_that_cannot_be_made_costs_no_other_format(tmp_path: Path):
    def no_pdf(page: str, path: Path) -> None:
        raise MissingExtraError("the PDF needs weasyprint")

    written, missing = report.write({"html": "<p>", "csv": "a"}, ("html", "csv", "pdf"), tmp_path, no_pdf)
    assert [path.name for path in written] == ["report.html", "measurements.csv"]
    assert isinstance(missing, MissingExtraError)

"""The report of a synthetic run, reproduced to the byte.

After a change that is meant: ``UPDATE_GOLDEN=1 python -m pytest tests/golden`` and read the difference. What did not
match is kept in ``tests/golden/actual``. Charts are left out: their bytes depend on the plotting library's version.
"""

import os
import re
from contextlib import suppress
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from analyzer import report, summary
from analyzer.domain.budget import Budget
from analyzer.errors import NothingMeetsBudgetError
from tests.fakes.outcomes import QueueModel, sweep
from tests.fakes.runs import P99_20, header, typical, write_run

GOLDEN = Path(__file__).parent
CASES = {"found": P99_20, "nothing": (Budget(metric="p99_latency_ms", limit=3.0),)}


@pytest.fixture(scope="module", params=CASES)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = write_run(tmp_path_factory.mktemp("golden") / "run", typical())
    text = StringIO()
    console = Console(file=text, width=80)
    try:
        report.run(folder, budgets=CASES[request.param], formats=("html", "csv", "json"), console=console)
    except NothingMeetsBudgetError as error:
        text.write(f"{error}\n")
    shown = [line.rstrip() for line in text.getvalue().splitlines() if str(folder.parent) not in line]
    page = re.sub(r"<svg.*?</svg>", "<svg></svg>", (folder / "report.html").read_text(), flags=re.DOTALL)
    return {
        f"{request.param}.html": page,
        f"{request.param}.csv": (folder / "measurements.csv").read_text(),
        f"{request.param}.json": (folder / "report.json").read_text(),
        f"{request.param}.txt": "\n".join(shown) + "\n",
    }


@pytest.fixture(scope="module")
def summed_up(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a model that is fast, one that is not, and one that meets no limit."""
    top = tmp_path_factory.mktemp("golden") / "runs"
    queues = {"fast": QueueModel(), "medium": QueueModel(fixed_ms=1, per_item_ms=4), "slow": QueueModel(fixed_ms=30)}
    for model, queue in queues.items():
        write_run(top / model, sweep(queue, model=model), header(model))
        with suppress(NothingMeetsBudgetError):
            report.run(top / model, formats=("html",), console=Console(quiet=True))
    text = StringIO()
    found = summary.of_runs([top / model for model in queues])
    summary.publish(found, top, formats=("html", "csv", "json"), console=Console(file=text, width=80))
    shown = [line.rstrip() for line in text.getvalue().splitlines() if str(top) not in line]
    page = re.sub(r"<svg.*?</svg>", "<svg></svg>", (top / "summary.html").read_text(), flags=re.DOTALL)
    return {
        "summary.html": page,
        "summary.csv": (top / "summary.csv").read_text(),
        "summary.json": (top / "summary.json").read_text(),
        "summary.txt": "\n".join(shown) + "\n",
    }


@pytest.mark.parametrize("suffix", ["html", "csv", "json", "txt"])
def test_the_report_is_reproduced(written: dict[str, str], suffix: str):
    name, text = next((name, text) for name, text in written.items() if name.endswith(suffix))
    check_golden(name, text)


@pytest.mark.parametrize("suffix", ["html", "csv", "json", "txt"])
def test_the_summary_over_several_models_is_reproduced(summed_up: dict[str, str], suffix: str):
    check_golden(f"summary.{suffix}", summed_up[f"summary.{suffix}"])


def check_golden(name: str, text: str) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / name).write_text(text)
    expected = (GOLDEN / name).read_text() if (GOLDEN / name).is_file() else ""
    if text != expected:
        (GOLDEN / "actual").mkdir(exist_ok=True)
        (GOLDEN / "actual" / name).write_text(text)
    assert text == expected, f"compare tests/golden/actual/{name} with tests/golden/{name}"

"""The report of a synthetic run, reproduced to the byte.

After a change that is meant: ``UPDATE_GOLDEN=1 python -m pytest tests/golden`` and read the difference. What did not
match is kept in ``tests/golden/actual``. Charts are left out: their bytes depend on the plotting library's version.
"""

import os
import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from analyzer import report
from analyzer.domain.budget import Budget
from analyzer.errors import NothingMeetsBudgetError
from tests.fakes.runs import P99_20, typical, write_run

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


@pytest.mark.parametrize("suffix", ["html", "csv", "json", "txt"])
def test_the_report_is_reproduced(written: dict[str, str], suffix: str):
    name, text = next((name, text) for name, text in written.items() if name.endswith(suffix))
    if os.environ.get("UPDATE_GOLDEN"):
        (GOLDEN / name).write_text(text)
    expected = (GOLDEN / name).read_text() if (GOLDEN / name).is_file() else ""
    if text != expected:
        (GOLDEN / "actual").mkdir(exist_ok=True)
        (GOLDEN / "actual" / name).write_text(text)
    assert text == expected, f"compare tests/golden/actual/{name} with tests/golden/{name}"

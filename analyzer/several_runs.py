"""Reports of stored runs, one or several, and of several the best configurations over all of them. Needs no server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from analyzer import report, summary
from analyzer.domain.budget import Budget, Objective
from analyzer.errors import MissingExtraError, NothingMeetsBudgetError, UsageError
from analyzer.store import RunFolder


@dataclass(frozen=True, slots=True)
class Anew:
    """What a report of stored runs takes from the command line; None is as the runs were made."""

    objectives: tuple[Objective, ...] | None = None
    budgets: tuple[Budget, ...] | None = None
    price_per_hour: float | None = None
    rules: Mapping[str, float] | None = None
    formats: tuple[str, ...] = tuple(report.FILES)
    output: Path | None = None
    top_count: int | None = None

    @property
    def count(self) -> int:
        return summary.DEFAULT_COUNT if self.top_count is None else self.top_count


def report_runs(folders: list[Path], place: Path, anew: Anew, found: summary.Compared | None) -> None:
    """The report of each run, then the best over all of them, into ``place``.

    A run that has no answer, or a page that can't be made, keeps none of the others from theirs: the first of these
    is raised in the end.
    """
    trouble: list[NothingMeetsBudgetError | MissingExtraError] = []
    for folder in folders:
        try:
            _report(folder, anew, anew.output / folder.resolve().name if anew.output else None)
        except NothingMeetsBudgetError as error:
            trouble.append(NothingMeetsBudgetError(f"{folder.resolve().name}: {error}"))
        except MissingExtraError as error:
            trouble.append(error)
    if found is not None:
        try:
            summary.publish(found, place, count=anew.count, formats=anew.formats)
        except MissingExtraError as error:
            trouble.append(error)
    if trouble:
        raise trouble[0]


def _report(folder: Path, anew: Anew, output: Path | None) -> None:
    report.run(
        folder,
        objectives=anew.objectives,
        budgets=anew.budgets,
        formats=anew.formats,
        output=output,
        price_per_hour=anew.price_per_hour,
        rules=anew.rules,
    )


def compared_runs(folders: list[Path], anew: Anew) -> summary.Compared | None:
    """None where there is nothing to compare, or where it can't be and was not asked for by name: that is said."""
    if len(folders) < 2 or not anew.count:
        return None
    try:
        return summary.of_runs(
            folders,
            objectives=anew.objectives,
            budgets=anew.budgets,
            price_per_hour=anew.price_per_hour,
            output=anew.output,
        )
    except UsageError as error:
        if anew.top_count is not None:
            raise
        click.echo(f"analyzer: the models are not compared: {error}", err=True)
        return None


def report_several(named: Sequence[Path], anew: Anew) -> None:
    """Run folders, or folders that hold some. The summary lies beside them, or in the output folder."""
    runs = list(dict.fromkeys(folder for each in named for folder in run_folders(each) or [each]))
    if len(runs) == 1:
        _report(runs[0], anew, anew.output)
        return
    names = [RunFolder.open(run).path.resolve().name for run in runs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if anew.output is not None and twice is not None:
        raise UsageError(f"two of the runs lie in folders called {twice}: report on them one by one")
    found = compared_runs(runs, anew)
    places = {run.resolve().parent for run in runs}
    if found is not None and anew.output is None and len(places) > 1:
        raise UsageError("the runs lie in different folders: name one for the summary with --output DIR")
    report_runs(runs, anew.output or runs[0].parent, anew, found)


def run_folders(source: Path) -> list[Path]:
    """The folder itself, or those directly in it, by name."""
    if RunFolder.exists(source):
        return [source]
    inside = sorted(source.iterdir()) if source.is_dir() else []
    return [path for path in inside if path.is_dir() and RunFolder.exists(path)]

"""The runs that were asked for, one after another, and then the files that Model Analyzer's users look for."""

from contextlib import suppress
from pathlib import Path

import click

from analyzer import checkpoint_report, profile_runs, results_tree, summary
from analyzer.domain.budget import Budget, Objective
from analyzer.errors import InputError, NothingMeetsBudgetError, UsageError
from analyzer.model_analyzer.requested import ReportRequested, Requested
from analyzer.profile import runs_of
from analyzer.render import words
from analyzer.several_runs import Anew, compared_runs, report_runs, run_folders
from analyzer.store import RunFolder


def run_all(asked: Requested, command: str, *, quiet: bool, verbose: bool) -> None:
    """A run that finds nothing within its limits does not keep the next from its turn."""
    if asked.output is not None:
        results_tree.check_place(asked.output, [model for run in asked.runs for model in run.profile_models])
    nothing: NothingMeetsBudgetError | None = None
    for settings in asked.runs:
        try:
            profile_runs.run_all(settings, command, quiet)
        except NothingMeetsBudgetError as error:
            nothing = error
    folders = [Path(each.run or "runs") for settings in asked.runs for each in runs_of(settings)]
    if verbose:
        _tell_ledgers(folders)
    first = asked.runs[0]
    found = summary.of_runs(folders) if first.num_top_model_configs and len(folders) > 1 else None
    place = folders[0].parent
    if found is not None:
        summary.publish(found, place, count=first.num_top_model_configs, formats=first.formats)
    if asked.output is not None:
        repository = Path(first.model_repository) if first.model_repository else None
        tables = results_tree.write(folders, asked.output, repository)
        if found is not None:
            results_tree.write_across(found, asked.output, place, first.num_top_model_configs)
        if verbose:
            for text in tables.values():
                click.echo(text, nl=False)
    if nothing is not None:
        raise nothing


def show_plans(asked: Requested, command: str) -> None:
    for settings in asked.runs:
        profile_runs.show_plans(settings, command)


def report(named: ReportRequested, command: str) -> None:
    """Reports of configurations by their names, or of models, from checkpoints of either tool."""
    source = Path(named.source)
    objectives = named.settings.objectives if named.settings else None
    budgets = named.settings.budgets if named.settings else None
    if checkpoint_report.takes(source):
        _report_checkpoint(named, source, command, objectives, budgets)
        return
    folders = run_folders(source)
    if not folders:
        raise InputError(f"{source} holds no run folder and no checkpoint; name the folder with --checkpoint-directory")
    if not named.configs:
        _report_models(named, folders, objectives, budgets)
        return
    for name in named.configs:
        written = [
            path
            for folder in folders
            for path in results_tree.detailed(folder, name, named.output.folder, named.formats)
        ]
        if not written:
            known = [known for folder in folders for known in results_tree.names_in(folder)]
            raise UsageError(f"no configuration is called {name}; there are {', '.join(known)}")
        for path in written:
            click.echo(path)


def _report_models(
    named: ReportRequested,
    folders: list[Path],
    objectives: tuple[Objective, ...] | None,
    budgets: tuple[Budget, ...] | None,
) -> None:
    chosen = [folder for folder in folders if not named.models or set(_models(folder)) & set(named.models)]
    missing = set(named.models) - {model for folder in chosen for model in _models(folder)}
    if missing:
        raise UsageError(
            f"{sorted(missing)[0]} was not profiled; there are {', '.join(m for f in folders for m in _models(f))}"
        )
    anew = Anew(
        objectives=objectives,
        budgets=budgets,
        formats=(*named.formats, "csv", "json"),
        top_count=named.top_count,
    )
    found, place = compared_runs(chosen, anew), chosen[0].parent
    with suppress(NothingMeetsBudgetError):
        report_runs(chosen, place, anew, found)
    results_tree.write(chosen, named.output, None, objectives=objectives, budgets=budgets)
    if found is not None:
        results_tree.write_across(found, named.output, place, anew.count)


def _report_checkpoint(
    named: ReportRequested,
    source: Path,
    command: str,
    objectives: tuple[Objective, ...] | None,
    budgets: tuple[Budget, ...] | None,
) -> None:
    output = Path(named.output.folder)
    if not named.configs:
        checkpoint_report.run(
            source, command, objectives=objectives, budgets=budgets, output=output, top_count=named.top_count
        )
        return
    for name in named.configs:
        folder = output / results_tree.DETAILED / name
        with suppress(NothingMeetsBudgetError):
            checkpoint_report.run(
                source, command, objectives=objectives, budgets=budgets, formats=named.formats, output=folder, only=name
            )
        for path in results_tree.renamed(folder, results_tree.DETAILED_FILE):
            click.echo(path)


def _models(folder: Path) -> list[str]:
    return [model.model for model in RunFolder.open(folder).header.space.driven]


def _tell_ledgers(folders: list[Path]) -> None:
    """What became of each candidate, and by which rule."""
    for folder in folders:
        run = RunFolder.open(folder)
        specs = {spec.name: spec for spec in run.header.model_specs}
        for entry in run.ledger():
            click.echo(f"{entry.state}: {words.candidate(entry.candidate, specs)}: {entry.rule}")

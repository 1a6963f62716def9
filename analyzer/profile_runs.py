"""One run a model, or one of several together: each is measured and reported, or only planned."""

from rich.console import Console

from analyzer import profile, report
from analyzer.errors import NothingMeetsBudgetError
from analyzer.executor.make import make_executor
from analyzer.prepare import bases_of
from analyzer.render.plan import print_plan
from analyzer.render.progress import make_progress
from analyzer.search.candidates import roster
from analyzer.settings.declared import ProfileSettings


def run_all(settings: ProfileSettings, command: str, quiet: bool) -> None:
    """Measure and report every run. One that finds nothing within the budget does not keep the next from its turn."""
    nothing: NothingMeetsBudgetError | None = None
    runs = profile.runs_of(settings)
    for each in runs:
        progress = make_progress(each.objectives, each.budgets, each.time_limit_s, quiet)
        folder = profile.run(each, command, progress)
        try:
            report.run(folder.path, formats=each.formats)
        except NothingMeetsBudgetError as error:
            nothing = NothingMeetsBudgetError(f"{each.profile_models[0]}: {error}") if len(runs) > 1 else error
    if nothing is not None:
        raise nothing


def show_plans(settings: ProfileSettings, command: str) -> None:
    """Print what each run would do. Nothing is measured and nothing is written."""
    console = Console(highlight=False)
    for each in profile.runs_of(settings):
        with make_executor(each) as executor:
            planned = profile.plan(each, command, executor)
        specs = {spec.name: spec for spec in planned.header.model_specs}
        found = roster(planned.header.space, bases_of(planned.header))
        name = ", ".join(each.profile_models)
        assert planned.header.effort is not None
        print_plan(
            name,
            planned.header.effort,
            kept=found.kept,
            left_out=found.skipped,
            specs=specs,
            console=console,
            time_limit_s=each.time_limit_s,
        )

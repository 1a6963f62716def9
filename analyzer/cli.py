"""The command line. Commands live in the modules they call; here flags become settings and errors become exit codes."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import click

from analyzer.errors import AnalyzerError
from analyzer.settings.declared import ProfileSettings, ReportSettings
from analyzer.settings.options import Option, Settings, options_of, settings_from
from perf_client.version import __version__

EPILOG = """\b
Exit codes: 0 done, 2 wrong usage, 3 unusable file or folder,
4 an optional part is not installed, 5 server or load generator failed,
6 nothing meets the budget (the report is written), 130 interrupted."""


_SECTIONS = (
    "What is profiled",
    "What is wanted",
    "What is tried",
    "Where it is served",
    "How it is measured",
    "What is written",
    "Other",
)


_NOT_BUDGETS = {"objectives", "output", "formats", "price_per_hour", "rules", "num_top_model_configs"}
"""Options of ``report`` that leave the run's limits as they are."""


class SettingsCommand(click.Command):
    """A command whose options are those of a settings class, shown in their sections."""

    def __init__(self, settings: type[Settings], theirs: str = "", **attributes: Any) -> None:
        super().__init__(**attributes)
        self._sections: dict[str, str] = {}
        section = ""
        for option in options_of(settings):
            section = option.section or section
            self.params.append(_click_option(option))
            self._sections[option.field] = section
        if theirs:
            taken = {name for param in self.params for name in param.opts}
            self.params += list(_flags_of_theirs(theirs, taken))

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        by_section: dict[str, list[tuple[str, str]]] = {}
        for param in (param for param in self.get_params(context) if isinstance(param, click.Option)):
            record = param.get_help_record(context)
            if record is not None:
                by_section.setdefault(self._sections.get(param.name or "", "Other"), []).append(record)
        for section in sorted(by_section, key=_SECTIONS.index):
            with formatter.section(section):
                formatter.write_dl(by_section[section], col_max=27)


def _click_option(option: Option) -> click.Option:
    names = [option.field, *([option.short] if option.short else []), option.flag]
    if option.is_switch:
        return click.Option(names, is_flag=True, default=None, help=option.help)
    text = option.help + ("  [needed]" if option.is_required else _default(option))
    return click.Option(names, metavar=option.metavar, help=text, multiple=option.repeated)


def _flags_of_theirs(command: str, taken: set[str]) -> Iterator[click.Option]:
    """Model Analyzer's flags that we have none for; help leaves them out. A short that both have goes to ours."""
    from analyzer.model_analyzer.keys import KEYS

    for key in KEYS:
        if key.in_files_only or command not in key.on or key.flag in taken:
            continue
        names = [key.name, key.flag, *([key.short] if key.short and key.short not in taken else [])]
        names += ["--always_report-gpu-metrics"] if key.name == "always_report_gpu_metrics" else []
        yield click.Option(names, is_flag=key.is_switch, default=None, hidden=True)


def _default(option: Option) -> str:
    """Defaults that are plain values; the others stand in the help text."""
    if option.default in (None, ()) or option.metavar == "METRIC" or "[" in option.help:
        return ""
    if isinstance(option.default, tuple):
        return f"  [{','.join(map(str, option.default))}]"
    unit = " s" if option.field.endswith("_s") else ""
    return f"  [{option.default:g}{unit}]" if isinstance(option.default, float) else f"  [{option.default}]"


class LazyGroup(click.Group):
    """Imports what a command needs only when that command runs, so that help answers at once."""

    lazy: ClassVar = {
        "serve": ("analyzer.serve", "serve", "Serve a model repository over HTTP and gRPC."),
        "timeline": ("analyzer.timeline_command", "timeline", "Read GPU timelines: where the time went."),
        "zoo": ("analyzer.zoo.command", "zoo", "Build ready model repositories to try things on."),
    }

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Model Analyzer's ``analyze``: a report of models in its older form, else another word for profile."""
        if args[:1] == ["analyze"]:
            is_older = any(word.startswith("--analysis-models") for word in args)
            args = ["report" if is_older else "profile", *args[1:]]
        return super().resolve_command(context, args)

    def list_commands(self, context: click.Context) -> list[str]:
        return ["profile", "report", "serve", "timeline", "zoo"]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in self.lazy:
            return super().get_command(context, name)
        module, attribute, _ = self.lazy[name]
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        rows = []
        for name in self.list_commands(context):
            text = self.lazy[name][2] if name in self.lazy else self.commands[name].get_short_help_str(60)
            rows.append((name, text))
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="analyzer")
@click.option("-m", "--mode", type=click.Choice(["online", "offline"]), hidden=True)
def analyzer(mode: str | None) -> None:
    """Find the serving configuration of a model that meets a latency and memory budget, by measuring it."""


@analyzer.command(
    cls=SettingsCommand,
    settings=ProfileSettings,
    theirs="profile",
    short_help="Measure a model, report what to deploy.",
    epilog="The flags of Triton Model Analyzer's profile, and its files, are taken too.",
)
@click.option("-f", "--config-file", type=click.Path(path_type=Path), help="Settings as YAML; flags win over it.")
@click.option("-q", "--quiet", is_flag=True, help="Draw no progress.")
@click.option("-v", "--verbose", is_flag=True, help="Tell what became of each configuration.")
def profile(config_file: Path | None, quiet: bool, verbose: bool, **flags: object) -> None:
    """Measure a model over server configurations and loads, then report what to deploy."""
    _profile(config_file, _given(flags), quiet=quiet, verbose=verbose)


def _profile(config_file: Path | None, given: dict[str, object], *, quiet: bool, verbose: bool) -> None:
    from analyzer.cores import import_numpy_alone

    import_numpy_alone()
    from analyzer.model_analyzer.requested import profile_requested

    asked = profile_requested(config_file, given)
    for note in asked.notes:
        click.echo(f"analyzer: {note}", err=True)
    from analyzer import requested_runs as spine

    command = shlex.join(["analyzer", *sys.argv[1:]])
    if any(settings.dry_run for settings in asked.runs):
        spine.show_plans(asked, command)
    else:
        spine.run_all(asked, command, quiet=quiet, verbose=verbose)


@analyzer.command(
    cls=SettingsCommand,
    settings=ReportSettings,
    theirs="report",
    short_help="Rank and report a run folder again.",
    epilog="-n CONFIGS with -s DIR and -e DIR reports on configurations, as Triton Model Analyzer's report does.",
)
@click.argument("runs", metavar="[RUN]...", type=click.Path(path_type=Path), nargs=-1)
@click.option("-f", "--config-file", type=click.Path(path_type=Path), hidden=True)
@click.option("-q", "--quiet", is_flag=True, hidden=True)
@click.option("-v", "--verbose", is_flag=True, hidden=True)
def report(runs: tuple[Path, ...], config_file: Path | None, quiet: bool, verbose: bool, **flags: object) -> None:
    """Rank and report a run folder again, with other budgets and objectives if given. Needs no server.

    Of several runs, or of the folder that holds them, the best configurations over all models are listed, too. RUN may
    also be a checkpoint of Triton Model Analyzer: N.ckpt, or the folder that holds it.
    """
    from analyzer.model_analyzer.requested import report_requested

    given = _given(flags)
    named = report_requested(runs[0] if runs else None, config_file, given)
    for note in named.notes:
        click.echo(f"analyzer: {note}", err=True)
    if named.is_theirs and len(runs) > 1:
        raise click.UsageError("with the options of Model Analyzer's report one folder is given: that of the runs")
    if named.is_theirs:
        from analyzer import requested_runs

        requested_runs.report(named, shlex.join(["analyzer", *sys.argv[1:]]))
        return
    if not runs:
        raise click.MissingParameter(param_hint="RUN", param_type="argument")
    _report(runs, given)


def _report(runs: tuple[Path, ...], given: dict[str, object]) -> None:
    settings = settings_from(ReportSettings, None, given)
    from analyzer import checkpoint_report
    from analyzer.several_runs import Anew, report_several

    objectives = settings.objectives if "objectives" in given else None
    budgets = settings.budgets if given.keys() - _NOT_BUDGETS else None
    output = Path(settings.output) if settings.output else None
    if len(runs) == 1 and checkpoint_report.takes(runs[0]):
        formats = settings.formats if "formats" in given else checkpoint_report.FORMATS
        command = shlex.join(["analyzer", *sys.argv[1:]])
        checkpoint_report.run(
            runs[0],
            command,
            objectives=objectives,
            budgets=budgets,
            formats=formats,
            output=output,
            top_count=settings.num_top_model_configs,
        )
        return
    anew = Anew(
        objectives=objectives,
        budgets=budgets,
        price_per_hour=settings.price_per_hour,
        rules=settings.rules if "rules" in given else None,
        formats=settings.formats,
        output=output,
        top_count=settings.num_top_model_configs,
    )
    report_several(runs, anew)


def _given(flags: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in flags.items() if value not in (None, ())}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit. A user's mistake becomes a sentence on stderr and the exit code that errors.py lists."""
    try:
        code = analyzer.main(arguments, prog_name="analyzer", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = _fail("interrupted; what was measured is kept, and the same command goes on from there", 130)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except AnalyzerError as error:
        code = _fail(str(error), error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> int:
    for line in message.splitlines():
        click.echo(f"analyzer: {line}", err=True)
    return code

"""``analyzer timeline import|analyze|diff|export``."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from textwrap import wrap

import click
import msgspec

from analyzer.domain.thresholds import thresholds
from analyzer.errors import InputError
from analyzer.measured_point import point_of
from analyzer.settings.rule_limits import rule_limits
from analyzer.settings.values import milliseconds
from analyzer.timeline import archive, import_any, window
from analyzer.timeline.analyses.diff import diff
from analyzer.timeline.findings_text import diagnosis_lines
from analyzer.timeline.rules.case import Case
from analyzer.timeline.rules.diagnose import diagnose
from analyzer.timeline.summary import summarize
from analyzer.timeline.table import Timeline
from analyzer.timeline.text import WIDTH, diff_lines, summary_lines

_DEFAULT_FORMAT = "perfetto"
WRITERS: dict[str, tuple[str, str]] = {
    _DEFAULT_FORMAT: ("analyzer.timeline.export_perfetto", "write"),
    "chrome": ("analyzer.timeline.export_chrome", "write"),
    "nsys-sqlite": ("analyzer.timeline.export_nsight", "write"),
    "nvtxt": ("analyzer.timeline.export_nvtxt", "write"),
    "nsys-rep": ("analyzer.timeline.export_nsight_report", "write"),
}
"""Formats of ``export``: module and function, which takes a timeline and the path to write. Imported when asked for."""

_NO_RUN = "Only the capture is known. With --run the rules also know queues, limits of the models and GPU counters."
_CAPTURE = click.Path(path_type=Path)
_COUNT = click.option("--top", type=click.IntRange(1), default=5, metavar="N", help="Rows of each table.  [5]")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print everything as JSON instead, times in ns.")


def _duration_ns(context: click.Context, option: click.Parameter, text: str) -> int:
    try:
        return round(milliseconds(text) * 1e6)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


def _limits(context: click.Context, option: click.Parameter, texts: tuple[str, ...]) -> dict[str, float]:
    try:
        return rule_limits(texts)
    except ValueError as error:
        raise click.BadParameter(str(error), context, option) from None


@click.group()
def timeline() -> None:
    """Read timelines of any profiler, see where the time went, compare two of them.

    \b
    CAPTURE may be what these write; its content tells which it is:
      Nsight Systems    SQLite or JSON Lines export; .nsys-rep if nsys is on PATH
      torch.profiler    Chrome trace JSON, plain or gzipped
      ONNX Runtime      the JSON of enable_profiling
      analyzer          .timeline
    """


@timeline.command("import")
@click.argument("capture", type=_CAPTURE)
@click.option("-o", "--output", type=_CAPTURE, metavar="FILE", help="Where to write it.  [CAPTURE with .timeline]")
def import_capture(capture: Path, output: Path | None) -> None:
    """Convert a capture to the analyzer's own file.

    It is small and quick to load, and holds no environment and no command lines.
    """
    read = _read(capture)
    target = output or capture.with_suffix(archive.SUFFIX)
    if target.resolve() == capture.resolve():
        raise InputError(f"{capture} would be overwritten by itself; choose another place with --output")
    archive.save(read, target)
    for warning in read.meta.warnings:
        click.echo(f"analyzer: {warning}", err=True)
    click.echo(f"{target}: {len(read):,} events")


@timeline.command()
@click.argument("capture", type=_CAPTURE)
@click.option(
    "--gap-floor",
    "gap_floor_ns",
    callback=_duration_ns,
    default="50us",
    metavar="TIME",
    help="Shortest gap of a GPU to list, such as 100us.  [50us]",
)
@click.option("--within", metavar="NAME", help="Only from the first event of this name to the end of the last.")
@click.option("--request", "requests", type=int, multiple=True, metavar="ID", help="Show the critical path of it.")
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Run folder of the measurement that CAPTURE belongs to.  [the folder that CAPTURE lies in]",
)
@click.option(
    "--rule",
    "limits",
    callback=_limits,
    multiple=True,
    metavar="RULE.LIMIT=N",
    help="Limit at which a rule fires, such as R1.gap_us=200.",
)
@_COUNT
@_JSON
def analyze(  # noqa: PLR0917  # one parameter an option
    capture: Path,
    gap_floor_ns: int,
    within: str | None,
    requests: tuple[int, ...],
    run: Path | None,
    limits: dict[str, float],
    top: int,
    as_json: bool,
) -> None:
    """Say where the time went, and what holds it back.

    Busy and idle by cause, gaps, kernels, copies, ranges, stages, batches, one request piece by piece; then the rules.
    Of a timeline that a run collected, the counted part is told, and the rules know its measurement.
    """
    point = point_of(capture, run)
    read = _read(capture) if point is None else point.timeline or _read(capture)
    read = read if within is None else window.within(read, *window.extent(read, within))
    found = summarize(read, str(capture), gap_floor_ns, max(top, 50), requests)
    told = diagnose(Case(timeline=read), thresholds(limits)) if point is None else point.diagnosis(read, limits)
    if as_json:
        whole = msgspec.to_builtins(found) | {"rules": told}
        click.echo(msgspec.json.format(msgspec.json.encode(whole), indent=1))
    else:
        beside = _NO_RUN if point is None else f"Figures and settings are those of {point.name}."
        lines = [*summary_lines(found, top), *diagnosis_lines(told), "", *wrap(beside, WIDTH)]
        click.echo("\n".join(lines))


@timeline.command("diff")
@click.argument("a", type=_CAPTURE)
@click.argument("b", type=_CAPTURE)
@click.option(
    "--per",
    metavar="NAME[,NAME]",
    default="",
    help="Totals are of one range of this name, in A and in B.  [a request, where both captures know theirs]",
)
@_COUNT
@_JSON
def compare(a: Path, b: Path, per: str, top: int, as_json: bool) -> None:
    """Compare two captures, kernel by kernel and range by range.

    Such as those of another build, backend or serving system. Requests, batches, steps and stages of our own timelines
    bear the names of the server's NVTX ranges, such as resnet50:compute_infer.
    """
    name_a, _, name_b = per.partition(",")
    found = diff(_read(a), _read(b), (name_a, name_b or name_a) if per else None)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=1))
    else:
        click.echo("\n".join(diff_lines(found, str(a), str(b), top)))


@timeline.command()
@click.argument("capture", type=_CAPTURE)
@click.option(
    "--format",
    "name",
    type=click.Choice(list(WRITERS)),
    default=_DEFAULT_FORMAT,
    help=f"Which format to write.  [{_DEFAULT_FORMAT}]",
)
@click.option("-o", "--output", type=_CAPTURE, required=True, metavar="FILE", help="Where to write it.")
def export(capture: Path, name: str, output: Path) -> None:
    """Write a timeline in a format that other tools open.

    \b
      perfetto      ui.perfetto.dev, trace_processor: tracks, arrows, counters
      chrome        Chrome trace JSON as PyTorch's profiler writes it
      nsys-sqlite   tables of an Nsight Systems export, and our own beside them
      nvtxt         text for Nsight's ImportNvtxt: ranges and marks
      nsys-rep      a report, written by an installed Nsight Systems
    """
    module, attribute = WRITERS[name]
    write: Callable[[Timeline, Path], None] = getattr(import_module(module), attribute)
    write(_read(capture), output)
    click.echo(str(output))


def _read(capture: Path) -> Timeline:
    read = import_any.read(capture)
    if not len(read):
        raise InputError(f"{capture} has no events; capture again while the server is under load")
    return read

"""From a run folder to an answer: load, rank, view, write. Needs no server and reads nothing but the folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from analyzer.diagnosed import diagnoses, timeline_of
from analyzer.domain.budget import Budget, Objective
from analyzer.domain.ledger import LedgerEntry, completed
from analyzer.domain.measurement import Measurement, Outcome
from analyzer.domain.ranking import Ranking
from analyzer.domain.thresholds import thresholds
from analyzer.errors import InputError, MissingExtraError, NothingMeetsBudgetError
from analyzer.measurable import check_models, check_price
from analyzer.model_analyzer.from_run import as_checkpoint, server_only
from analyzer.model_analyzer.tables import csv_tables
from analyzer.rank.rank import rank
from analyzer.render import html, ledger, pdf, tables
from analyzer.render.charts import draw
from analyzer.render.console import print_summary
from analyzer.render.context import RunContext
from analyzer.render.page import make_view, subject
from analyzer.render.view import Charts
from analyzer.store import RunFolder

FILES = {"html": "report.html", "csv": "measurements.csv", "json": "report.json", "pdf": "report.pdf"}
"""What each format is written to, in the order of writing: the PDF, which needs an extra, comes last."""

TABLES_FORMAT, TABLES_FOLDER = "model-analyzer", "results"
"""Model Analyzer's tables lie where it puts them, so that scripts which look for them find them."""

LEDGER_FILE = "ledger.csv"

_MEND = "Raise the limit, or measure more configurations or lighter loads."


def run(
    folder: Path,
    *,
    objectives: Sequence[Objective] | None = None,
    budgets: Sequence[Budget] | None = None,
    formats: Sequence[str] = tuple(FILES),
    output: Path | None = None,
    console: Console | None = None,
    price_per_hour: float | None = None,
    rules: Mapping[str, float] | None = None,
) -> Ranking:
    """Write the report and print the answer.

    Objectives, budgets, limits of rules and the price of a device are those of the run unless given anew.

    Raises NothingMeetsBudgetError, with everything written and printed, where no measured point can be recommended.
    """
    stored = RunFolder.open(folder)
    outcomes = stored.outcomes(price_per_hour)
    wanted = stored.header.objectives if objectives is None else objectives
    allowed = stored.header.budgets if budgets is None else budgets
    check_models(wanted, allowed, [model.model for model in stored.header.space.driven])
    check_price(wanted, allowed, stored.price_per_hour if price_per_hour is None else price_per_hour)
    ranking = rank(outcomes, wanted, allowed)
    limits = stored.header.settings.get("rules", {}) if rules is None else rules
    context = diagnosed(context_of(stored), stored, ranking, limits)
    place = output or folder
    wants_tables, idle = TABLES_FORMAT in formats, server_only(stored.environment)
    made = csv_tables(*as_checkpoint(outcomes, ranking, context.specs, idle)) if wants_tables else {}
    also = write_beside(made, place / TABLES_FOLDER)
    if "csv" in formats and context.ledger:
        also += write_beside({LEDGER_FILE: ledger.csv_text(context.ledger)}, place)
    served = stored.served(ranking.recommended.config.server) if ranking.recommended else None
    return publish(outcomes, ranking, context, formats=formats, folder=place, also=also, console=console, served=served)


def publish(
    outcomes: Sequence[Outcome],
    ranking: Ranking,
    context: RunContext,
    *,
    formats: Sequence[str],
    folder: Path,
    also: Sequence[Path] = (),
    console: Console | None = None,
    served: Path | None = None,
) -> Ranking:
    """Write and print one answer. ``also`` are files already written that belong to it, ``served`` the folder of the
    recommended configuration.
    """
    has_page = not {"html", "pdf"}.isdisjoint(formats)
    view = make_view(ranking, context, draw(ranking, context.specs, context.timeline) if has_page else Charts())
    texts = {
        "html": html.render(view) if has_page else "",
        "csv": tables.csv_text(outcomes, ranking),
        "json": tables.json_text(outcomes, ranking, context),
    }
    written, missing = write(texts, formats, folder)
    print_summary(view, [*written, *also], console or Console(highlight=False), served)
    if ranking.recommended is None:
        raise NothingMeetsBudgetError(f"{ranking.reasons[0]} {_MEND}" if ranking.misses else ranking.reasons[0])
    if missing is not None:
        raise missing
    return ranking


def write(
    texts: Mapping[str, str],
    formats: Sequence[str],
    folder: Path,
    write_pdf: Callable[[str, Path], None] = pdf.write,
    *,
    files: Mapping[str, str] = FILES,
    printed: str = "",
) -> tuple[list[Path], MissingExtraError | None]:
    """Each format in turn. A PDF that can't be made costs none of the others; its error is handed back.

    ``printed`` is the page for the PDF where it is another.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (name for name in texts if name in formats):
            (folder / files[name]).write_text(texts[name], encoding="utf-8")
            written.append(folder / files[name])
        if "pdf" in formats:
            write_pdf(printed or texts["html"], folder / files["pdf"])
            written.append(folder / files["pdf"])
    except OSError as error:
        raise InputError(
            f"the report can't be written into {folder} ({error.strerror}); name another folder"
        ) from error
    except MissingExtraError as error:
        return written, error
    return written, None


def write_beside(texts: Mapping[str, str], place: Path) -> list[Path]:
    """Tables by file name: Model Analyzer's, and the ledger."""
    try:
        if texts:
            place.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (place / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"the tables can't be written into {place} ({error.strerror}); name another folder") from error
    return [place / name for name in texts]


def diagnosed(context: RunContext, stored: RunFolder, ranking: Ranking, limits: Mapping[str, float]) -> RunContext:
    """With what the rules say of each point, and the timeline of the one that the page is about."""
    about = subject(ranking)
    every: list[Measurement] = [*ranking.points, *(excluded.measurement for excluded in ranking.excluded)]
    return replace(
        context,
        diagnoses=diagnoses(stored, ranking.points, every, thresholds(limits)),
        timeline=None if about is None else timeline_of(stored, about),
    )


def context_of(stored: RunFolder) -> RunContext:
    """What the page shows of a run beside its outcomes."""
    header = stored.header
    return RunContext(
        name=stored.path.resolve().name,
        model=" and ".join(model.model for model in header.space.driven),
        model_specs=header.model_specs,
        command=header.command,
        started_at=header.started_at,
        tool_version=header.tool_version,
        config_text=stored.config_text,
        settings=header.settings,
        environment=stored.environment,
        ledger=_ledger_of(stored),
        costs=stored.costs(),
    )


def _ledger_of(stored: RunFolder) -> tuple[LedgerEntry, ...]:
    """With what was measured since it was written, of the models as they are now."""
    outcomes = stored.outcomes()
    return completed(stored.ledger(), (each for each in outcomes if each.config.content == stored.header.content))

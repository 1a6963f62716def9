"""The best configurations over several models: from their run folders, or a checkpoint, to one page and its tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.figures import limits
from analyzer.errors import UsageError
from analyzer.model_analyzer.from_run import as_checkpoint, server_only
from analyzer.model_analyzer.records import Checkpoint, Configuration, Point
from analyzer.model_analyzer.tables import Entry, listed
from analyzer.rank.across import Across, OwnAnswer, rank_across
from analyzer.rank.rank import rank
from analyzer.render import html, summary
from analyzer.render.console import print_across
from analyzer.render.page import objectives_told
from analyzer.render.summary_chart import fronts
from analyzer.render.words import Specs
from analyzer.report import FILES, write
from analyzer.store import RunFolder

DEFAULT_COUNT = 5
"""Configurations that are listed unless a number is given."""

STEM = "summary"
FORMATS = tuple(FILES)

RowOf = Callable[[str], tuple[Configuration, Point]]


@dataclass(frozen=True, slots=True)
class Profiled:
    """One model. ``folder`` has its report; ``row_of`` gives what Model Analyzer would have kept of a point, by key."""

    answer: OwnAnswer
    specs: Specs
    folder: Path
    row_of: RowOf
    gpu_count: int
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """Several models under limits and objectives that hold for all."""

    models: tuple[Profiled, ...]
    across: Across

    @property
    def specs(self) -> dict[str, Specs]:
        return {each.answer.model: each.specs for each in self.models}


def compared(models: Sequence[Profiled], objectives: Sequence[Objective], budgets: Sequence[Budget]) -> Compared:
    return Compared(tuple(models), rank_across([each.answer for each in models], objectives, budgets))


def of_runs(
    folders: Sequence[Path],
    *,
    objectives: Sequence[Objective] | None = None,
    budgets: Sequence[Budget] | None = None,
    price_per_hour: float | None = None,
    output: Path | None = None,
) -> Compared:
    """From stored runs. What is not given anew must be the same in all of them. Raises UsageError.

    ``output`` is where the reports were written if not into the run folders.
    """
    runs = [RunFolder.open(folder) for folder in folders]
    first = runs[0]
    for run in runs[1:]:
        _check_same(first, run, has_objectives=objectives is not None, has_budgets=budgets is not None)
    wanted = first.header.objectives if objectives is None else objectives
    allowed = first.header.budgets if budgets is None else budgets
    _check_apart(runs)
    models = [
        _profiled(
            run, wanted, allowed, price_per_hour, run.path if output is None else output / run.path.resolve().name
        )
        for run in runs
    ]
    return compared(models, wanted, allowed)


def _check_same(first: RunFolder, other: RunFolder, *, has_objectives: bool, has_budgets: bool) -> None:
    one, two = first.header, other.header
    if not has_budgets and one.budgets != two.budgets:
        told = f"{limits(one.budgets) or 'no limit'}, and {other.path} for {limits(two.budgets) or 'no limit'}"
        raise UsageError(
            f"{first.path} was searched for {told}: give limits that hold for all, such as --latency-budget 20ms"
        )
    if not has_objectives and one.objectives != two.objectives:
        told = f"{objectives_told(one.objectives)}, and {other.path} for {objectives_told(two.objectives)}"
        raise UsageError(
            f"{first.path} was searched for the {told}: give what counts for all, such as --objectives throughput"
        )


def _check_apart(runs: Iterable[RunFolder]) -> None:
    seen: dict[str, Path] = {}
    for run in runs:
        before = seen.setdefault(_name(run), run.path)
        if before != run.path:
            raise UsageError(f"{before} and {run.path} are both runs of {_name(run)}: name one of them")


def _name(run: RunFolder) -> str:
    return " and ".join(model.model for model in run.header.space.driven)


def _profiled(
    run: RunFolder, objectives: Sequence[Objective], budgets: Sequence[Budget], price: float | None, folder: Path
) -> Profiled:
    outcomes = tuple(run.outcomes(price))
    ranking = rank(outcomes, objectives, budgets)
    specs = {spec.name: spec for spec in run.header.model_specs}
    idle = server_only(run.environment)
    checkpoint, _, _ = as_checkpoint(outcomes, ranking, specs, idle)
    rows = {point.key: (configuration, point) for configuration, point in _points(checkpoint)}
    return Profiled(
        answer=OwnAnswer(model=_name(run), outcomes=outcomes, ranking=ranking),
        specs=specs,
        folder=folder,
        row_of=rows.__getitem__,
        gpu_count=len(idle),
        machine=_machine(run.environment),
    )


def _points(checkpoint: Checkpoint) -> Iterable[tuple[Configuration, Point]]:
    return ((each, point) for each in checkpoint.configurations for point in each.points)


def _machine(environment: Mapping[str, Any]) -> str:
    """What makes figures comparable: the processor and the devices."""
    gpus = [gpu if isinstance(gpu, str) else str(gpu.get("name", "")) for gpu in environment.get("gpus") or []]
    return ", ".join(filter(None, [str(environment.get("cpu") or ""), *gpus]))


def publish(
    found: Compared,
    folder: Path,
    *,
    count: int = DEFAULT_COUNT,
    formats: Sequence[str] = FORMATS,
    console: Console | None = None,
) -> None:
    """Write ``summary.*`` into the folder and print it. Raises MissingExtraError after all that can be written is."""
    wanted = [name for name in formats if name in FORMATS]
    chart = fronts([each.answer for each in found.models]) if not {"html", "pdf"}.isdisjoint(wanted) else ""
    paths = {each.answer.model: _link(each.folder / FILES["html"], folder) for each in found.models}
    page = _page(found, count, chart, lambda model: paths[model])
    texts = {"html": page, "csv": _csv(found, count), "json": summary.json_text(found.across, count)}
    files = {name: f"{STEM}{Path(usual).suffix}" for name, usual in FILES.items()}
    # A PDF is handed on alone: a link in it to a file beside it would lead nowhere.
    written, missing = write(texts, wanted, folder, files=files, printed=_page(found, count, chart, lambda _: ""))
    shown = summary.make_summary(found.across, found.specs, count, lambda _: "", doubts=_doubts(found))
    print_across(shown, written, console or Console(highlight=False))
    if missing is not None:
        raise missing


def page(found: Compared, count: int, link_to: summary.LinkTo) -> str:
    """The page alone, with other links."""
    return _page(found, count, fronts([each.answer for each in found.models]), link_to)


def _page(found: Compared, count: int, chart: str, link_to: summary.LinkTo) -> str:
    return html.render(
        summary.make_summary(found.across, found.specs, count, link_to, chart=chart, doubts=_doubts(found))
    )


def _link(report: Path, folder: Path) -> str:
    """As the summary's page sees it; empty where there is no such page below it."""
    try:
        place = report.resolve().relative_to(folder.resolve())
    except ValueError:
        return ""
    return quote(place.as_posix()) if report.is_file() else ""


def _doubts(found: Compared) -> tuple[str, ...]:
    machines = {each.machine: each.answer.model for each in found.models if each.machine}
    if len(machines) < 2:
        return ()
    (one, first), (other, second) = list(machines.items())[:2]
    return (f"Not all were measured on one machine: {first} on {one}, {second} on {other}.",)


def _csv(found: Compared, count: int) -> str:
    """The best, then the nearest miss of each model that has nothing better, in Model Analyzer's columns."""
    owners = {each.answer.model: each for each in found.models}
    chosen = [(place.model, place.measurement, True) for place in found.across.ordered[:count]]
    for answer in found.across.without:
        chosen += [(answer.model, miss.measurement, False) for miss in answer.ranking.misses[:1]]
    return listed(
        [
            Entry(*owners[model].row_of(m.config.key), is_kept=kept, gpu_count=owners[model].gpu_count)
            for model, m, kept in chosen
        ]
    )

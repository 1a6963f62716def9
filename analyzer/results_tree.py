"""The files of Model Analyzer, where it puts them, made of runs of ours.

results/*.csv, reports/summaries/MODEL/result_summary.*, reports/detailed/CONFIG/detailed_report.*, and a model
repository that holds every variant under its name.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from urllib.parse import quote

import msgspec
from google.protobuf import text_format
from rich.console import Console
from tritonclient.grpc.model_config_pb2 import ModelConfig

from analyzer import report, summary
from analyzer.domain.budget import Budget, Objective
from analyzer.errors import InputError, MissingExtraError, NothingMeetsBudgetError, UsageError
from analyzer.model_analyzer.from_run import NamedVariants, as_checkpoint, named_variants, server_only
from analyzer.model_analyzer.order import Satisfies, ordered_points
from analyzer.model_analyzer.output import Output
from analyzer.model_analyzer.records import Checkpoint, Configuration, Point
from analyzer.model_analyzer.tables import GPU_FILE, INFERENCE_FILE, SERVER_FILE, csv_tables
from analyzer.rank.rank import rank
from analyzer.store import RunFolder

SUMMARIES, DETAILED = "reports/summaries", "reports/detailed"
ACROSS = "Best Configs Across All Models"
SUMMARY_FILE, DETAILED_FILE = "result_summary", "detailed_report"
_PAGES = ("html", "pdf")


def check_place(output: Output, models: Sequence[str]) -> None:
    """Refuses, before anything is measured, a repository of variants that holds some already."""
    if not output.variants or output.may_override:
        return
    there = [path for model in models for path in Path(output.variants).glob(f"{model}_config_*")]
    if there:
        raise UsageError(
            f"{there[0]} is there already: name another --output-model-repository-path, or give "
            "--override-output-model-repository"
        )


def write(
    folders: Sequence[Path],
    output: Output,
    repository: Path | None,
    *,
    objectives: Sequence[Objective] | None = None,
    budgets: Sequence[Budget] | None = None,
) -> dict[str, str]:
    """All that ``output`` asks for; returns the tables by file name. ``repository`` has the models' files."""
    runs = [RunFolder.open(folder) for folder in folders]
    checkpoint, satisfies, weights = _together(runs, objectives, budgets)
    tables = csv_tables(checkpoint, satisfies, weights, output.fields, with_empty=True)
    names = {INFERENCE_FILE: output.inference_file, GPU_FILE: output.gpu_file, SERVER_FILE: output.server_file}
    renamed_tables = {names[name]: text for name, text in tables.items()}
    top = Path(output.folder)
    report.write_beside(renamed_tables, top / report.TABLES_FOLDER)
    for run in runs:
        own = [configuration for configuration in checkpoint.configurations if configuration.model == _models_of(run)]
        if output.has_summary:
            _copy_summary(run, top)
        if output.has_detailed:
            best = _best(checkpoint, own, satisfies, weights)
            for name in best[: output.configs_per_model]:
                formats = [page for page in _PAGES if (run.path / report.FILES[page]).is_file()]
                detailed(run.path, name, output.folder, formats)
        if output.variants:
            _write_variants(run, Path(output.variants), repository)
    return renamed_tables


def _together(
    runs: Sequence[RunFolder], objectives: Sequence[Objective] | None, budgets: Sequence[Budget] | None
) -> tuple[Checkpoint, Satisfies, dict[str, float]]:
    """All runs as one checkpoint: tables list the models one after another."""
    made = []
    for run in runs:
        outcomes = run.outcomes()
        wanted = run.header.objectives if objectives is None else objectives
        ranking = rank(outcomes, wanted, run.header.budgets if budgets is None else budgets)
        specs = {spec.name: spec for spec in run.header.model_specs}
        made.append(as_checkpoint(outcomes, ranking, specs, server_only(run.environment)))
    tests = [satisfies for _, satisfies, _ in made]

    def satisfies(configuration: Configuration, point: Point) -> bool:
        return all(test(configuration, point) for test in tests)

    configurations = tuple(each for checkpoint, _, _ in made for each in checkpoint.configurations)
    return Checkpoint(configurations=configurations, server_only=made[0][0].server_only, gpus={}), satisfies, made[0][2]


def _best(
    checkpoint: Checkpoint, own: Sequence[Configuration], satisfies: Satisfies, weights: dict[str, float]
) -> list[str]:
    only = msgspec.structs.replace(checkpoint, configurations=tuple(own))
    points = ordered_points(only, satisfies, weights)
    return list(dict.fromkeys(configuration.name for configuration, _, _ in points))


def _models_of(run: RunFolder) -> str:
    return ",".join(model.model for model in run.header.space.driven)


def _copy_summary(run: RunFolder, top: Path) -> None:
    place = top / SUMMARIES / _models_of(run)
    with _writing(place):
        for page in _PAGES:
            source = run.path / report.FILES[page]
            if source.is_file():
                place.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, place / f"{SUMMARY_FILE}.{page}")


def write_across(found: summary.Compared, output: Output, source: Path, count: int) -> None:
    """The best over all models, where Model Analyzer puts it. The other formats lie in ``source``."""
    place = Path(output.folder) / SUMMARIES / ACROSS
    if not output.has_summary:
        return

    def link_to(model: str) -> str:
        own = Path("..") / model.replace(" and ", ",") / f"{SUMMARY_FILE}.html"
        return quote(own.as_posix()) if (place / own).is_file() else ""

    with _writing(place):
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{SUMMARY_FILE}.html").write_text(summary.page(found, count, link_to), encoding="utf-8")
        printed = source / f"{summary.STEM}.pdf"
        if printed.is_file():
            shutil.copyfile(printed, place / f"{SUMMARY_FILE}.pdf")


def names_in(folder: Path) -> list[str]:
    return [named.name for named in named_variants(RunFolder.open(folder).outcomes()).values()]


def detailed(folder: Path, name: str, top: str, formats: Sequence[str]) -> list[Path]:
    """The report of one configuration of a run by its name; nothing where the run has none of that name."""
    run = RunFolder.open(folder)
    outcomes = run.outcomes()
    keys = [key for key, named in named_variants(outcomes).items() if named.name == name]
    if not keys:
        return []
    own = [outcome for outcome in outcomes if outcome.config.server.key in keys]
    ranking = rank(own, run.header.objectives, run.header.budgets)
    context = report.context_of(run)
    place = Path(top) / DETAILED / name
    with suppress(NothingMeetsBudgetError, MissingExtraError):
        report.publish(own, ranking, context, formats=formats, folder=place, console=Console(file=StringIO()))
    return renamed(place, DETAILED_FILE)


def renamed(folder: Path, name: str) -> list[Path]:
    """The pages of a folder under the name that Model Analyzer gives them."""
    found = [(page, folder / report.FILES[page]) for page in _PAGES]
    return [path.replace(folder / f"{name}.{page}") for page, path in found if path.is_file()]


def _write_variants(run: RunFolder, top: Path, repository: Path | None) -> None:
    written: set[str] = set()
    for named in named_variants(run.outcomes()).values():
        for name, model, text in _configs(named, run.config_text):
            if name in written or not text:
                continue
            written.add(name)
            _write_variant(top / name, name, text, None if repository is None else repository / model)


def _configs(named: NamedVariants, text_of: Callable[..., str]) -> Iterator[tuple[str, str, str]]:
    for name, variant in (*named.driven, *named.called):
        yield name, variant.model, text_of(named.server, variant.model)


def _write_variant(folder: Path, name: str, text: str, source: Path | None) -> None:
    """The files of the model are linked, not copied."""
    config = text_format.Parse(text, ModelConfig())
    config.name = name
    with _writing(folder):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        (folder / "config.pbtxt").write_text(text_format.MessageToString(config))
        for entry in source.iterdir() if source is not None else ():
            if entry.name != "config.pbtxt":
                (folder / entry.name).symlink_to(entry.resolve())


@contextmanager
def _writing(place: Path) -> Iterator[None]:
    """What goes wrong on the disk is told with the place."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{place} can't be written ({error.strerror}); name another folder") from error

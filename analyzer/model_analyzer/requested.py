"""What a command line and a file ask for, whether in our options or in Model Analyzer's."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from analyzer.domain.record import Record
from analyzer.errors import UsageError
from analyzer.model_analyzer.forms import model_blocks
from analyzer.model_analyzer.keys import BY_NAME
from analyzer.model_analyzer.output import Output
from analyzer.model_analyzer.translate import is_noted, is_theirs, note_of, output_of, translate
from analyzer.settings.declared import ProfileSettings, ReportSettings
from analyzer.settings.options import checked, flag_of, options_of, read_file
from analyzer.settings.values import items, number, text

CHECKPOINTS = "checkpoints"
_PAGES = ("html", "pdf")
_TOP = "num_top_model_configs"
_THEIR_NAMES = {
    "search": "run_config_search_mode",
    "sample_interval": "monitoring_interval",
    "protocol": "client_protocol",
    "idle_duration": "duration_seconds",
}
"""Options of ours that are made of one key of theirs: a mistake is told under the name that was written."""


class Requested(Record, frozen=True):
    """Runs, one after another; what is to be said about them once; Model Analyzer's files, or None."""

    runs: tuple[ProfileSettings, ...]
    notes: tuple[str, ...] = ()
    output: Output | None = None


def profile_requested(file: Path | None, given: Mapping[str, object]) -> Requested:
    """``given`` are flags: ours by field, theirs by key. Raises UsageError with every mistake."""
    keys = {option.field: option.key for option in options_of(ProfileSettings)}
    in_file = read_file(file) if file else {}
    flags = _shorts({keys.get(name, name): value for name, value in given.items()})
    from_file = is_theirs(in_file, keys.values())
    if not from_file and not is_theirs(flags, keys.values()):
        settings = checked(ProfileSettings, _placed(in_file, flags, file))
        return Requested((settings,), tuple(_nothing_to_compare([settings])))
    twice = in_file.keys() & flags.keys()
    placed = _placed(in_file, flags, file)
    made = translate(in_file | flags, keys.values(), from_file=from_file, twice=twice)
    runs = tuple(
        checked(ProfileSettings, {key: (_place_of(key, placed), value) for key, value in job.items()})
        for job in made.jobs
    )
    _check_comparable(runs)
    return Requested(runs, (*made.notes, *_nothing_to_compare(runs)), made.output)


def _check_comparable(runs: Sequence[ProfileSettings]) -> None:
    """Configurations of several models have one order only under objectives and limits that hold for all."""
    for run in runs[1:]:
        is_same = (run.objectives, run.budgets) == (runs[0].objectives, runs[0].budgets)
        if run.num_top_model_configs and not is_same:
            raise UsageError(
                "num_top_model_configs compares models, so objectives and constraints must hold for all of them: "
                f"leave them out of the blocks of {runs[0].profile_models[0]} and {run.profile_models[0]}"
            )


def _nothing_to_compare(runs: Sequence[ProfileSettings]) -> Iterator[str]:
    is_one = len(runs) == 1 and (runs[0].together or len(runs[0].profile_models) == 1)
    if runs[0].num_top_model_configs and is_one:
        yield "num_top_model_configs compares runs, and this is one: its report has the order of its configurations"


def _placed(
    in_file: Mapping[str, object], flags: Mapping[str, object], file: Path | None
) -> dict[str, tuple[str, object]]:
    placed = {key: (f"{file}: {key}", value) for key, value in in_file.items()}
    return placed | {key: (flag_of(key), value) for key, value in flags.items()}


def _place_of(key: str, placed: Mapping[str, tuple[str, object]]) -> str:
    """Where the user wrote it, under their name or ours."""
    return next((placed[name][0] for name in (key, _THEIR_NAMES.get(key, "")) if name in placed), key)


def _shorts(flags: dict[str, object]) -> dict[str, object]:
    """``-i 0.5`` is their monitoring interval, ``-i grpc`` our protocol."""
    try:
        number(flags.get("protocol"))
    except ValueError:
        return flags
    return {"monitoring_interval" if key == "protocol" else key: value for key, value in flags.items()}


class ReportRequested(Record, frozen=True):
    """``is_theirs``: detailed reports of ``configs``, or all reports of ``models``, from what lies in ``source``."""

    is_theirs: bool
    source: str = CHECKPOINTS
    configs: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    output: Output = Output()
    formats: tuple[str, ...] = _PAGES
    settings: ReportSettings | None = None
    top_count: int | None = None
    notes: tuple[str, ...] = ()


def report_requested(run: Path | None, file: Path | None, given: dict[str, object]) -> ReportRequested:
    """Takes theirs out of ``given``, which then holds options of ours only. Raises UsageError."""
    keys = {option.field: option.key for option in options_of(ReportSettings)}
    theirs = {name: given.pop(name) for name in list(given) if name not in keys}
    raw = (read_file(file) if file else {}) | theirs
    unknown = [name for name in raw if name not in BY_NAME and name not in keys.values()]
    if unknown:
        raise UsageError(f"{unknown[0]} is no option of profile or report")
    named = [*theirs, *(["plots"] if _has_plots(raw) else [])]
    notes = tuple(note_of(name) for name in dict.fromkeys(named) if is_noted(name))
    if run is not None and not {"report_model_configs", "analysis_models"} & raw.keys():
        return ReportRequested(False, notes=notes)
    if not {"report_model_configs", "analysis_models", "checkpoint_directory", "export_path"} & raw.keys():
        return ReportRequested(False, notes=notes)
    formats = given.pop("output", None) if _is_format(given.get("output")) else raw.get("output_formats")
    top = given.pop(_TOP, raw.get(_TOP))
    ours = {key: (flag_of(key), given[field]) for field, key in keys.items() if field in given}
    return ReportRequested(
        True,
        source=str(run) if run is not None else text(raw.get("checkpoint_directory", CHECKPOINTS)),
        configs=_names(raw.get("report_model_configs")),
        models=_names(raw.get("analysis_models")),
        output=output_of({name: value for name, value in raw.items() if name != "output_formats"}),
        formats=_formats(formats),
        settings=checked(ReportSettings, ours) if ours else None,
        top_count=None if top is None else checked(ReportSettings, {_TOP: (_TOP, top)}).num_top_model_configs,
        notes=notes,
    )


def _is_format(raw: object) -> bool:
    return raw is not None and set(items(raw)) <= {"html", "pdf", "png"}


def _formats(raw: object) -> tuple[str, ...]:
    """Its own tool never reads them; HTML and PDF are what there is."""
    named = tuple(str(item) for item in items(raw) if item in _PAGES) if raw is not None else ()
    return named or _PAGES


def _has_plots(raw: Mapping[str, object]) -> bool:
    """For all, or in the block of a configuration."""
    try:
        blocks = model_blocks(raw.get("report_model_configs") or ())
    except ValueError:
        return False
    return "plots" in raw or any("plots" in block for block in blocks.values())


def _names(raw: object) -> tuple[str, ...]:
    """A list of names, each maybe with plots of its own."""
    try:
        return () if raw is None else tuple(model_blocks(raw))
    except ValueError as error:
        raise UsageError(f"report_model_configs {error}") from None

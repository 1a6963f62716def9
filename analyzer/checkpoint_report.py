"""From a checkpoint of Triton Model Analyzer to our answer and to its tables, without a server."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from analyzer import summary
from analyzer.domain.budget import Budget, Objective
from analyzer.domain.figures import forbids_failures
from analyzer.domain.measurement import Measurement
from analyzer.domain.ranking import Ranking
from analyzer.domain.run import ServerConfig
from analyzer.errors import MissingExtraError, NothingMeetsBudgetError, UsageError
from analyzer.model_analyzer.checkpoint import is_checkpoint, read_checkpoint
from analyzer.model_analyzer.measurements import measurement, measurements
from analyzer.model_analyzer.models import config_text, model_specs, server_config
from analyzer.model_analyzer.records import Checkpoint, Configuration, Point
from analyzer.model_analyzer.tables import csv_tables
from analyzer.model_analyzer.tags import TAGS
from analyzer.rank.across import OwnAnswer
from analyzer.rank.order import DEFAULT_OBJECTIVES
from analyzer.rank.rank import rank
from analyzer.render.context import RunContext
from analyzer.report import FILES, TABLES_FOLDER, TABLES_FORMAT, publish, write_beside
from analyzer.store import RunFolder

FORMATS = (*FILES, TABLES_FORMAT)


def takes(path: Path) -> bool:
    """A run folder of ours stays one, whatever else lies in it."""
    return is_checkpoint(path) and not RunFolder.exists(path)


def run(
    path: Path,
    command: str,
    *,
    objectives: Sequence[Objective] | None = None,
    budgets: Sequence[Budget] | None = None,
    formats: Sequence[str] = FORMATS,
    output: Path | None = None,
    console: Console | None = None,
    only: str = "",
    top_count: int | None = None,
) -> list[Ranking]:
    """An answer a model, each in a folder of its own where there are several. Files go beside the checkpoint.

    ``only`` names one configuration, and the answer is of its points. Of several models the ``top_count`` best
    configurations are compared, 5 unless it is given; 0 for no comparison.

    Raises what stands in the way of the first answer that has something in its way, after all are written.
    """
    checkpoint = _of_configuration(read_checkpoint(path), only) if only else read_checkpoint(path)
    folder = output or (path if path.is_dir() else path.parent)
    count = summary.DEFAULT_COUNT if top_count is None else top_count
    wanted = tuple(objectives or DEFAULT_OBJECTIVES)
    # Failed requests are not counted in a checkpoint: the limit that holds by itself would leave nothing.
    allowed = tuple(budget for budget in budgets or () if not forbids_failures(budget))
    made = _tables(checkpoint, wanted, allowed) if TABLES_FORMAT in formats else {}
    also = write_beside(made, folder / TABLES_FOLDER)
    rankings, profiled = [], []
    trouble: list[NothingMeetsBudgetError | MissingExtraError] = []
    for model in checkpoint.models:
        outcomes = measurements(checkpoint, model)
        ranking = rank(outcomes, wanted, allowed)
        rankings.append(ranking)
        place = folder / model if len(checkpoint.models) > 1 else folder
        try:
            context = _context(checkpoint, model, path, command)
            publish(outcomes, ranking, context, formats=formats, folder=place, also=also, console=console)
        except NothingMeetsBudgetError as error:
            trouble.append(NothingMeetsBudgetError(f"{model}: {error}") if len(checkpoint.models) > 1 else error)
        except MissingExtraError as error:
            trouble.append(error)
        profiled.append(_profiled(checkpoint, model, outcomes, ranking, place))
    if len(profiled) > 1 and count and not only:
        found = summary.compared(profiled, wanted, allowed)
        try:
            summary.publish(found, folder, count=count, formats=formats, console=console)
        except MissingExtraError as error:
            trouble.append(error)
    if trouble:
        raise trouble[0]
    return rankings


def _profiled(
    checkpoint: Checkpoint, model: str, outcomes: Sequence[Measurement], ranking: Ranking, folder: Path
) -> summary.Profiled:
    rows = {
        measurement(configuration, point, checkpoint.gpus).config.key: (configuration, point)
        for configuration in checkpoint.of(model)
        for point in configuration.points
    }
    return summary.Profiled(
        answer=OwnAnswer(model=model, outcomes=tuple(outcomes), ranking=ranking),
        specs={spec.name: spec for spec in model_specs(checkpoint.of(model))},
        folder=folder,
        row_of=rows.__getitem__,
        gpu_count=len(checkpoint.server_only),
    )


def _of_configuration(checkpoint: Checkpoint, name: str) -> Checkpoint:
    own = tuple(configuration for configuration in checkpoint.configurations if configuration.name == name)
    if not own:
        known = ", ".join(configuration.name for configuration in checkpoint.configurations)
        raise UsageError(f"no configuration is called {name}; there are {known}")
    return msgspec.structs.replace(checkpoint, configurations=own)


def _tables(checkpoint: Checkpoint, objectives: Sequence[Objective], budgets: Sequence[Budget]) -> dict[str, str]:
    def satisfies(configuration: Configuration, point: Point) -> bool:
        seen = measurement(configuration, point, checkpoint.gpus)
        violations = [budget.violation(seen) for budget in budgets]
        return all(violation is not None and violation <= 0 for violation in violations)

    weights = {TAGS[objective.metric]: objective.weight for objective in objectives if objective.metric in TAGS}
    return csv_tables(checkpoint, satisfies, weights)


def _context(checkpoint: Checkpoint, model: str, path: Path, command: str) -> RunContext:
    configurations = checkpoint.of(model)
    texts = {
        (server_config(configuration).key, variant.model): config_text(variant)
        for configuration in configurations
        for variant in configuration.shown_variants
    }

    def served(server: ServerConfig, name: str) -> str:
        return texts.get((server.key, name), "")

    return RunContext(
        name=path.resolve().name,
        model=model,
        model_specs=model_specs(configurations),
        command=command,
        started_at="",
        tool_version="",
        config_text=served,
        settings={"measured_by": "Triton Model Analyzer"},
        environment={
            "gpus": [{"name": gpu.name, "memory_bytes": gpu.total_memory_bytes} for gpu in checkpoint.gpus.values()]
        },
    )

"""The three CSV tables that Model Analyzer makes of a checkpoint, with its columns, formats and order of rows.

Cells of several models are joined by commas and quoted; a combined figure goes before them: ``"421.0, [184.5,236.5]"``.
A cell without a value says ``None``, and the text ends in an empty line, as Model Analyzer's does.
"""

from collections.abc import Iterable, Sequence

from analyzer.domain.record import Record
from analyzer.model_analyzer.order import Satisfies, ordered_points
from analyzer.model_analyzer.records import Checkpoint, Configuration, Figures, ModelPoint, Number, Point, Variant
from analyzer.model_analyzer.tags import DEFAULT_WEIGHTS, HEADERS, combined

Cells = dict[str, str]

INFERENCE_FILE = "metrics-model-inference.csv"
GPU_FILE = "metrics-model-gpu.csv"
SERVER_FILE = "metrics-server-only.csv"

_COMMON_HEADERS = {
    "model_name": "Model",
    "gpu_uuid": "GPU UUID",
    "batch_size": "Batch",
    "concurrency": "Concurrency",
    "request_rate": "Request Rate",
    "model_config_path": "Model Config Path",
    "instance_group": "Instance Group",
    "max_batch_size": "Max Batch Size",
    "satisfies_constraints": "Satisfies Constraints",
}
_BACKEND_PARAMETER = "backend_parameter/"


class TableFields(Record, frozen=True):
    """The columns of each table. A figure that no point has gets no column; a field may be ``backend_parameter/KEY``.

    ``concurrency`` stands for whatever load was put on: where it was request rates, the column is theirs.
    """

    inference: tuple[str, ...] = (
        "model_name", "batch_size", "concurrency", "model_config_path", "instance_group", "max_batch_size",
        "satisfies_constraints", "perf_throughput", "perf_latency_p99",
    )  # fmt: skip
    gpu: tuple[str, ...] = (
        "model_name", "gpu_uuid", "batch_size", "concurrency", "model_config_path", "instance_group",
        "satisfies_constraints", "gpu_used_memory", "gpu_utilization", "gpu_power_usage",
    )  # fmt: skip
    server: tuple[str, ...] = ("model_name", "gpu_uuid", "gpu_used_memory", "gpu_utilization", "gpu_power_usage")


_DEFAULT_FIELDS = TableFields()


def csv_tables(
    checkpoint: Checkpoint,
    satisfies: Satisfies = lambda _configuration, _point: True,
    weights: dict[str, float] | None = None,
    fields: TableFields = _DEFAULT_FIELDS,
    *,
    with_empty: bool = False,
) -> dict[str, str]:
    """Text by file name; a table without rows is left out, or is a line of columns. ``weights`` of tags order rows."""
    inference: list[Cells] = []
    gpu: list[Cells] = []
    for configuration, point, kept in ordered_points(checkpoint, satisfies, weights or DEFAULT_WEIGHTS):
        common = _common(configuration, point, kept, len(checkpoint.server_only))
        inference.append(common | _model_figures(point))
        if not configuration.cpu_only:
            gpu += [common | {"gpu_uuid": uuid} | _rounded(figures) for uuid, figures in point.gpus.items()]
    server = [
        {"model_name": "triton-server", "gpu_uuid": uuid} | _rounded(figures)
        for uuid, figures in checkpoint.server_only.items()
    ]
    chosen = (
        (INFERENCE_FILE, fields.inference, inference),
        (GPU_FILE, fields.gpu, gpu),
        (SERVER_FILE, fields.server, server),
    )
    points = list(checkpoint.points)
    return {name: _text(_with_load(columns, points), rows) for name, columns, rows in chosen if rows or with_empty}


class Entry(Record, frozen=True):
    """A row to be. ``is_kept`` says whether it is within the constraints; ``gpu_count`` is of the machine."""

    configuration: Configuration
    point: Point
    is_kept: bool
    gpu_count: int


def listed(entries: Sequence[Entry], columns: Sequence[str] = _DEFAULT_FIELDS.inference) -> str:
    """The table of inference with these rows as they stand: an order of ours, over several checkpoints maybe."""
    rows = [_common(e.configuration, e.point, e.is_kept, e.gpu_count) | _model_figures(e.point) for e in entries]
    return _text(_with_load(columns, [entry.point for entry in entries]), rows)


def _common(configuration: Configuration, point: Point, kept: bool, gpu_count: int) -> Cells:
    variants = configuration.shown_variants
    path = configuration.name
    if variants and variants is configuration.composing:
        path += ": " + ", ".join(variant.name for variant in variants)
    cells = {
        "model_name": _quoted(configuration.model),
        "batch_size": _joined(model.batch_size for model in point.models),
        "concurrency": _joined(model.concurrency for model in point.models),
        "request_rate": _joined(model.request_rate for model in point.models),
        "model_config_path": _quoted(path),
        "instance_group": _joined(_instances(variant, gpu_count) for variant in variants),
        "max_batch_size": _joined(variant.max_batch_size for variant in variants),
        "satisfies_constraints": "Yes" if kept else "No",
    }
    for variant in variants:
        for name, value in (variant.config.get("parameters", {})).items():
            cells[_BACKEND_PARAMETER + name] = _quoted(str(_parameter(value)))
    return cells


def _instances(variant: Variant, gpu_count: int) -> str:
    """``2:GPU + 1:CPU``. Instances on GPUs are one set a device; a count of devices that is not known is taken as 1."""
    counts: dict[str, int] = {}
    for group in variant.instance_groups:
        kind = str(group.get("kind", "")).removeprefix("KIND_")
        if not kind:
            kind = "GPU" if gpu_count and not variant.cpu_only else "CPU"
        devices = len(group.get("gpus", ())) or max(1, gpu_count)
        counts[kind] = counts.get(kind, 0) + int(group.get("count", 1)) * (devices if kind == "GPU" else 1)
    return " + ".join(f"{count}:{kind}" for kind, count in counts.items())


def _parameter(value: object) -> object:
    """``{"string_value": "4"}``."""
    return next(iter(value.values()), "") if isinstance(value, dict) else value


def _model_figures(point: Point) -> Cells:
    cells = {}
    for tag in point.models[0].figures:
        values = [model.figures[tag] for model in point.models if tag in model.figures]
        total = str(round(combined(tag, values), 1))
        alone = len(point.models) == 1
        cells[tag] = total if alone else f'"{total}, [{",".join(str(round(value, 1)) for value in values)}]"'
    return cells


def _rounded(figures: Figures) -> Cells:
    return {tag: str(round(value, 1)) for tag, value in figures.items()}


def _joined(values: Iterable[Number | str | None]) -> str:
    return _quoted(",".join(str(value) for value in values))


def _quoted(text: str) -> str:
    return f'"{text}"' if "," in text else text


def _with_load(columns: Sequence[str], points: Iterable[Point]) -> tuple[str, ...]:
    """The load's column says what the load was."""
    loads: list[ModelPoint] = [model for point in points for model in point.models]
    present = [
        name for name in ("concurrency", "request_rate") if any(getattr(load, name) is not None for load in loads)
    ]
    found: list[str] = []
    for column in columns:
        found += (present or [column]) if column in ("concurrency", "request_rate") else [column]
    return tuple(dict.fromkeys(found))


def _text(columns: Sequence[str], rows: Sequence[Cells]) -> str:
    known = [
        name
        for name in columns
        if name in _COMMON_HEADERS
        or name.startswith(_BACKEND_PARAMETER)
        or (any(name in row for row in rows) if rows else name in HEADERS)
    ]
    lines = [",".join(_COMMON_HEADERS.get(name) or HEADERS.get(name, name) for name in known)]
    lines += [",".join(row.get(name, "None") for name in known) for row in rows]
    return "\n".join(lines) + "\n\n"

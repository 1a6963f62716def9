"""The tables of a page: points, misses, failures, times."""

from collections.abc import Callable, Iterable, Sequence

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.figures import NOT_MEASURED, interval, limit, number, quantity, title_of
from analyzer.domain.measurement import Measurement
from analyzer.domain.metrics import METRICS, Estimate, Metric, read_figure
from analyzer.domain.ranking import Miss, Ranking
from analyzer.render import words
from analyzer.render.breakdown import ABOUT, breakdown, server_parts_ms
from analyzer.render.view import Cell, Column, Row, Table
from analyzer.render.words import Specs

ORDERED_ROWS = 30
MISSED_ROWS = 10
OTHER_ROWS = 15
"""Rows on the page; the tables beside it hold every point."""

_OF_EVERY_GPU = ("gpu_memory_mb", "gpu_utilization", "gpu_power_w", "energy_per_inference_j")
"""What a reader looks for, and is told of where it is missing."""

POINT_COLUMNS = (Column(title="Configuration"), Column(title="Load"))


def ordered(ranking: Ranking, specs: Specs) -> Table:
    """The best point of each configuration, best first."""
    columns, cells = figures(ranking.ordered, ranking.objectives, ranking.budgets)
    rows = [Row(cells=(*point(m, specs), *cells(m)), marks=marks(m, ranking)) for m in ranking.ordered]
    return _table((*POINT_COLUMNS, *columns), rows, ORDERED_ROWS)


def figures(
    measurements: Sequence[Measurement], objectives: Iterable[Objective], budgets: Iterable[Budget]
) -> tuple[tuple[Column, ...], Callable[[Measurement], list[Cell]]]:
    """The usual columns with those of what is wanted and limited, and how a point fills them."""
    names = [n for n in ("throughput", "p50_latency_ms", "p99_latency_ms", _memory_metric(measurements)) if n]
    wanted: list[Objective | Budget] = [*objectives, *budgets]
    extra = [each.metric for each in wanted if not each.model]
    names += [name for name in dict.fromkeys(extra) if name not in names and _says_something(measurements, name)]
    of_model = list({each.figure: each for each in wanted if each.model}.values())

    def cells(m: Measurement) -> list[Cell]:
        of_one = [estimate_cell(METRICS[each.metric], each.read(m)) for each in of_model]
        return [figure_cell(m, name) for name in names] + of_one

    columns = [metric_column(name) for name in names] + [metric_column(each.metric, each.model) for each in of_model]
    return tuple(columns), cells


def misses(ranking: Ranking, specs: Specs) -> Table:
    """Points outside the budget, nearest first, and by how much."""
    columns = (*POINT_COLUMNS, Column(title="Missed"), Column(title="By", numeric=True), metric_column("throughput"))
    rows = []
    for miss in ranking.misses:
        m, metric = miss.measurement, METRICS[miss.budget.metric]
        estimate = miss.budget.read(m)
        seen = quantity(metric, estimate.value) if estimate else NOT_MEASURED
        missed = Cell(text=f"{title_of(miss.budget)} {seen}", note=limit(miss.budget))
        by = Cell(text=_over(miss), sort=f"{miss.violation:.9g}")
        rows.append(Row(cells=(*point(m, specs), missed, by, figure_cell(m, "throughput")), marks=marks(m, ranking)))
    return _table(columns, rows, MISSED_ROWS)


def _over(miss: Miss) -> str:
    """A share of the limit; far beyond one, how many times the limit was reached."""
    if not miss.budget.limit:
        return quantity(METRICS[miss.budget.metric], miss.violation)
    is_far = miss.violation >= 10 and miss.budget.at_most
    return f"{number(1 + miss.violation)} times" if is_far else f"{number(100 * miss.violation)} %"


def excluded(ranking: Ranking, specs: Specs) -> Table:
    rows = [Row(cells=(*point(e.measurement, specs), Cell(text=_sentence(e.reason)))) for e in ranking.excluded]
    return _table((*POINT_COLUMNS, Column(title="Why it is left out")), rows, OTHER_ROWS)


def failures(ranking: Ranking, specs: Specs) -> Table:
    rows = [
        Row(
            cells=(
                Cell(text=words.server(f.config.server, specs)),
                Cell(text=words.point(f.config)),
                Cell(text=_sentence(f.reason), note=f"stage: {f.stage}"),
            )
        )
        for f in ranking.failures
    ]
    return _table((*POINT_COLUMNS, Column(title="Reason")), rows, OTHER_ROWS)


def time(measurements: Sequence[Measurement], ranking: Ranking, specs: Specs) -> Table:
    """Milliseconds of a mean request by part, for a few points."""
    parts = [(m, b) for m in measurements if (b := breakdown(m)) is not None]
    names = [name for name in ABOUT if any(p.name == name and p.ms > 0 for _, b in parts for p in b.parts)]
    columns = (*POINT_COLUMNS, *(Column(title=f"{name} (ms)", numeric=True) for name in (*names, "Mean")))
    rows = []
    for m, b in parts:
        cells = [_ms(p.ms) for p in b.parts if p.name in names]
        rows.append(Row(cells=(*point(m, specs), *cells, _ms(b.total_ms)), marks=marks(m, ranking)))
    return Table(columns=columns, rows=tuple(rows))


def composing(measurement: Measurement | None) -> Table:
    """The models that an ensemble calls, each with the time of a mean request in it."""
    titles = ("Queue (ms)", "Input (ms)", "Compute (ms)", "Output (ms)", "Mean batch")
    columns = (Column(title="Model"), *(Column(title=title, numeric=True) for title in titles))
    called = measurement.load.server[1:] if measurement else ()
    rows = []
    for times in called:
        if times.success_count and times.execution_count:
            parts = [_ms(ms) for ms in server_parts_ms(times)]
            batch = times.inference_count / times.execution_count
            rows.append(Row(cells=(Cell(text=times.model), *parts, Cell(text=number(batch), sort=f"{batch:.9g}"))))
    return Table(columns=columns, rows=tuple(rows))


def by_model(measurement: Measurement | None) -> Table:
    """Each of several models that were driven at the same time: its load and what came of it."""
    loads = measurement.loads if measurement and measurement.beside else ()
    names = ("throughput", "p50_latency_ms", "p99_latency_ms", "failure_ratio")
    columns = (Column(title="Model"), Column(title="Load"), *(metric_column(name) for name in names))
    rows = []
    for load in loads:
        assert measurement is not None
        model = load.profile.model
        figures = (estimate_cell(METRICS[name], read_figure(name, measurement, model)) for name in names)
        rows.append(Row(cells=(Cell(text=model), Cell(text=words.load(load.profile.load)), *figures)))
    return Table(columns=columns, rows=tuple(rows))


def certainty(measurement: Measurement | None) -> Table:
    """The figures of one point with their intervals and what they rest on."""
    titles = (("Figure", False), ("Value", True), ("95 % interval", True), ("Rests on", False))
    columns = tuple(Column(title=title, numeric=numeric) for title, numeric in titles)
    if measurement is None:
        return Table(columns=columns, rows=())
    rows = []
    if not measurement.gpus and measurement.gpus_unmeasured:
        rows.append(Row(cells=tuple(map(_plain, ("GPU", NOT_MEASURED, "none", measurement.gpus_unmeasured)))))
    for name, metric in METRICS.items():
        estimate = metric.read(measurement)
        if estimate is None:
            if name in _OF_EVERY_GPU and measurement.gpus:
                rows.append(Row(cells=tuple(map(_plain, (metric.title, NOT_MEASURED, "none", _why_not(measurement))))))
            continue
        bounds = interval(metric, estimate) or "none"
        basis = _basis(measurement, name) if estimate.supported else "too few requests to know it"
        cells = (metric.title, quantity(metric, estimate.value), bounds, basis)
        rows.append(
            Row(cells=tuple(Cell(text=text) for text in cells), marks=() if estimate.supported else ("doubtful",))
        )
    return Table(columns=columns, rows=tuple(rows))


def changes(recommended: Measurement | None, specs: Specs) -> Table:
    """The recommended settings beside what the repository has today; of several models only those that differ."""
    columns = (Column(title="Setting"), Column(title="Today"), Column(title="Recommended"))
    rows = []
    variants = recommended.config.server.variants if recommended else ()
    several = len(variants) > 1
    for chosen in variants:
        prefix = f"{chosen.model}: " if several else ""
        today = type(chosen)(model=chosen.model)
        pairs = (
            ("Instances", words.instances(today, specs), words.instances(chosen, specs)),
            ("Batching", ", ".join(words.batching(today, specs)), ", ".join(words.batching(chosen, specs))),
            *(
                (edit.path.removeprefix("parameters."), "as in config.pbtxt", words.edit_value(edit.value))
                for edit in chosen.edits
            ),
        )
        if chosen.model in specs and specs[chosen.model].composing:
            continue
        for name, before, after in pairs:
            if several and before == after:
                continue
            cells = (prefix + name, before, after)
            rows.append(
                Row(cells=tuple(Cell(text=text) for text in cells), marks=("changed",) if before != after else ())
            )
    return Table(columns=columns, rows=tuple(rows))


def marks(measurement: Measurement, ranking: Ranking) -> tuple[str, ...]:
    key = measurement.config.key
    found = []
    if ranking.recommended is not None and ranking.recommended.config.key == key:
        found.append("recommended")
    elif len(ranking.tied) > 1 and any(m.config.key == key for m in ranking.tied):
        found.append("tied")
    if measurement.config.server.is_default:
        found.append("default")
    if measurement.load.verdict in ("drifting", "too short"):
        found.append(measurement.load.verdict)
    return tuple(found)


def metric_column(name: str, model: str = "") -> Column:
    metric = METRICS[name]
    unit = "%" if metric.unit == "ratio" else metric.unit
    return Column(title=f"{metric.title}{f' of {model}' if model else ''} ({unit})", numeric=True)


def figure_cell(measurement: Measurement, name: str) -> Cell:
    return estimate_cell(METRICS[name], METRICS[name].read(measurement))


def estimate_cell(metric: Metric, estimate: Estimate | None) -> Cell:
    if estimate is None:
        return Cell(text=NOT_MEASURED)
    shown = number(estimate.value * (100 if metric.unit == "ratio" else 1))
    note = interval(metric, estimate)
    return Cell(text=shown if estimate.supported else f"{shown} ?", note=note, sort=f"{estimate.value:.9g}")


def _memory_metric(measurements: Iterable[Measurement]) -> str:
    points = list(measurements)
    for name in ("gpu_memory_mb", "server_memory_mb"):
        if any(METRICS[name].read(m) is not None for m in points):
            return name
    return ""


def _says_something(measurements: Iterable[Measurement], name: str) -> bool:
    """A column of zeros, such as of failed requests where none may fail, would only take room."""
    read = (METRICS[name].read(m) for m in measurements)
    return any(estimate is None or estimate.value != 0 for estimate in read)


def point(measurement: Measurement, specs: Specs) -> tuple[Cell, Cell]:
    return Cell(text=words.server(measurement.config.server, specs)), Cell(text=words.point(measurement.config))


def _table(columns: tuple[Column, ...], rows: Sequence[Row], limit: int) -> Table:
    return Table(columns=columns, rows=tuple(rows[:limit]), hidden_count=max(0, len(rows) - limit))


def _basis(measurement: Measurement, name: str) -> str:
    load = measurement.load
    if load.verdict == "not judged":
        return "not recorded"
    if name.startswith(("gpu_", "energy")):
        samples = words.counted(sum(gpu.sample_count for gpu in measurement.gpus), "sample")
        return f"{samples}, in a window too short for it" if _is_too_short(measurement, name) else samples
    if name.startswith("server_"):
        return words.counted(measurement.host.sample_count, "sample") if measurement.host else ""
    if name == "failure_ratio":
        return words.counted(load.request_count + load.dropped_count, "request")
    return words.counted(load.response.count if load.response else 0, "request")


def _is_too_short(measurement: Measurement, name: str) -> bool:
    """Averages of the driver and its energy counter reach beyond a short window."""
    return name in _OF_EVERY_GPU[1:] and any(gpu.window_too_short for gpu in measurement.gpus)


def _why_not(measurement: Measurement) -> str:
    """The driver's reasons where it gave any."""
    reasons = dict.fromkeys(reason for gpu in measurement.gpus for reason in gpu.refused.values())
    return f"The driver says: {', '.join(reasons)}." if reasons else "not offered by this device"


def _plain(text: str) -> Cell:
    return Cell(text=text)


def _ms(ms: float) -> Cell:
    return Cell(text=f"{ms:.2f}", sort=f"{ms:.9g}")


def _sentence(text: str) -> str:
    """First letter up, a full stop behind: reasons come from many places."""
    stripped = text.strip().rstrip(".")
    return f"{stripped[:1].upper()}{stripped[1:]}."

"""The charts of a page, each a ranking drawn as an SVG document."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Literal

from analyzer.domain.measurement import Measurement
from analyzer.domain.metrics import METRICS
from analyzer.domain.ranking import Ranking
from analyzer.render import words
from analyzer.render.breakdown import ABOUT, Breakdown, breakdown
from analyzer.render.drawing import BLUE, GREEN, GREY, INK, ORANGE, error_bars, load_axis, log_ms, plain, svg
from analyzer.render.page import leaders
from analyzer.render.timeline import picture
from analyzer.render.view import Charts
from analyzer.render.words import Specs
from analyzer.timeline.table import Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PART_COLOURS = {
    "Late start": "#DDE1E6",
    "Client and network": "#BCC4CE",
    "Queue": "#E69F00",
    "Input": "#9AD0F0",
    "Compute": "#0072B2",
    "Output": "#00543C",
}


def draw(ranking: Ranking, specs: Specs, timeline: Timeline | None = None) -> Charts:
    """All charts for which there is something to draw. ``timeline`` is that of the point that the page is about."""
    return Charts(
        frontier=frontier(ranking) if ranking.points else "",
        load=against_load(ranking) if ranking.points else "",
        breakdown=where_time_goes(ranking, specs),
        timeline=picture(timeline),
    )


def frontier(ranking: Ranking) -> str:
    """Throughput against p99 latency: every point, the front, the budget, the recommended and the default."""

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        missed = {miss.measurement.config.key for miss in ranking.misses}
        left_out = {excluded.measurement.config.key for excluded in ranking.excluded}
        kept = [m for m in ranking.points if m.config.key not in missed | left_out]
        _scatter(axes, [m for m in ranking.points if m.config.key in missed], "Outside budget", "x", GREY)
        _scatter(axes, [m for m in ranking.points if m.config.key in left_out], "Left out", "|", GREY)
        _scatter(axes, kept, "Within budget" if ranking.budgets else "Measured", "o", BLUE)
        front = sorted(xy(ranking.pareto))
        if front:
            axes.step(
                [x for x, _ in front],
                [y for _, y in front],
                where="post",
                color=BLUE,
                linewidth=1.2,
                alpha=0.7,
                label="Pareto front",
            )
        if ranking.recommended is None and ranking.misses:
            _mark(axes, ranking.misses[0].measurement, "Nearest miss", "D", ORANGE)
        if ranking.default is not None and ranking.default is not ranking.recommended:
            _mark(axes, ranking.default, "Default", "s", INK)
        if ranking.recommended is not None:
            _mark(axes, ranking.recommended, "Recommended", "D", ORANGE)
        budget_line(axes.axvline, ranking)
        scale_ms(axes, "x", [x for x, _ in xy(ranking.points)])
        axes.set(xlabel="p99 latency (ms)", ylabel="Throughput (infer/s)", ylim=(0, None))
        legend(figure, ncols=7, handletextpad=0.3, columnspacing=0.9, handlelength=1.5)

    about = "Scatter of all measured points: throughput rises upwards, p99 latency to the right. Better is up and left."
    return svg(paint, 4.4, "Throughput against p99 latency", about)


def legend(figure: "Figure", **spacing: float) -> None:
    """None where no point has both figures, as where every request failed."""
    if any(axes.get_legend_handles_labels()[0] for axes in figure.axes):
        figure.legend(fontsize=9, loc="outside upper left", **spacing)


def against_load(ranking: Ranking) -> str:
    """p99 latency and throughput against load, for the recommended (or nearest) configuration and the default."""
    series = _load_series(ranking)
    if not series:
        return ""

    load = series[0].points[0].config.load.load
    points = [m for one in series for m in one.points]

    def paint(figure: "Figure") -> None:
        left, right = figure.subplots(1, 2)
        for one in series:
            _curve(left, one, "p99_latency_ms", one.label)
            _curve(right, one, "throughput", "_nolegend_")
        budget_line(left.axhline, ranking)
        for axes in (left, right):
            axes.set_xlabel(load.axis)
            load_axis(axes, [_level(m) for m in points], not load.open_loop)
        scale_ms(left, "y", [y for y, _ in xy(points)])
        left.set_ylabel("p99 latency (ms)")
        right.set(ylabel="Throughput (infer/s)", ylim=(0, None))
        legend(figure, ncols=4, handletextpad=0.4, columnspacing=1.1)

    about = "Two line charts: p99 latency and throughput as load grows. Bars are 95 % intervals."
    return svg(paint, 3.4, "Latency and throughput against load", about)


_BAR_LABEL_LENGTH = 105
"""What fits over a bar; several models have longer names."""


def where_time_goes(ranking: Ranking, specs: Specs) -> str:
    """Stacked bars of a mean request's time, for the leaders."""
    bars = [(m, parts) for m in leaders(ranking) if (parts := breakdown(m)) is not None]
    if not bars:
        return ""

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        names = [name for name in ABOUT if any(p.name == name and p.ms > 0 for _, b in bars for p in b.parts)]
        longest = max(parts.total_ms for _, parts in bars)
        for row, (_, parts) in enumerate(bars):
            _stack(axes, row, parts, longest, {name for name in names if row == 0})
        for row, (m, _) in enumerate(bars):
            axes.text(0, row - 0.33, _bar_label(m, ranking, specs), va="bottom", fontsize=9, in_layout=False)
        axes.set_yticks([])
        axes.set_ylim(len(bars) - 0.6, -0.75)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        axes.set(xlabel="Milliseconds of a mean request", xlim=(0, longest * 1.1))
        figure.legend(
            fontsize=9, loc="outside upper left", ncols=6, handletextpad=0.4, columnspacing=1.1, handlelength=1.2
        )

    about = "Stacked bars, one a configuration: the parts of a mean request's time in milliseconds."
    return svg(paint, 1.0 + 0.62 * len(bars), "Where the time goes", about)


def _scatter(axes: "Axes", points: Sequence[Measurement], label: str, marker: str, colour: str) -> None:
    found = xy(points)
    if found:
        axes.scatter(
            [x for x, _ in found],
            [y for _, y in found],
            marker=marker,
            s=26,
            color=colour,
            linewidths=1.1,
            label=label,
            alpha=0.85,
        )


def _mark(axes: "Axes", measurement: Measurement, label: str, marker: str, colour: str) -> None:
    """A point set apart, with its intervals."""
    x, y = METRICS["p99_latency_ms"].read(measurement), METRICS["throughput"].read(measurement)
    if x is None or y is None:
        return
    axes.errorbar(
        x.value, y.value, xerr=error_bars(x), yerr=error_bars(y), fmt=marker, markersize=9, color=colour,
        markeredgecolor="white", elinewidth=1.2, capsize=2, label=label, zorder=5,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """One configuration under growing load."""

    label: str
    points: list[Measurement]
    colour: str
    marker: str
    line: str


def _curve(axes: "Axes", series: Series, name: str, label: str) -> None:
    read = [(_level(m), estimate) for m in series.points if (estimate := METRICS[name].read(m)) is not None]
    if not read:
        return
    bars = [error_bars(estimate) for _, estimate in read]
    axes.errorbar(
        [level for level, _ in read],
        [estimate.value for _, estimate in read],
        yerr=([low for (low,), _ in bars], [high for _, (high,) in bars]),
        color=series.colour,
        marker=series.marker,
        linestyle=series.line,
        markersize=5,
        linewidth=1.6,
        elinewidth=1,
        capsize=2,
        label=label,
    )


def _load_series(ranking: Ranking) -> list[Series]:
    chosen = ranking.recommended or (ranking.misses[0].measurement if ranking.misses else None)
    if chosen is None:
        return []
    name = "Recommended" if ranking.recommended else "Nearest miss"
    found = [Series(name, _same_but_load(chosen, ranking), ORANGE, "D", "-")]
    base = ranking.default or next((m for m in ranking.points if m.config.server.is_default), None)
    if base is not None and not chosen.config.server.is_default:
        found.append(Series("Default", _same_but_load(base, ranking), INK, "s", "--"))
    return found


def _same_but_load(chosen: Measurement, ranking: Ranking) -> list[Measurement]:
    load = chosen.config.load
    found = [
        m
        for m in ranking.points
        if m.config.server == chosen.config.server
        and m.config.load.batch_size == load.batch_size
        and type(m.config.load.load) is type(load.load)
    ]
    return sorted(found, key=_level)


def _level(measurement: Measurement) -> float:
    return measurement.config.load.load.level


def _stack(axes: "Axes", row: int, parts: Breakdown, longest: float, labelled: set[str]) -> None:
    left = 0.0
    for part in parts.parts:
        label = part.name if part.name in labelled else "_nolegend_"
        axes.barh(row, part.ms, left=left, height=0.46, color=PART_COLOURS[part.name], label=label)
        if part.ms > 0.07 * longest:
            dark = part.name in ("Compute", "Output")
            axes.text(
                left + part.ms / 2, row, f"{part.ms:.1f}", ha="center", va="center", fontsize=9,
                color="white" if dark else INK,
            )  # fmt: skip
        left += part.ms
    axes.text(left + longest * 0.01, row, f"{parts.total_ms:.1f} ms", va="center", fontsize=9, color=INK)


def _bar_label(measurement: Measurement, ranking: Ranking, specs: Specs) -> str:
    chosen = ranking.recommended
    role = ""
    if chosen is not None and measurement.config.key == chosen.config.key:
        role = "Recommended: "
    elif measurement.config.server.is_default:
        role = "Default: "
    load = f" at {words.point(measurement.config)}"
    room = max(_BAR_LABEL_LENGTH - len(role) - len(load), 1)
    return plain(role + shorten(words.server(measurement.config.server, specs), room, placeholder=" ...") + load)


def scale_ms(axes: "Axes", which: Literal["x", "y"], values: Sequence[float]) -> None:
    """Logarithmic where latencies span more than a decade: the interesting ones are the small ones."""
    if values and max(values) > 12 * min(values):
        log_ms(axes, which)
    elif which == "x":
        axes.set_xlim(0, None)
    else:
        axes.set_ylim(0, None)


def budget_line(line: Callable[..., object], ranking: Ranking) -> None:
    for budget in ranking.budgets:
        if budget.metric == "p99_latency_ms" and budget.at_most:
            line(budget.limit, color=GREEN, linestyle=(0, (4, 3)), linewidth=1.4, label=f"Budget: {budget.limit:g} ms")


def xy(points: Sequence[Measurement]) -> list[tuple[float, float]]:
    read = [(METRICS["p99_latency_ms"].read(m), METRICS["throughput"].read(m)) for m in points]
    return [(x.value, y.value) for x, y in read if x is not None and y is not None]

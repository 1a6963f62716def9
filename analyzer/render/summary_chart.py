"""The fronts of several models in one chart."""

from collections.abc import Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from analyzer.rank.across import OwnAnswer
from analyzer.render.charts import budget_line, legend, scale_ms, xy
from analyzer.render.drawing import BLUE, GREY, INK, ORANGE, log_ms, plain, svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOOKS = tuple(zip((BLUE, ORANGE, INK, GREY, BLUE, ORANGE, INK), "os^Dv<>"))
"""Colour and marker; green is the limit's."""


def fronts(answers: Sequence[OwnAnswer]) -> str:
    """Throughput against p99 latency; empty where no model has a point with both."""
    drawn = [(answer.model, front) for answer in answers if (front := sorted(xy(answer.ranking.pareto)))]
    if not drawn:
        return ""
    latencies = [x for _, front in drawn for x, _ in front]
    rates = [y for _, front in drawn for _, y in front]

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        for (model, front), (colour, marker) in zip(drawn, cycle(_LOOKS)):
            x, y = zip(*front)
            axes.plot(
                x, y, drawstyle="steps-post", color=colour, marker=marker, markersize=5, linewidth=1.3,
                markeredgecolor="white", markeredgewidth=0.5, label=plain(model),
            )  # fmt: skip
        budget_line(axes.axvline, answers[0].ranking)
        scale_ms(axes, "x", latencies)
        axes.set(xlabel="p99 latency (ms)", ylabel="Throughput (infer/s)")
        if max(rates) > 12 * min(rates) > 0:
            log_ms(axes, "y")
        else:
            axes.set_ylim(0, None)
        legend(figure, ncols=4, handletextpad=0.4, columnspacing=1.1)

    about = "A stepped line a model: throughput rises upwards, p99 latency to the right. Better is up and left."
    return svg(paint, 4.0, "Throughput against p99 latency of each model", about)

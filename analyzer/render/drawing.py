"""The paper that charts are drawn on: one style, one way from a figure to an SVG document that a page can hold.

Equal input gives equal bytes, so pages can be compared whole.
"""

import re
from collections.abc import Callable, Sequence
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

from analyzer.domain.metrics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, INK, GREY, PALE = "#0072B2", "#D55E00", "#009E73", "#1F2933", "#7B8794", "#C3CAD3"
"""Of the Okabe-Ito set, which colour-blind readers tell apart. Series also differ in marker or lightness, for print."""

WIDTH = 8.6
"""Inches; the page scales the drawing to its own width."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "analyzer",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#E9ECF0",
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}
"""DejaVu Sans is the widest of the usual fonts and comes with matplotlib: its layouts leave room for any other."""


FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"

_IDS = re.compile(r'<g id="(?!m[0-9a-f]{10}|p[0-9a-f]{10})[^"]*">')
"""Group names of matplotlib; they repeat from chart to chart, and an id may stand only once in a page."""


def svg(paint: Callable[["Figure"], None], height: float, title: str, about: str) -> str:
    """What ``paint`` draws on an empty figure, as a document. ``about`` describes it to who can't see it."""
    # matplotlib is heavy and only a report needs it.
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure)
        text = StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _for_page(text.getvalue(), title, about)


def _for_page(drawn: str, title: str, about: str) -> str:
    """Strip what a page does not need and take the page's font."""
    body = drawn[drawn.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = _IDS.sub("<g>", body).replace("'DejaVu Sans', sans-serif", FONTS)
    body = re.sub(r"\s*\n\s*", " ", body)
    head, rest = body.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    head += f' role="img" aria-label="{escape(title)}" stroke-linejoin="round" stroke-linecap="butt"'
    return f"{head}><title>{escape(title)}</title><desc>{escape(about)}</desc>{rest}"


def log_ms(axes: "Axes", which: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def load_axis(axes: "Axes", levels: Sequence[float], closed: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    if not closed or max(levels) <= 8 * min(levels):
        if all(float(level).is_integer() for level in levels):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=8))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def error_bars(estimate: Estimate) -> tuple[tuple[float], tuple[float]]:
    """Distances to the bounds; a bound that is not known draws no bar."""
    low = 0.0 if estimate.low is None else max(0.0, estimate.value - estimate.low)
    high = 0.0 if estimate.high is None else max(0.0, estimate.high - estimate.value)
    return (low,), (high,)


def plain(text: str) -> str:
    """A model's name may hold a dollar sign, which would start a formula."""
    return text.replace("$", r"\$")

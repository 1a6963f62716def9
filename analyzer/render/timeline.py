"""A picture of some requests that came one after another: each on its own line, then the instances, then the GPU."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from analyzer.render.drawing import GREEN, INK, PALE, plain, svg
from analyzer.timeline.intervals import union
from analyzer.timeline.kinds import COMPUTE_KINDS, COPY_KINDS, GPU_KINDS, Kind, Relation
from analyzer.timeline.requests import around_median
from analyzer.timeline.table import Rows, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REQUESTS, MOST_LANES = (20, 12, 8, 5), 24
WIDE = 15
"""Where requests come so rarely that they would span more than so many of their own times, fewer are shown."""
LONG = 3
"""The axis ends so many median times after the last arrival: one request that takes far longer hides all others."""
PIXELS = 1500
"""Bars nearer than this part of the window are drawn as one."""

STAGES = ("queue", "compute_input", "compute_infer", "compute_output")
COLOURS = {
    "Server, between its parts": PALE,
    "Queue": "#E69F00",
    "Input": "#9AD0F0",
    "Compute": "#0072B2",
    "Output": "#00543C",
    "Kernels": INK,
    "Copies": GREEN,
}
"""As in the chart of where the time goes; lightness tells them apart in print."""
NAMES = dict(zip(STAGES, ("Queue", "Input", "Compute", "Output"), strict=True))

Bars = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Lane:
    """One line. ``bars`` are (begin, length) in ms, by what they are, in the order of drawing."""

    label: str
    bars: Bars


def picture(timeline: Timeline | None) -> str:
    """An SVG document; empty where there are no requests to show."""
    rows = _shown(timeline) if timeline is not None else np.zeros(0, np.intp)
    if timeline is None or not len(rows):
        return ""
    start = int(timeline.events.start_ns[rows].min())
    end = _axis_end(timeline, rows)
    beyond = _beyond(timeline, rows, start, end)
    groups = [_request_lanes(timeline, rows, start), _instance_lanes(timeline, start, end)]
    groups.append(_stream_lanes(timeline, start, end))
    lanes = [lane for group in groups for lane in group[:MOST_LANES]]
    breaks = np.cumsum([len(group[:MOST_LANES]) for group in groups])[:-1].tolist()

    def paint(figure: "Figure") -> None:
        axes = figure.subplots()
        for place, lane in enumerate(lanes):
            for name, bars in lane.bars.items():
                height = 0.8 if name not in ("Kernels", "Copies") else 0.6
                axes.broken_barh(bars, (place - height / 2, height), facecolors=COLOURS[name], linewidth=0)
        for place in breaks:
            axes.axhline(place - 0.5, color=PALE, linewidth=0.8)
        _frame(axes, lanes, (end - start) / 1e6, beyond)
        _legend(figure, lanes)

    about = (
        f"{len(rows)} requests in order of arrival, from waiting to answer; below them the instances of each model and "
        f"the streams of each GPU over the same time.{beyond and f' {beyond}.'}"
    )
    return svg(paint, 1.1 + 0.17 * len(lanes), "Requests over time", about)


def _shown(timeline: Timeline) -> Rows:
    events = timeline.events
    rows = np.zeros(0, np.intp)
    for count in REQUESTS:
        rows = around_median(timeline, count)
        if not len(rows) or np.ptp(events.start_ns[rows]) <= WIDE * np.median(events.duration_ns[rows]):
            break
    return rows


def _axis_end(timeline: Timeline, rows: Rows) -> int:
    events = timeline.events
    usual = int(events.start_ns[rows].max()) + LONG * int(np.median(events.duration_ns[rows]))
    return min(int(events.end_ns[rows].max()), usual)


def _beyond(timeline: Timeline, rows: Rows, start_ns: int, end_ns: int) -> str:
    """Says what the axis cuts off; empty where that is nothing."""
    ends = timeline.events.end_ns[rows]
    cut = (np.flatnonzero(ends > end_ns) + 1).tolist()
    if not cut:
        return ""
    last = f"until {(int(ends.max()) - start_ns) / 1e6:,.1f} ms"
    if len(cut) == 1:
        return f"Request {cut[0]} goes on beyond the right edge, {last}"
    return f"{len(cut)} requests go on beyond the right edge, the longest {last}"


def _frame(axes: "Axes", lanes: Sequence[Lane], span_ms: float, beyond: str) -> None:
    axes.set_yticks(range(len(lanes)), [plain(lane.label) for lane in lanes], fontsize=8)
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    label = "Milliseconds from the arrival of the first of these requests"
    axes.set(xlabel=f"{label}\n{beyond}" if beyond else label, xlim=(0, max(span_ms, 1e-3)))


def _legend(figure: "Figure", lanes: Sequence[Lane]) -> None:
    from matplotlib.patches import Patch

    used = {name for lane in lanes for name, bars in lane.bars.items() if bars}
    handles = [Patch(color=colour, label=name) for name, colour in COLOURS.items() if name in used]
    figure.legend(
        handles=handles, fontsize=9, loc="outside upper left", ncols=7, handletextpad=0.4, columnspacing=1.1,
        handlelength=1.2,
    )  # fmt: skip


def _request_lanes(timeline: Timeline, rows: Rows, start_ns: int) -> list[Lane]:
    """A request with all that was done for it, and for the requests that an ensemble made for its steps."""
    events = timeline.events
    batches_of = _pairs(timeline, Relation.REQUEST_BATCH)
    children_of = _pairs(timeline, Relation.REQUEST_CHILD)
    stages = timeline.rows(Kind.STAGE)
    of_request, of_batch = _by(events.request, stages), _by(events.batch, stages)
    lanes = []
    for place, row in enumerate(rows.tolist()):
        own = int(events.request[row])
        bars: Bars = {"Server, between its parts": [_bar(timeline, row, start_ns)]}
        for request in _family(own, children_of):
            mine = of_request.get(request, [])
            for batch in batches_of.get(request, []):
                mine = mine + of_batch.get(batch, [])
            for stage in mine:
                name = NAMES.get(timeline.name(stage))
                if name:
                    bars.setdefault(name, []).append(_bar(timeline, stage, start_ns))
        lanes.append(Lane(f"request {place + 1}", bars))
    return lanes


def _family(request: int, children_of: Mapping[int, list[int]]) -> list[int]:
    found = [request]
    for each in found:
        found += [child for child in children_of.get(each, []) if child not in found]
    return found


def _pairs(timeline: Timeline, relation: Relation) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for source, target in zip(*(ids.tolist() for ids in timeline.edges.of(relation)), strict=True):
        found.setdefault(source, []).append(target)
    return found


def _by(column: Rows, rows: Rows) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for key, row in zip(column[rows].tolist(), rows.tolist(), strict=True):
        if key >= 0:
            found.setdefault(key, []).append(row)
    return found


def _bar(timeline: Timeline, row: int, start_ns: int) -> tuple[float, float]:
    begin = int(timeline.events.start_ns[row])
    return (begin - start_ns) / 1e6, (int(timeline.events.end_ns[row]) - begin) / 1e6


def _instance_lanes(timeline: Timeline, start_ns: int, end_ns: int) -> list[Lane]:
    """Each instance of each model: the stages of its batches, or the batches where stages aren't known."""
    events = timeline.events
    found: dict[tuple[str, int], Bars] = {}
    stages = timeline.rows(Kind.STAGE)
    stages = stages[events.batch[stages] >= 0]
    chosen = stages if len(stages) else timeline.rows(Kind.BATCH)
    chosen = chosen[(events.end_ns[chosen] > start_ns) & (events.start_ns[chosen] < end_ns)]
    for row in chosen.tolist():
        key = (timeline.model(row), int(events.instance[row]))
        name = NAMES.get(timeline.name(row), "Compute")
        found.setdefault(key, {}).setdefault(name, []).append(_bar(timeline, row, start_ns))
    return [Lane(f"{model} instance {instance}", bars) for (model, instance), bars in sorted(found.items())]


def _stream_lanes(timeline: Timeline, start_ns: int, end_ns: int) -> list[Lane]:
    """Each stream of each GPU; a thousand kernels within a hair's breadth are one bar."""
    events = timeline.events
    work = timeline.rows(*GPU_KINDS)
    work = work[(events.end_ns[work] > start_ns) & (events.start_ns[work] < end_ns)]
    keys = np.stack([events.device[work], events.stream[work]], axis=1)
    hair = max((end_ns - start_ns) // PIXELS, 1)
    lanes = []
    for device, stream in np.unique(keys, axis=0).tolist():
        mine = work[(keys == (device, stream)).all(axis=1)]
        bars: Bars = {}
        for name, kinds in (("Kernels", COMPUTE_KINDS), ("Copies", COPY_KINDS)):
            rows = mine[np.isin(events.kind[mine], [int(kind) for kind in kinds])]
            drawn = union(events.start_ns[rows], np.maximum(events.end_ns[rows], events.start_ns[rows] + hair))
            bars[name] = [
                ((begin - start_ns) / 1e6, (end - begin) / 1e6)
                for begin, end in zip(drawn.start_ns.tolist(), drawn.end_ns.tolist(), strict=True)
            ]
        lanes.append(Lane(f"GPU {device} stream {stream}", bars))
    return lanes

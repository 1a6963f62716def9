"""A timeline as NVTXT, the text that Nsight Systems' own ``ImportNvtxt`` turns into a report or merges into one.

It knows ranges and marks on threads only: work of a GPU, requests and batches become ranges on threads of their own,
named in front of the text. Counters, arrows and ids are not written. Times are ns since the table's zero.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from analyzer.timeline.export_file import replacing
from analyzer.timeline.export_lanes import codes
from analyzer.timeline.export_tracks import Layout, layout
from analyzer.timeline.kinds import Kind
from analyzer.timeline.table import Rows, Timeline

_FIRST_THREAD = 1 << 24
"""Tracks that are no threads get numbers above those of threads."""
_FORBIDDEN = str.maketrans({'"': "'", "\n": " ", "\r": " ", "\0": " "})


def write(timeline: Timeline, path: Path) -> None:
    with replacing(path) as partial, partial.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines(timeline))


def lines(timeline: Timeline) -> Iterator[str]:
    """One block for each process and kind of event, since both are said once for all rows that follow."""
    events = timeline.events
    found = layout(timeline)
    yield "SetFileDisplayName, serving-analyzer"
    group = codes(np.maximum(events.process, 0), events.kind)[0]
    order = np.argsort(group, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(rows):
            yield from _block(timeline, found, rows)


def _block(timeline: Timeline, found: Layout, rows: Rows) -> Iterator[str]:
    events = timeline.events
    kind = Kind(events.kind[rows[0]])
    is_mark = kind is Kind.MARK
    yield "@Marker, Time, ThreadId, Message" if is_mark else "@RangeStartEnd, Start, End, ThreadId, Message"
    yield f"ProcessId = {max(0, events.process[rows[0]])}"
    yield f"CategoryId = {kind + 1}"
    yield "Color = Blue"
    yield "TimeBase = Manual"
    shift_ns = -min(0, timeline.start_ns)
    begins, ends = (events.start_ns[rows] + shift_ns).tolist(), (events.end_ns[rows] + shift_ns).tolist()
    for row, place, begin, end in zip(rows.tolist(), found.place[rows].tolist(), begins, ends, strict=True):
        thread, prefix = _thread(found, place)
        text = f"{prefix}{timeline.name(row)}".translate(_FORBIDDEN)
        times = f"Marker, {begin}" if is_mark else f"RangeStartEnd, {begin}, {end}"
        yield f'{times}, {thread}, "{text}"'


def _thread(found: Layout, place: int) -> tuple[int, str]:
    track = found.places[place]
    if track.thread >= 0:
        return track.thread, ""
    parent = found.places[track.parent] if track.parent >= 0 else None
    holder = f"{parent.name} " if parent is not None and parent.process < 0 else ""
    return _FIRST_THREAD + place, f"[{holder}{track.name}] "

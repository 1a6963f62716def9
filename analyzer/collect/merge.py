"""Timelines of several collectors over one window to one: their clocks laid on each other by their anchors."""

from collections.abc import Callable, Sequence

import numpy as np

from analyzer.errors import InputError
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kinds import Relation
from analyzer.timeline.table import DTYPES, Meta, Timeline

_COPIED = tuple(DTYPES.keys() - {"kind", "start_ns", "end_ns", "name_id", "model_id", "parent"})


Align = Callable[[Timeline, Timeline, int], int]


def merged(timelines: Sequence[Timeline], align: Align | None = None) -> Timeline:
    """On the clock of the first. ``align`` corrects what is added to another's times to be such of the first.

    Raises InputError where another has no clock in common with it.
    """
    first = timelines[0]
    build = TimelineBuilder()
    position = 0
    for timeline in timelines:
        shift_ns = _shift_ns(first, timeline)
        if align is not None and timeline is not first:
            shift_ns = align(timeline, first, shift_ns)
        _add(build, timeline, shift_ns, position)
        position += len(timeline)
    return build.build(
        _meta(timelines),
        tracks=tuple(dict.fromkeys(track for timeline in timelines for track in timeline.tracks)),
        devices=tuple(dict.fromkeys(device for timeline in timelines for device in timeline.devices)),
        anchors=first.anchors,
    )


def _shift_ns(first: Timeline, other: Timeline) -> int:
    """What is added to a time of ``other`` to be one of ``first``."""
    theirs = {anchor.clock: anchor.offset_ns for anchor in other.anchors}
    for anchor in first.anchors:
        if anchor.clock in theirs:
            return theirs[anchor.clock] - anchor.offset_ns
    raise InputError(
        f"the capture of {other.meta.producer} names no clock that {first.meta.producer} has too, so it can't be laid "
        "beside it; analyze it by itself"
    )


def _add(build: TimelineBuilder, timeline: Timeline, shift_ns: int, position: int) -> None:
    _add_counters(build, timeline, shift_ns)
    events = timeline.events
    if not len(events):
        return
    names = build.name_ids(timeline.names)
    model = np.where(events.model_id >= 0, names[np.maximum(events.model_id, 0)], -1)
    columns = {name: getattr(events, name) for name in _COPIED}
    parent = np.where(events.parent >= 0, events.parent + position, -1)
    build.add(
        events.kind, events.start_ns + shift_ns, events.end_ns + shift_ns, names[events.name_id],
        model_id=model, parent=parent, **columns,
    )  # fmt: skip
    for relation in Relation:
        source, target = timeline.edges.of(relation)
        if len(source):
            build.link(relation, source, target)


def _add_counters(build: TimelineBuilder, timeline: Timeline, shift_ns: int) -> None:
    counters = timeline.counters
    for place, series in enumerate(counters.series):
        chosen = counters.series_id == place
        build.sample(series, counters.time_ns[chosen] + shift_ns, counters.value[chosen])


def _meta(timelines: Sequence[Timeline]) -> Meta:
    metas = [timeline.meta for timeline in timelines]
    dropped: dict[str, int] = {}
    for meta in metas:
        for kind, count in meta.dropped.items():
            dropped[kind] = dropped.get(kind, 0) + count
    return Meta(
        producer=" + ".join(dict.fromkeys(meta.producer for meta in metas)),
        producer_version=metas[0].producer_version,
        collected=tuple(dict.fromkeys(kind for meta in metas for kind in meta.collected)),
        partial=any(meta.partial for meta in metas),
        dropped=dropped,
        warnings=tuple(dict.fromkeys(text for meta in metas for text in meta.warnings)),
    )

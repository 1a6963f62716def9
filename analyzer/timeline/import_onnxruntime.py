"""A profile that ONNX Runtime wrote (``enable_profiling``) to a Timeline.

Its times are µs since profiling began, which the file does not say: ``begin_utc_ns``, the session's
``get_profiling_start_time_ns()``, ties them to the wall clock.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from analyzer.errors import InputError
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.chrome_json import Slice, TraceReader, lengths_ns
from analyzer.timeline.kinds import Kind
from analyzer.timeline.table import ABSENT, Anchor, Meta, Timeline
from analyzer.timeline.trace_columns import NumberedName, TraceColumns

_KINDS = {"Session": Kind.RANGE, "Node": Kind.OPERATOR}
_NODE_SUFFIX = "_kernel_time"
_FENCES = ("_fence_before", "_fence_after")
"""Older versions write fences around each node too; a node's own time is its kernel's."""
_RESOLUTION_NS = 1000


def is_profile(reader: TraceReader, first: Slice) -> bool:
    return reader.is_list and any(event.cat in _KINDS for event in first.events[:100])


def read(path: Path, begin_utc_ns: int | None = None) -> Timeline:
    reader = TraceReader(path)
    return from_slices(reader, iter(reader), begin_utc_ns)


def from_slices(reader: TraceReader, slices: Iterator[Slice], begin_utc_ns: int | None = None) -> Timeline:
    """Runs and stages of the session become ranges, nodes operators within them."""
    build = TimelineBuilder()
    columns = TraceColumns(lambda phase, category, name: _told(build, phase, category, name), build.name_id)
    for part in slices:
        length, (codes, _, kinds) = lengths_ns(part.events), columns.codes(part.events)
        rows = np.flatnonzero((kinds >= 0) & part.is_timed & (length >= 0))
        start = part.start_ns[rows]
        columns.add([part.events[row] for row in rows.tolist()], codes[rows], start, start + length[rows])
    found = columns.joined()
    if not found:
        raise InputError(
            f"{reader.path} has no events of ONNX Runtime; end the session's profiling before its file is read"
        )
    count = len(found["kind"])
    told = {name: found[name] for name in ("kind", "start_ns", "end_ns", "name_id", "thread")}
    told |= {"process": found["pid"], "bytes": found["output_size"]}
    del found  # columns that say nothing here
    build.add(**told)
    del told  # so that the builder holds the only copy, which it frees as it goes
    cut = f"the file is cut off; {count} events before the cut were read"
    meta = Meta(
        producer="ONNX Runtime",
        collected=(Kind.RANGE.name.lower(), Kind.OPERATOR.name.lower()),
        partial=reader.is_cut,
        warnings=(*((cut,) if reader.is_cut else ()), "no GPU activity in the capture"),
    )
    anchors = () if begin_utc_ns is None else (Anchor(clock="utc", offset_ns=begin_utc_ns, residual_ns=_RESOLUTION_NS),)
    return build.build(meta, anchors=anchors, nesting=[Kind.RANGE, Kind.OPERATOR])


def _told(build: TimelineBuilder, phase: str, category: str | None, name: str | None) -> NumberedName | None:
    kind = _KINDS.get(category or "")
    if phase != "X" or kind is None or (name or "").endswith(_FENCES):
        return None
    return kind, build.name_id((name or "(no name)").removesuffix(_NODE_SUFFIX)), (ABSENT, ABSENT, ABSENT)

"""A profile that ONNX Runtime wrote (``enable_profiling``) to a Timeline.

Its times are µs since profiling began, which the file does not say: ``begin_utc_ns``, the session's
``get_profiling_start_time_ns()``, ties them to the wall clock.
"""

from pathlib import Path

import msgspec
import numpy as np

from analyzer.errors import InputError
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.chrome_json import TraceEvent, TraceFile, in_range, read_trace, small_id, time_ns
from analyzer.timeline.table import ABSENT, Anchor, Kind, Meta, Timeline

CATEGORIES = {"Session", "Node"}
_NODE_SUFFIX = "_kernel_time"
_RESOLUTION_NS = 1000


class _NodeArgs(msgspec.Struct):
    output_size: int = ABSENT


_ARGS = msgspec.json.Decoder(_NodeArgs, strict=False)


def is_profile(trace: TraceFile) -> bool:
    return trace.is_list and any(event.cat in CATEGORIES for event in trace.traceEvents[:100])


def read(path: Path, begin_utc_ns: int | None = None) -> Timeline:
    return from_trace(read_trace(path), str(path), begin_utc_ns)


def from_trace(trace: TraceFile, source: str, begin_utc_ns: int | None = None) -> Timeline:
    """Runs and stages of the session become ranges, nodes operators within them."""
    chosen = [
        event for event in trace.traceEvents if event.cat in CATEGORIES and event.ts is not None and _is_whole(event)
    ]
    if not chosen:
        raise InputError(f"{source} has no events of ONNX Runtime; end the session's profiling before its file is read")
    build = TimelineBuilder()
    start = np.array([time_ns(event.ts) for event in chosen], np.int64)
    length = np.array([time_ns(event.dur) for event in chosen], np.int64)
    build.add(
        [Kind.OPERATOR if event.cat == "Node" else Kind.RANGE for event in chosen],
        start,
        start + length,
        build.name_ids((event.name or "(no name)").removesuffix(_NODE_SUFFIX) for event in chosen),
        process=[small_id(event.pid) for event in chosen],
        thread=[small_id(event.tid) for event in chosen],
        bytes=[_output_bytes(event) for event in chosen],
    )
    cut = f"the file is cut off; {len(chosen)} events before the cut were read"
    meta = Meta(
        producer="ONNX Runtime",
        collected=(Kind.RANGE.name.lower(), Kind.OPERATOR.name.lower()),
        partial=trace.is_cut,
        warnings=(*((cut,) if trace.is_cut else ()), "no GPU activity in the capture"),
    )
    anchors = () if begin_utc_ns is None else (Anchor(clock="utc", offset_ns=begin_utc_ns, residual_ns=_RESOLUTION_NS),)
    return build.build(meta, anchors=anchors, nesting=[Kind.RANGE, Kind.OPERATOR])


def _is_whole(event: TraceEvent) -> bool:
    """Older versions write fences around each node too; a node's own time is its kernel's."""
    if not (in_range(time_ns(event.ts)) and in_range(time_ns(event.ts) + time_ns(event.dur))):
        return False
    return event.ph == "X" and not (event.name or "").endswith(("_fence_before", "_fence_after"))


def _output_bytes(event: TraceEvent) -> int:
    try:
        return min(_ARGS.decode(event.args).output_size, 2**62)
    except msgspec.MsgspecError:
        return ABSENT

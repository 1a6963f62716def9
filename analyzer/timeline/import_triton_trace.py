"""Traces of requests that Triton, or our own runtime, wrote (``--trace-config triton,file=...``) to a Timeline.

A trace has the id, the model and the stamps of one request, in any number of entries and in any order. Its times are of
CLOCK_MONOTONIC, as ours. Requests of one model with the same begin of their computing were executed together.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from analyzer.errors import InputError
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.json_slices import EventSlices, chunks
from analyzer.timeline.kinds import Kind, Relation
from analyzer.timeline.table import Meta, Timeline

_Number = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
_BEGIN = re.compile(
    rb'\s*\[\s*\{\s*"id"\s*:\s*\d+\s*,\s*"(?:model_name|timestamps|activity)"\s*:',
)
_ARRIVALS = ("HTTP_RECV_START", "GRPC_WAITREAD_END", "REQUEST_START")
"""The first that a trace has counts. gRPC's begin of reading is when the server began to wait for the request."""
_ANSWERS = ("HTTP_SEND_END", "GRPC_SEND_END", "REQUEST_END")
_STAGES = (
    ("compute_input", "COMPUTE_START", "COMPUTE_INPUT_END"),
    ("compute_infer", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START"),
    ("compute_output", "COMPUTE_OUTPUT_START", "COMPUTE_END"),
)
_COLLECTED = (Kind.REQUEST, Kind.BATCH, Kind.STEP, Kind.STAGE)


class _Stamp(msgspec.Struct, gc=False):
    name: str
    ns: _Number


class _Entry(msgspec.Struct, gc=False):
    """Tensors, which it may have besides, are not read."""

    id: _Number
    model_name: str = ""
    parent_id: _Number = 0
    timestamps: list[_Stamp] = []


_ENTRIES = msgspec.json.Decoder(list[_Entry])
_RAW_ENTRIES = msgspec.json.Decoder(list[msgspec.Raw])
_ENTRY = msgspec.json.Decoder(_Entry)


@dataclass(slots=True)
class _Trace:
    """``stamps`` has the last of each name: a model that answers many times has many sendings."""

    model: str = "(unknown model)"
    parent: int = 0
    stamps: dict[str, int] = field(default_factory=dict)

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """From its arrival to its last answer; None where the file does not say."""
        begin_ns = next((self.stamps[name] for name in _ARRIVALS if name in self.stamps), None)
        end_ns = next((self.stamps[name] for name in _ANSWERS if name in self.stamps), None)
        return None if begin_ns is None or end_ns is None else (begin_ns, end_ns)


def is_trace(head: bytes) -> bool:
    """By the first bytes of a file."""
    return _BEGIN.match(head) is not None


def read(path: Path) -> Timeline:
    """Raises InputError."""
    reader = _Reader(path)
    traces = reader.traces()
    whole = {number: trace for number, trace in traces.items() if trace.span_ns is not None}
    if not whole:
        raise InputError(
            f"{path} has no whole trace of a request; trace with level=TIMESTAMPS until requests have ended"
        )
    build = TimelineBuilder()
    _add_requests(build, whole)
    _add_batches(build, whole)
    _add_steps(build, whole)
    cut = f"the file is cut off; {len(whole)} traces before the cut were read"
    odd = f"{reader.odd_count} entries of the file are no part of a trace"
    meta = Meta(
        producer="Triton trace",
        collected=tuple(kind.name.lower() for kind in _COLLECTED),
        partial=reader.is_cut or len(whole) < len(traces) or reader.odd_count > 0,
        dropped={"request": len(traces) - len(whole)} if len(whole) < len(traces) else {},
        warnings=(
            *((cut,) if reader.is_cut else ()),
            *((odd,) if reader.odd_count else ()),
            "sizes of batches count traced requests, not rows; instances are told apart by batches that overlap",
            "no GPU activity in the capture",
        ),
    )
    return build.build(meta)


class _Reader:
    def __init__(self, path: Path) -> None:
        self._slices = EventSlices(chunks(path), self._decode)
        self.odd_count = 0

    @property
    def is_cut(self) -> bool:
        return self._slices.is_cut

    def traces(self) -> dict[int, _Trace]:
        found: dict[int, _Trace] = {}
        for entries in self._slices:
            for entry in entries:
                trace = found.setdefault(entry.id, _Trace())
                if entry.model_name:
                    trace.model, trace.parent = entry.model_name, entry.parent_id
                for stamp in entry.timestamps:
                    trace.stamps[stamp.name] = max(stamp.ns, trace.stamps.get(stamp.name, 0))
        return found

    def _decode(self, raw: bytes) -> Sequence[_Entry]:
        try:
            return _ENTRIES.decode(raw)
        except msgspec.ValidationError:
            return list(self._readable(raw))

    def _readable(self, raw: bytes) -> Iterator[_Entry]:
        for each in _RAW_ENTRIES.decode(raw):
            try:
                yield _ENTRY.decode(each)
            except msgspec.ValidationError:
                self.odd_count += 1


def _add_requests(build: TimelineBuilder, traces: dict[int, _Trace]) -> None:
    spans = np.array([trace.span_ns for trace in traces.values()], np.int64)
    models = build.name_ids(trace.model for trace in traces.values())
    ids = np.fromiter(traces, np.int64)
    build.add(Kind.REQUEST, spans[:, 0], spans[:, 1], build.name_id("request"), model_id=models, request=ids)
    for number, trace in traces.items():
        queued_ns, left_ns = trace.stamps.get("QUEUE_START"), trace.stamps.get("COMPUTE_START")
        if queued_ns is not None and left_ns is not None:
            model = build.name_id(trace.model)
            build.add(Kind.STAGE, queued_ns, left_ns, build.name_id("queue"), model_id=model, request=number)


def _add_batches(build: TimelineBuilder, traces: dict[int, _Trace]) -> None:
    """Those of the requests that were traced: others may have been executed with them."""
    together: dict[tuple[str, int], list[int]] = {}
    for number, trace in traces.items():
        if "COMPUTE_START" in trace.stamps and "COMPUTE_END" in trace.stamps:
            together.setdefault((trace.model, trace.stamps["COMPUTE_START"]), []).append(number)
    lanes: dict[str, list[int]] = {}
    for batch, ((model, begin_ns), members) in enumerate(sorted(together.items(), key=lambda item: item[0][1]), 1):
        stamps = traces[members[0]].stamps
        instance = _free_lane(lanes.setdefault(model, []), begin_ns, stamps["COMPUTE_END"])
        model_id = build.name_id(model)
        build.add(
            Kind.BATCH, begin_ns, stamps["COMPUTE_END"], build.name_id("batch"),
            model_id=model_id, instance=instance, batch=batch, size=len(members),
        )  # fmt: skip
        for stage, first, last in _STAGES:
            if first in stamps and last in stamps:
                name = build.name_id(stage)
                columns = {"model_id": model_id, "instance": instance, "batch": batch}
                build.add(Kind.STAGE, stamps[first], stamps[last], name, **columns)
        build.link(Relation.REQUEST_BATCH, np.array(members), batch)
        steps = [number for number in members if traces[number].parent in traces]
        if steps:
            build.link(Relation.BATCH_STEP, batch, np.array(steps))


def _free_lane(ends_ns: list[int], begin_ns: int, end_ns: int) -> int:
    """The first lane that is free then; ``ends_ns`` has what each is taken until."""
    lane = next((lane for lane, taken_ns in enumerate(ends_ns) if taken_ns <= begin_ns), len(ends_ns))
    ends_ns[lane : lane + 1] = [end_ns]
    return lane


def _add_steps(build: TimelineBuilder, traces: dict[int, _Trace]) -> None:
    """A request that an ensemble made is also a step of the ensemble's; both have the same number."""
    for number, trace in traces.items():
        span_ns = trace.span_ns
        if trace.parent not in traces or trace.parent == number or span_ns is None:
            continue
        model = build.name_id(trace.model)
        build.add(Kind.STEP, *span_ns, model, model_id=model, request=trace.parent, step=number)
        build.link(Relation.REQUEST_STEP, trace.parent, number)
        build.link(Relation.REQUEST_CHILD, trace.parent, number)

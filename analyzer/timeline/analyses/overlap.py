"""Whether lanes, such as the streams of a device or the instances of a model, work at the same time or take turns."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from analyzer.domain.record import Record
from analyzer.timeline.analyses.busy import active, device_name
from analyzer.timeline.intervals import at_least, intersect
from analyzer.timeline.kinds import COMPUTE_KINDS, Kind
from analyzer.timeline.table import Rows, Timeline

MAX_PAIRED_LANES = 32


class Lane(Record, frozen=True):
    name: str
    busy_ns: int


class PairOverlap(Record, frozen=True):
    one: str
    other: str
    both_ns: int


class Overlap(Record, frozen=True):
    """Lanes of one group. ``union_ns``: any worked; ``shared_ns``: two or more did."""

    group: str
    lanes: tuple[Lane, ...]
    union_ns: int
    shared_ns: int
    pairs: tuple[PairOverlap, ...]

    @property
    def shared_ratio(self) -> float:
        return self.shared_ns / self.union_ns if self.union_ns else 0.0


def stream_overlap(timeline: Timeline) -> tuple[Overlap, ...]:
    """Kernels of each device, by stream. Processes number their streams apart, so both name a lane."""
    events = timeline.events
    rows = timeline.rows(*COMPUTE_KINDS)
    found = []
    for device in np.unique(events.device[rows]).tolist():
        mine = rows[events.device[rows] == device]
        keys = np.stack([events.process[mine], events.stream[mine]], axis=1)
        lanes = {
            f"process {process} stream {stream}" if len(np.unique(keys[:, 0])) > 1 else f"stream {stream}": mine[
                (keys == (process, stream)).all(axis=1)
            ]
            for process, stream in np.unique(keys, axis=0).tolist()
        }
        found.append(_overlap(timeline, device_name(timeline, device), lanes))
    return tuple(found)


def instance_overlap(timeline: Timeline, *kinds: Kind) -> tuple[Overlap, ...]:
    """Instances of each model: by their batches, or by the kernels that are known to be theirs if those are named."""
    events = timeline.events
    rows = timeline.rows(*(kinds or (Kind.BATCH,)))
    rows = rows[(events.model_id[rows] >= 0) & (events.instance[rows] >= 0)]
    found = []
    for model in np.unique(events.model_id[rows]).tolist():
        mine = rows[events.model_id[rows] == model]
        numbers = np.unique(events.instance[mine]).tolist()
        lanes = {f"instance {number}": mine[events.instance[mine] == number] for number in numbers}
        found.append(_overlap(timeline, timeline.names[model], lanes))
    return tuple(found)


def _overlap(timeline: Timeline, group: str, rows_by_lane: Mapping[str, Rows]) -> Overlap:
    lanes = {name: active(timeline, rows) for name, rows in rows_by_lane.items()}
    starts = np.concatenate([each.start_ns for each in lanes.values()])
    ends = np.concatenate([each.end_ns for each in lanes.values()])
    paired = combinations(lanes, 2) if len(lanes) <= MAX_PAIRED_LANES else ()
    pairs = [
        PairOverlap(one=one, other=other, both_ns=intersect(lanes[one], lanes[other]).total_ns) for one, other in paired
    ]
    return Overlap(
        group=group,
        lanes=tuple(Lane(name=name, busy_ns=each.total_ns) for name, each in lanes.items()),
        union_ns=at_least(starts, ends, 1).total_ns,
        shared_ns=at_least(starts, ends, 2).total_ns,
        pairs=tuple(pairs),
    )

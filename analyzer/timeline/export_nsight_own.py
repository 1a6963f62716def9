"""The tables of our own in an SQLite file of Nsight's shape: the ids that Nsight has no columns for."""

from typing import Any

import numpy as np

from analyzer.timeline import nsight_own
from analyzer.timeline.export_nsight_schema import TableWriter, nullable
from analyzer.timeline.kinds import GPU_KINDS, Kind, Relation
from analyzer.timeline.table import Rows, Timeline

OWN_KINDS = (Kind.CLIENT_REQUEST, Kind.REQUEST, Kind.BATCH, Kind.STEP, Kind.STAGE, Kind.OPERATOR)
"""What Nsight has no table for."""


def write_own(timeline: Timeline, tables: TableWriter) -> None:
    events, rows = timeline.events, timeline.rows(*OWN_KINDS)
    names = [timeline.name(row) for row in rows.tolist()]
    more = {
        "threadId": events.thread[rows],
        "endThreadId": events.end_thread[rows],
        "size": events.size[rows],
        "bytes": events.bytes[rows],
    }
    told = {name: nullable(column) for name, column in more.items()}
    tables.insert(nsight_own.EVENTS, {**_identity(timeline, rows), "name": names, **told})
    for kind in GPU_KINDS:
        _write_owners(timeline, tables, timeline.rows(kind))
    edges = timeline.edges
    relations = [Relation(each).name.lower() for each in edges.relation.tolist()]
    tables.insert(nsight_own.EDGES, {"relation": relations, "source": edges.source, "target": edges.target})
    _write_counters(timeline, tables)


def _write_owners(timeline: Timeline, tables: TableWriter, rows: Rows) -> None:
    """Whose work the rows of one kind are; rows stand in the table of their kind in the same order."""
    events = timeline.events
    owned = (events.batch[rows] >= 0) | (events.model_id[rows] >= 0) | (events.request[rows] >= 0)
    place = np.flatnonzero(owned)
    work = rows[place]
    where = ("correlation", "correlationId"), ("device", "deviceId"), ("stream", "streamId")
    told = {column: nullable(getattr(events, name)[work]) for name, column in where}
    tables.insert(nsight_own.WORK, {**_identity(timeline, work), "ordinal": place, **told})


def _identity(timeline: Timeline, rows: Rows) -> dict[str, Any]:
    events = timeline.events
    return {
        "kind": [Kind(each).name.lower() for each in events.kind[rows].tolist()],
        "start": events.start_ns[rows],
        "end": events.end_ns[rows],
        "processId": nullable(events.process[rows]),
        "model": [timeline.model(row) or None for row in rows.tolist()],
        **{name: nullable(getattr(events, name)[rows]) for name in ("instance", "request", "batch", "step")},
    }


def _write_counters(timeline: Timeline, tables: TableWriter) -> None:
    counters = timeline.counters
    series = [counters.series[each] for each in counters.series_id.tolist()]
    values = {
        "name": [each.name for each in series],
        "unit": [each.unit for each in series],
        "deviceId": [None if each.device < 0 else each.device for each in series],
        "processId": [None if each.process < 0 else each.process for each in series],
    }
    tables.insert(nsight_own.COUNTERS, {**values, "time": counters.time_ns, "value": counters.value})

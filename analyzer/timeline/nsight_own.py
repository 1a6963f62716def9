"""The tables that ``export_nsight`` adds to a file of Nsight's shape, read back: what Nsight has no place for."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec
import numpy as np

from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kinds import Kind, Relation
from analyzer.timeline.nsight_tables import NsightTables
from analyzer.timeline.table import ABSENT, DTYPES, Anchor, Column, Meta, Series, Track

OWN_VERSION = "ANALYZER_TABLES_VERSION"
OWN_FACTS = ("ANALYZER_META", "ANALYZER_TRACKS", "ANALYZER_ANCHORS")
EVENTS, WORK, EDGES, COUNTERS = "ANALYZER_EVENTS", "ANALYZER_WORK", "ANALYZER_EDGES", "ANALYZER_COUNTERS"
_OWNER = {"instance": "instance", "request": "request", "batch": "batch", "step": "step"}
_COLUMNS = {
    **_OWNER,
    "process": "processId",
    "thread": "threadId",
    "end_thread": "endThreadId",
    "size": "size",
    "bytes": "bytes",
}
"""Columns of the event table and of ours in the file."""
COLUMNS = {
    EVENTS: f"kind name model start end {' '.join(_COLUMNS.values())}",
    WORK: f"kind model ordinal {' '.join(_OWNER.values())}",
    EDGES: "relation source target",
    COUNTERS: "name unit deviceId processId time value",
}
"""What is read of each table."""
_KINDS = {kind.name.lower(): kind for kind in Kind}
_RELATIONS = {relation.name.lower(): relation for relation in Relation}
T = TypeVar("T")


def add_events(tables: NsightTables, build: TimelineBuilder) -> None:
    """Requests, batches, steps, stages and operators; then the edges between them, and the counters."""
    names = ("start", "end", *_COLUMNS.values())
    rows = tables.read(EVENTS, names)
    texts = tables.rows(EVENTS, ("kind", "name", "model"))[: len(rows["start"])]
    rows = {name: column[: len(texts)] for name, column in rows.items()}
    kinds = np.array([_KINDS.get(str(kind), ABSENT) for kind, _, _ in texts], np.int64)
    kept = np.flatnonzero((kinds >= 0) & _fits(rows))
    build.add(
        kinds[kept],
        rows["start"][kept],
        rows["end"][kept],
        build.name_ids(str(texts[row][1]) for row in kept.tolist()),
        model_id=_models(build, [texts[row][2] for row in kept.tolist()]),
        **{column: rows[name][kept] for column, name in _COLUMNS.items()},
    )
    _link(tables, build)
    _sample(tables, build)


def owners(tables: NsightTables, build: TimelineBuilder, kind: Kind, count: int) -> dict[str, Column]:
    """The model, instance, request, batch and step of each row in the table of a kind; nothing where none is known."""
    if WORK not in tables.names:
        return {}
    where = f"kind = '{kind.name.lower()}'"
    rows = tables.read(WORK, ("ordinal", *_OWNER.values()), where)
    models = tables.rows(WORK, ("model",), where)[: len(rows["ordinal"])]
    place = rows["ordinal"][: len(models)]
    kept = (place >= 0) & (place < count)
    if not kept.any():
        return {}
    found = {"model_id": _models(build, [model for (model,) in models]), **{own: rows[own] for own in _OWNER}}
    made = {}
    for name, column in found.items():
        made[name] = np.full(count, ABSENT, np.int64)
        made[name][place[kept]] = column[: len(models)][kept]
    return made


def fact(tables: NsightTables, name: str, kind: type[T]) -> T | None:
    """One of ``OWN_FACTS``; None where the file has none that can be read."""
    for (value,) in tables.rows("META_DATA_EXPORT", ("value",), f"name = '{name}'"):
        try:
            return msgspec.json.decode(str(value), type=kind)
        except (msgspec.MsgspecError, UnicodeError):
            return None
    return None


def meta(tables: NsightTables) -> Meta | None:
    return fact(tables, OWN_FACTS[0], Meta)


def tracks(tables: NsightTables) -> tuple[Track, ...] | None:
    return fact(tables, OWN_FACTS[1], tuple[Track, ...])


def anchors(tables: NsightTables) -> tuple[Anchor, ...] | None:
    return fact(tables, OWN_FACTS[2], tuple[Anchor, ...])


def _fits(rows: dict[str, Column]) -> Column:
    """Whether all values fit the columns of the table: a damaged file may hold any."""
    found = np.ones(len(rows["start"]), np.bool_)
    for column, name in _COLUMNS.items():
        found &= (rows[name] >= ABSENT) & (rows[name] <= np.iinfo(DTYPES[column]).max)
    return found


def _models(build: TimelineBuilder, names: Sequence[object]) -> Column:
    ids = {name: ABSENT if name is None else build.name_id(str(name)) for name in dict.fromkeys(names)}
    return np.array([ids[name] for name in names], np.int64)


def _link(tables: NsightTables, build: TimelineBuilder) -> None:
    for name, relation in _RELATIONS.items():
        rows = tables.read(EDGES, ("source", "target"), f"relation = '{name}'")
        if len(rows["source"]):
            build.link(relation, rows["source"], rows["target"])


def _sample(tables: NsightTables, build: TimelineBuilder) -> None:
    wanted = ("name", "unit", "deviceId", "processId", "time", "value")
    samples: dict[Series, tuple[list[int], list[float]]] = {}
    for name, unit, device, process, at, value in tables.rows(COUNTERS, wanted):
        if not (isinstance(at, int) and isinstance(value, int | float)):
            continue
        numbers = [each if isinstance(each, int) else ABSENT for each in (device, process)]
        series = Series(name=str(name), unit=str(unit or ""), device=numbers[0], process=numbers[1])
        times, values = samples.setdefault(series, ([], []))
        times.append(at)
        values.append(float(value))
    for series, (times, values) in samples.items():
        build.sample(series, times, values)

"""NVTX ranges and marks of an Nsight Systems export, with the names of their domains before their own."""

from dataclasses import dataclass

import numpy as np

from analyzer.timeline import nsight_own
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kinds import Kind
from analyzer.timeline.nsight_tables import NsightTables, process_of, thread_of
from analyzer.timeline.table import ABSENT, Column, Ns, Series

_KINDS = {
    "NvtxMark": (34, Kind.MARK),
    "NvtxtMark": (65, Kind.MARK),
    "NvtxPushPopRange": (59, Kind.RANGE),
    "NvtxtPushPopRange": (70, Kind.RANGE),
    "NvtxStartEndRange": (60, Kind.SPAN),
    "NvtxtStartEndRange": (71, Kind.SPAN),
}
"""Event types and the numbers they have where the file has no table of them."""
_DOMAIN_TYPE = 75
_PAYLOADS = ("int64Value", "int32Value", "uint64Value", "uint32Value")
_COLUMNS = ("start", "end", "eventType", "textId", "globalTid", "endGlobalTid", "domainId", *_PAYLOADS)


@dataclass(frozen=True, slots=True)
class Ranges:
    kind: Column
    start_ns: Ns
    end_ns: Ns
    names: list[str]
    process: Column
    thread: Column
    end_thread: Column
    size: Column
    unclosed_count: int


def read_ranges(tables: NsightTables, strings: dict[int, str], end_ns: int) -> Ranges:
    """Ranges in order of the file. One without an end gets that of the capture, which is at least ``end_ns``."""
    kinds = _kinds(tables)
    where = f'"eventType" IN ({",".join(map(str, kinds))})'
    if nsight_own.EVENTS in tables.names:
        where += ' AND "domainId" = 0'  # what stands in the other domains is read from there
    rows = tables.read("NVTX_EVENTS", _COLUMNS, where)
    texts = [text for (text,) in tables.rows("NVTX_EVENTS", ("text",), where)][: len(rows["start"])]
    start, end = rows["start"], rows["end"].copy()
    kind = np.array([kinds[each] for each in rows["eventType"].tolist()], np.int8)
    mark = kind == Kind.MARK
    unclosed = (end == ABSENT) & ~mark
    last = max([end_ns, *(int(each.max()) for each in (start, end) if len(each))])
    end[mark], end[unclosed] = start[mark], last
    process, thread, end_thread = (
        process_of(rows["globalTid"]),
        thread_of(rows["globalTid"]),
        thread_of(rows["endGlobalTid"]),
    )
    end_thread = np.where(end_thread == thread, ABSENT, end_thread)
    domains = _domains(tables, strings)
    prefixes = [domains.get(key) for key in zip(process.tolist(), rows["domainId"].tolist(), strict=True)]
    names = _names(strings, texts, rows["textId"], prefixes)
    return Ranges(kind, start, end, names, process, thread, end_thread, _payload(rows), int(unclosed.sum()))


def _kinds(tables: NsightTables) -> dict[int, Kind]:
    """Numbers of the event types; the file's own where it lists them."""
    own = {name: int(str(key)) for key, name in tables.rows("ENUM_NSYS_EVENT_TYPE", ("id", "name"))}
    return {own.get(name, number): kind for name, (number, kind) in _KINDS.items()}


def _names(strings: dict[int, str], texts: list[object], text_id: Column, prefixes: list[str | None]) -> list[str]:
    """``domain:text``, and plain text in the default domain, which has no name."""
    found = []
    for text, string, prefix in zip(texts, text_id.tolist(), prefixes, strict=True):
        name = strings.get(string, "(no name)") if text is None else str(text)
        found.append(f"{prefix}:{name}" if prefix else name)
    return found


def _domains(tables: NsightTables, strings: dict[int, str]) -> dict[tuple[int, int], str]:
    where = f'"eventType" = {_DOMAIN_TYPE}'
    rows = tables.read("NVTX_EVENTS", ("globalTid", "domainId", "textId"), where)
    texts = tables.rows("NVTX_EVENTS", ("text",), where)
    keys = zip(process_of(rows["globalTid"]).tolist(), rows["domainId"].tolist(), strict=True)
    return {
        key: strings.get(string, "") if text is None else str(text)
        for key, string, (text,) in zip(keys, rows["textId"].tolist(), texts, strict=False)
    }


def _payload(rows: dict[str, Column]) -> Column:
    """The whole number that a range carries, where it fits the column."""
    size = np.full(len(rows["start"]), ABSENT, np.int64)
    for name in _PAYLOADS:
        size = np.where(size == ABSENT, rows[name], size)
    return np.where((size < 0) | (size > 2**31 - 1), ABSENT, size)


def add_metrics(tables: NsightTables, build: TimelineBuilder) -> None:
    """The GPU's hardware counters. Their ids are not stable between captures, so names are what tells them."""
    rows = tables.read("GPU_METRICS", ("timestamp", "typeId", "metricId", "value"))
    if not len(rows["timestamp"]):
        return
    wanted = ("typeId", "metricId", "metricName")
    names = {
        (int(str(kind)), int(str(key))): str(name)
        for kind, key, name in tables.rows("TARGET_INFO_GPU_METRICS", wanted)
        if name is not None
    }
    pairs = np.unique(np.stack([rows["typeId"], rows["metricId"]], axis=1), axis=0)
    for kind, key in pairs.tolist():
        chosen = (rows["typeId"] == kind) & (rows["metricId"] == key)
        name = names.get((kind, key), f"metric {key}")
        series = Series(name=name, unit="%" if "%" in name else "", device=kind & 0xFF)
        build.sample(series, rows["timestamp"][chosen], rows["value"][chosen])

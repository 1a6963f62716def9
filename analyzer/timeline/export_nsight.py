"""A timeline as an SQLite file in the shape of an Nsight Systems export, for the tools that read those.

What Nsight has no table for is written twice. Requests, batches, steps, stages and operators are NVTX ranges in a
domain of their kind, so that every viewer shows them; with all their ids they stand in ``ANALYZER_EVENTS``. Which batch
and model device work belongs to is in ``ANALYZER_WORK``, by its place in the table of its kind; edges and counters have
tables of their own too. ``nsight_own`` reads all of that back.
An environment or a command line is never written.
"""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from analyzer.errors import InputError
from analyzer.timeline.export_file import replacing
from analyzer.timeline.export_nsight_own import OWN_KINDS, write_own
from analyzer.timeline.export_nsight_schema import SCHEMA_VERSION, TableWriter, nullable
from analyzer.timeline.kernel_names import demangled, mangled, short_name
from analyzer.timeline.kinds import COPY_NAMES, GPU_KINDS, SYNC_NAMES, Kind, MemoryKind
from analyzer.timeline.nsight_own import OWN_FACTS, OWN_VERSION
from analyzer.timeline.table import ABSENT, Column, Rows, Timeline
from perf_client.version import __version__

_CUPTI = "CUPTI_ACTIVITY_KIND_"
_MACHINE = 1 << 48
_MARK, _RANGE, _SPAN, _DOMAIN = 34, 59, 60, 75
_EVENT_TYPES = {_MARK: "NvtxMark", _RANGE: "NvtxPushPopRange", _SPAN: "NvtxStartEndRange", _DOMAIN: "NvtxDomainCreate"}
_NVTX_KINDS = {Kind.RANGE: _RANGE, Kind.SPAN: _SPAN, Kind.MARK: _MARK}
_VERSION_PARTS = [f"EXPORT_SCHEMA_VERSION_{part}" for part in ("MAJOR", "MINOR", "MICRO")]


def write(timeline: Timeline, path: Path) -> None:
    with replacing(path) as partial:
        try:
            with closing(sqlite3.connect(partial)) as db:
                db.execute("PRAGMA journal_mode = OFF")
                db.execute("PRAGMA synchronous = OFF")
                _NsightExport(timeline, db).write()
                db.commit()
        except sqlite3.Error as error:
            raise InputError(f"can't write {path}: {error}; choose another place with --output") from None


class _NsightExport:
    def __init__(self, timeline: Timeline, db: sqlite3.Connection) -> None:
        self.timeline = timeline
        self.events = timeline.events
        self.tables = TableWriter(db)
        self.strings = {name: number for number, name in enumerate(timeline.names)}

    def write(self) -> None:
        self._calls()
        self._work()
        self._ranges()
        self._own()
        write_own(self.timeline, self.tables)
        self._facts()
        self.tables.insert("StringIds", {"id": list(self.strings.values()), "value": list(self.strings)})

    def _string(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings))

    def _thread(self, rows: Rows, thread: Column | None = None) -> Column:
        process, tid = (
            self.events.process[rows].astype(np.int64),
            self.events.thread[rows] if thread is None else thread,
        )
        found: Column = np.where(process < 0, ABSENT, _MACHINE | process << 24 | np.maximum(tid, 0) & 0xFFFFFF)
        return found

    def _span(self, rows: Rows) -> dict[str, Any]:
        return {"start": self.events.start_ns[rows], "end": self.events.end_ns[rows]}

    def _calls(self) -> None:
        for table, kind in (
            (f"{_CUPTI}RUNTIME", Kind.API),
            ("OSRT_API", Kind.OS_CALL),
            ("PROFILER_OVERHEAD", Kind.OVERHEAD),
        ):
            rows = self.timeline.rows(kind)
            if not len(rows):
                continue
            values = {**self._span(rows), "nameId": self.events.name_id[rows], "returnValue": 0}
            values |= {"globalTid": nullable(self._thread(rows))}
            if kind is not Kind.OVERHEAD:
                values |= {"eventClass": 0, "correlationId": nullable(self.events.correlation[rows])}
            self.tables.insert(table, values)

    def _device(self, rows: Rows) -> dict[str, Any]:
        events = self.events
        process = events.process[rows].astype(np.int64)
        return {
            **self._span(rows),
            "deviceId": events.device[rows],
            "contextId": 1,
            "streamId": events.stream[rows],
            "correlationId": nullable(events.correlation[rows]),
            "globalPid": nullable(np.where(process < 0, ABSENT, _MACHINE | process << 24)),
        }

    def _work(self) -> None:
        if len(rows := self.timeline.rows(Kind.KERNEL)):
            self.tables.insert(f"{_CUPTI}KERNEL", {**self._device(rows), **self._kernel(rows)})
        events = self.events
        if len(rows := self.timeline.rows(Kind.MEMCPY)):
            kinds = {"srcKind": nullable(events.src_kind[rows]), "dstKind": nullable(events.dst_kind[rows])}
            values = {"bytes": events.bytes[rows], "copyKind": events.copy_kind[rows].clip(min=0), **kinds}
            self.tables.insert(f"{_CUPTI}MEMCPY", {**self._device(rows), **values, "copyCount": 1})
        if len(rows := self.timeline.rows(Kind.MEMSET)):
            values = {"value": 0, "bytes": events.bytes[rows], "memKind": nullable(events.dst_kind[rows])}
            self.tables.insert(f"{_CUPTI}MEMSET", {**self._device(rows), **values})
        if len(rows := self.timeline.rows(Kind.SYNC)):
            numbers = {name: number for number, name in SYNC_NAMES.items()}
            kind = [numbers.get(self.timeline.name(row), 0) for row in rows.tolist()]
            self.tables.insert(f"{_CUPTI}SYNCHRONIZATION", {**self._device(rows), "syncType": kind, "eventId": 0})
        if len(rows := self.timeline.rows(Kind.GRAPH)):
            graph = [_last_number(self.timeline.name(row)) for row in rows.tolist()]
            self.tables.insert(f"{_CUPTI}GRAPH_TRACE", {**self._device(rows), "graphId": graph})

    def _kernel(self, rows: Rows) -> dict[str, Any]:
        """Only products of grid and block are known; they stand in the first dimension."""
        events = self.events
        keys, inverse = np.unique(events.name_id[rows], return_inverse=True)
        names = [self.timeline.names[key] for key in keys.tolist()]
        raw = [mangled(name) for name in names]
        ones = dict.fromkeys(("gridY", "gridZ", "blockY", "blockZ"), 1)
        unknown = ("registersPerThread", "staticSharedMemory", "dynamicSharedMemory", "localMemoryPerThread")
        return {
            "demangledName": np.array([self._string(demangled(name)) for name in names])[inverse],
            "shortName": np.array([self._string(short_name(name)) for name in names])[inverse],
            "mangledName": nullable(
                np.array([ABSENT if name is None else self._string(name) for name in raw])[inverse]
            ),
            "gridX": events.block_count[rows],
            "blockX": events.thread_count[rows],
            **ones,
            **dict.fromkeys((*unknown, "localMemoryTotal", "gridId"), 0),
        }

    def _ranges(self) -> None:
        rows = self.timeline.rows(*_NVTX_KINDS)
        if len(rows):
            kind = [_NVTX_KINDS[Kind(each)] for each in self.events.kind[rows].tolist()]
            self._nvtx(rows, kind, [self.timeline.name(row) for row in rows.tolist()], 0)

    def _nvtx(self, rows: Rows, event_type: list[int], texts: list[str], domain: int) -> None:
        """A text is written as it is and as a string's number, since some readers know only the one or the other."""
        events = self.events
        end_thread = np.where(events.end_thread[rows] < 0, events.thread[rows], events.end_thread[rows])
        is_mark = np.array(event_type) == _MARK
        ends = nullable(np.where(is_mark, ABSENT, events.end_ns[rows]))
        end_id = self._thread(rows, end_thread)
        self.tables.insert(
            "NVTX_EVENTS",
            {
                "start": events.start_ns[rows],
                "end": ends,
                "eventType": event_type,
                "rangeId": rows,
                "text": texts,
                "textId": [self._string(text) for text in texts],
                "globalTid": nullable(self._thread(rows)),
                "endGlobalTid": nullable(np.where(np.array(event_type) == _SPAN, end_id, ABSENT)),
                "domainId": domain,
                "int64Value": nullable(events.size[rows]),
            },
        )

    def _own(self) -> None:
        """What only we know of: shown to others as ranges of a domain of their kind, named with their model."""
        for domain, kind in enumerate(OWN_KINDS, 1):
            if len(rows := self.timeline.rows(kind)):
                self._domain(domain, kind, rows)
                texts = [f"{self.timeline.name(row)} {self.timeline.model(row)}".rstrip() for row in rows.tolist()]
                self._nvtx(rows, [_SPAN] * len(rows), texts, domain)

    def _domain(self, domain: int, kind: Kind, rows: Rows) -> None:
        process = np.unique(self.events.process[rows])
        text = kind.name.lower()
        first = int(self.events.start_ns[rows[0]])
        values = {"globalTid": [_MACHINE | pid << 24 | pid for pid in process[process >= 0].tolist()]}
        self.tables.insert(
            "NVTX_EVENTS",
            {
                "start": first,
                "eventType": _DOMAIN,
                "text": text,
                "textId": self._string(text),
                "domainId": domain,
                **values,
            },
        )

    def _facts(self) -> None:
        timeline = self.timeline
        own = zip(OWN_FACTS, (timeline.meta, timeline.tracks, timeline.anchors), strict=True)
        facts = {
            "EXPORT_PRODUCT_NAME": "serving-analyzer",
            "EXPORT_PRODUCT_VERSION": __version__,
            "EXPORT_SCHEMA_VERSION": SCHEMA_VERSION,
            **dict(zip(_VERSION_PARTS, SCHEMA_VERSION.split("."), strict=True)),
            OWN_VERSION: "2",
            **{name: msgspec.json.encode(part).decode() for name, part in own},
        }
        self.tables.insert("META_DATA_EXPORT", {"name": list(facts), "value": list(facts.values())})
        self._labels()
        utc = [anchor.offset_ns for anchor in timeline.anchors if anchor.clock == "utc"]
        self.tables.insert("TARGET_INFO_SESSION_START_TIME", {"utcEpochNs": utc[:1]})
        named = [each for each in timeline.tracks if each.process >= 0 and each.device < 0]
        processes = [each for each in named if each.thread < 0]
        pids = [each.process for each in processes]
        ids = {"globalPid": [_MACHINE | pid << 24 for pid in pids], "pid": pids}
        self.tables.insert("PROCESSES", {**ids, "name": [each.name for each in processes]})
        threads = [each for each in named if each.thread >= 0]
        tids = [_MACHINE | each.process << 24 | each.thread & 0xFFFFFF for each in threads]
        self.tables.insert("ThreadNames", {"nameId": [self._string(each.name) for each in threads], "globalTid": tids})
        self._devices()

    def _devices(self) -> None:
        found = self.timeline.devices
        capability = [each.compute_capability or (None, None) for each in found]
        values = {
            "id": [each.id for each in found],
            "name": [each.name for each in found],
            "totalMemory": [each.memory_bytes for each in found],
            "smCount": [each.sm_count for each in found],
            "uuid": [each.uuid for each in found],
            "cuDevice": [each.id for each in found],
            "computeMajor": [major for major, _ in capability],
            "computeMinor": [minor for _, minor in capability],
        }
        self.tables.insert("TARGET_INFO_GPU", {"vmId": _MACHINE, **values})
        rows = self.timeline.rows(*GPU_KINDS, Kind.SYNC)
        pairs = np.unique(np.stack([self.events.process[rows], self.events.device[rows]], axis=1), axis=0)
        pairs = pairs[(pairs >= 0).all(axis=1)]
        users = {"gpuId": pairs[:, 1], "cudaId": pairs[:, 1], "pid": pairs[:, 0]}
        self.tables.insert("TARGET_INFO_CUDA_DEVICE", users)

    def _labels(self) -> None:
        tables = {
            "ENUM_NSYS_EVENT_TYPE": _EVENT_TYPES,
            "ENUM_CUDA_MEMCPY_OPER": {int(kind): name for kind, name in COPY_NAMES.items()},
            "ENUM_CUDA_MEM_KIND": {int(kind): kind.name.replace("_", " ").title() for kind in MemoryKind},
            "ENUM_CUPTI_SYNC_TYPE": {0: "Unknown", **SYNC_NAMES},
        }
        for table, labels in tables.items():
            texts = list(labels.values())
            self.tables.insert(table, {"id": list(labels), "name": texts, "label": texts})


def _last_number(name: str) -> int:
    digits = re.search(r"(\d+)$", name)
    return int(digits[1]) if digits else 0

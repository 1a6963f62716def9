"""An Nsight Systems SQLite export (schemas 2.9 to 3.25) to a Timeline.

Environment, command lines and captured output stand in the file and are left there: of the capture's settings only the
switches of the trace are read, and of the strings only those that name an event.
"""

import sqlite3
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from analyzer.errors import InputError
from analyzer.timeline import nsight_facts as facts
from analyzer.timeline import nsight_own
from analyzer.timeline.analyses import launches
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kinds import GPU_KINDS, MEMSET_NAME, SYNC_NAMES, CopyKind, Kind, copy_name
from analyzer.timeline.nsight_ranges import add_metrics, read_ranges
from analyzer.timeline.nsight_tables import UNREADABLE, NsightTables, process_of, thread_of
from analyzer.timeline.table import ABSENT, Column, Timeline

_CUPTI = "CUPTI_ACTIVITY_KIND_"
NO_NAME = "(no name)"
_DENSE_IDS = 1 << 24
_DEVICE_COLUMNS = ("start", "end", "deviceId", "streamId", "correlationId", "globalPid")


def read(path: Path) -> Timeline:
    """Read an export. A damaged file gives what stands before the damage, marked as partial."""
    try:
        db = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            return from_database(db, str(path), torn_count=int(_is_cut(path)))
        finally:
            db.close()
    except UNREADABLE as error:
        reason = "its schema is damaged" if isinstance(error, UnicodeDecodeError) else error
        raise InputError(f"{path} is not a whole SQLite file ({reason}); export the capture again") from None


def _is_cut(path: Path) -> bool:
    """Whether the file is shorter than its header says; SQLite notices only when it reads a page that is missing."""
    with path.open("rb") as file:
        head = file.read(100)
    page_bytes = int.from_bytes(head[16:18], "big")
    page_bytes = 65536 if page_bytes == 1 else page_bytes
    return path.stat().st_size < page_bytes * int.from_bytes(head[28:32], "big")


def from_database(db: sqlite3.Connection, source: str, torn_count: int = 0) -> Timeline:
    """Read open tables. ``torn_count``: how often something was missing from the file that they stand in."""
    tables = NsightTables(db)
    tables.damaged += ["its tables"] * torn_count
    if not tables.names & {*facts.KINDS, *facts.VERSION_TABLES, "StringIds"}:
        raise InputError(f"{source} is an SQLite file, but not one of Nsight Systems; give one made by 'nsys export'")
    return _NsightImport(tables).timeline()


class _NsightImport:
    def __init__(self, tables: NsightTables) -> None:
        self.tables = tables
        self.build = TimelineBuilder()
        self.strings = tables.strings()
        self.devices = facts.device_ids(tables)
        self.processes: set[int] = set()
        self.threads: set[tuple[int, int]] = set()
        self.seen_ns = 0

    def timeline(self) -> Timeline:
        self._api()
        self._kernels()
        self._copies()
        self._memsets()
        self._syncs()
        self._graphs()
        self._host_calls("OSRT_API", Kind.OS_CALL)
        self._host_calls("PROFILER_OVERHEAD", Kind.OVERHEAD)
        unclosed = self._ranges()
        if nsight_own.EVENTS in self.tables.names:
            nsight_own.add_events(self.tables, self.build)
        add_metrics(self.tables, self.build)
        tracks = facts.tracks(self.tables, self.strings, self.processes, self.threads)
        made = self.build.build(
            facts.meta(self.tables), tracks, facts.devices(self.tables), facts.anchors(self.tables), [Kind.RANGE]
        )
        doubts = dict.fromkeys((*made.meta.warnings, *_doubts(made, unclosed)))
        return replace(made, meta=msgspec.structs.replace(made.meta, warnings=tuple(doubts)))

    def _strings(self, ids: Column) -> Column:
        """Ids of the file's strings to ids of the timeline's names; only strings that are used are read."""
        offset = int(ids.min()) if len(ids) else 0
        if len(ids) and int(ids.max()) - offset < _DENSE_IDS:
            used = np.flatnonzero(np.bincount(ids - offset))  # a table by id: sorting a million ids takes far longer
            names = np.zeros(int(used[-1]) + 1, np.int32)
            names[used] = self.build.name_ids(self.strings.get(key, NO_NAME) for key in (used + offset).tolist())
            found: Column = names[ids - offset]
            return found
        used, inverse = np.unique(ids, return_inverse=True)
        return self.build.name_ids(self.strings.get(key, NO_NAME) for key in used.tolist())[inverse]

    def _device_rows(self, table: str, kind: Kind, *more: str) -> tuple[dict[str, Column], dict[str, Column]]:
        """The columns read, and those of the event table that all work of a device has."""
        rows = self.tables.read(f"{_CUPTI}{table}", (*_DEVICE_COLUMNS, *more))
        process, device = process_of(rows["globalPid"]), rows["deviceId"].copy()
        for (pid, cuda), gpu in self.devices.items():
            device[(rows["deviceId"] == cuda) & (process == pid)] = gpu
        stream = np.where(rows["streamId"] > 0x7FFFFFFF, ABSENT, rows["streamId"])
        self._note(rows["start"], rows["end"], process, np.zeros(0, np.int64))
        common = {"process": process, "device": device, "stream": stream, "correlation": rows["correlationId"]}
        return rows, common | nsight_own.owners(self.tables, self.build, kind, len(device))

    def _note(self, start: Column, end: Column, process: Column, thread: Column) -> None:
        if len(start):
            self.seen_ns = max(self.seen_ns, int(start.max()), int(end.max()))
        if not len(thread):
            self.processes.update(np.unique(process).tolist())
            return
        keys = np.unique(((process + 1) << 32) + thread + 1)
        self.threads.update(((key >> 32) - 1, (key & 0xFFFFFFFF) - 1) for key in keys.tolist())
        self.processes.update(((keys >> 32) - 1).tolist())

    def _api(self) -> None:
        wanted = ("start", "end", "globalTid", "correlationId", "nameId")
        rows = self.tables.read(f"{_CUPTI}RUNTIME", wanted)
        process, thread = process_of(rows["globalTid"]), thread_of(rows["globalTid"])
        self._note(rows["start"], rows["end"], process, thread)
        where = {"process": process, "thread": thread, "correlation": rows["correlationId"]}
        self.build.add(Kind.API, rows["start"], rows["end"], self._strings(rows["nameId"]), **where)

    def _kernels(self) -> None:
        shape = ("gridX", "gridY", "gridZ", "blockX", "blockY", "blockZ")
        rows, common = self._device_rows("KERNEL", Kind.KERNEL, "demangledName", "shortName", *shape)
        name = np.where(rows["demangledName"] == ABSENT, rows["shortName"], rows["demangledName"])
        blocks = rows["gridX"] * rows["gridY"] * rows["gridZ"]
        threads = rows["blockX"] * rows["blockY"] * rows["blockZ"]
        columns = {"block_count": blocks.clip(ABSENT, 2**31 - 1), "thread_count": threads.clip(ABSENT, 2**15 - 1)}
        self.build.add(Kind.KERNEL, rows["start"], rows["end"], self._strings(name), **common, **columns)

    def _copies(self) -> None:
        rows, common = self._device_rows("MEMCPY", Kind.MEMCPY, "bytes", "copyKind", "srcKind", "dstKind")
        kinds, inverse = np.unique(rows["copyKind"], return_inverse=True)
        name = self.build.name_ids(map(copy_name, kinds.tolist()))[inverse]
        columns = {"copy_kind": rows["copyKind"], "src_kind": rows["srcKind"], "dst_kind": rows["dstKind"]}
        self.build.add(Kind.MEMCPY, rows["start"], rows["end"], name, bytes=rows["bytes"], **common, **columns)

    def _memsets(self) -> None:
        rows, common = self._device_rows("MEMSET", Kind.MEMSET, "bytes", "memKind")
        if len(rows["start"]):
            columns = {"bytes": rows["bytes"], "dst_kind": rows["memKind"], **common}
            self.build.add(Kind.MEMSET, rows["start"], rows["end"], self.build.name_id(MEMSET_NAME), **columns)

    def _syncs(self) -> None:
        rows, common = self._device_rows("SYNCHRONIZATION", Kind.SYNC, "syncType")
        kinds, inverse = np.unique(rows["syncType"], return_inverse=True)
        name = self.build.name_ids(SYNC_NAMES.get(kind, "Sync") for kind in kinds.tolist())[inverse]
        self.build.add(Kind.SYNC, rows["start"], rows["end"], name, **common)

    def _graphs(self) -> None:
        rows, common = self._device_rows("GRAPH_TRACE", Kind.GRAPH, "graphId")
        graphs, inverse = np.unique(rows["graphId"], return_inverse=True)
        name = self.build.name_ids(f"CUDA graph {graph}" for graph in graphs.tolist())[inverse]
        self.build.add(Kind.GRAPH, rows["start"], rows["end"], name, **common)

    def _host_calls(self, table: str, kind: Kind) -> None:
        rows = self.tables.read(table, ("start", "end", "globalTid", "nameId"))
        process, thread = process_of(rows["globalTid"]), thread_of(rows["globalTid"])
        self._note(rows["start"], rows["end"], process, thread)
        self.build.add(kind, rows["start"], rows["end"], self._strings(rows["nameId"]), process=process, thread=thread)

    def _ranges(self) -> int:
        """Add the NVTX ranges and return how many of them never ended in the capture."""
        found = read_ranges(self.tables, self.strings, self.seen_ns)
        self._note(found.start_ns, found.end_ns, found.process, found.thread)
        self.build.add(
            found.kind,
            found.start_ns,
            found.end_ns,
            self.build.name_ids(found.names),
            process=found.process,
            thread=found.thread,
            end_thread=found.end_thread,
            size=found.size,
        )
        return found.unclosed_count


def _doubts(timeline: Timeline, unclosed_count: int) -> list[str]:
    """What a reader has to know of the capture: activity that is not there, and joins that can't be made."""
    doubts = []
    if unclosed_count:
        doubts.append(f"{unclosed_count} ranges never ended; they are taken to last to the end of the capture")
    work = timeline.rows(*GPU_KINDS)
    if not len(work):
        doubts.append("no GPU activity in the capture")
        return doubts
    unmigrated = work[timeline.events.copy_kind[work] < CopyKind.UNIFIED_HOST_TO_DEVICE]
    orphans = int((launches.launch_rows(timeline, unmigrated) < 0).sum())
    if orphans:
        doubts.append(f"{orphans} of {len(work)} device operations have no launching call in the capture")
    return doubts

"""The tables of an Nsight Systems SQLite export that we write, column by column in its order, as of schema 3.20.

``name!`` holds no NULL, ``name:TEXT`` is a text; all else are integers. Readers that select by place find every column.
"""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from analyzer.timeline.table import Column

SCHEMA_VERSION = "3.20.3"
_WORK = "start! end! deviceId! contextId! greenContextId streamId! correlationId globalPid"
_CALL = "start! end! eventClass! globalTid correlationId nameId! returnValue! callchainId"
_ENUM = "id! name:TEXT label:TEXT"
_TABLES = {
    "StringIds": "id! value:TEXT!",
    "CUPTI_ACTIVITY_KIND_RUNTIME": _CALL,
    "OSRT_API": f"{_CALL} nestingLevel",
    "PROFILER_OVERHEAD": "start! end! globalTid nameId! returnValue!",
    "CUPTI_ACTIVITY_KIND_KERNEL": (
        f"{_WORK} demangledName! shortName! mangledName launchType cacheConfig registersPerThread! "
        "gridX! gridY! gridZ! blockX! blockY! blockZ! staticSharedMemory! dynamicSharedMemory! localMemoryPerThread! "
        "localMemoryTotal! gridId! sharedMemoryExecuted graphNodeId sharedMemoryLimitConfig"
    ),
    "CUPTI_ACTIVITY_KIND_MEMCPY": (
        f"{_WORK} bytes! copyKind! deprecatedSrcId srcKind dstKind srcDeviceId srcContextId dstDeviceId dstContextId "
        "migrationCause graphNodeId virtualAddress copyCount"
    ),
    "CUPTI_ACTIVITY_KIND_MEMSET": f"{_WORK} value! bytes! graphNodeId memKind",
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": f"{_WORK} deprecatedSyncType syncType! eventId! eventSyncId",
    "CUPTI_ACTIVITY_KIND_GRAPH_TRACE": f"{_WORK} graphId! graphExecId",
    "NVTX_EVENTS": (
        "start! end eventType! rangeId category color text:TEXT globalTid endGlobalTid textId domainId uint64Value "
        "int64Value doubleValue:REAL uint32Value int32Value floatValue:REAL jsonTextId jsonText:TEXT binaryData:TEXT"
    ),
    "PROCESSES": "globalPid pid name:TEXT",
    "ThreadNames": "nameId! priority globalTid",
    "TARGET_INFO_GPU": (
        "vmId! id! name:TEXT busLocation:TEXT isDiscrete l2CacheSize totalMemory memoryBandwidth clockRate smCount "
        "pwGpuId uuid:TEXT luid chipName:TEXT cuDevice ctxswDevPath:TEXT ctrlDevPath:TEXT revision nodeMask "
        "constantMemory maxIPC maxRegistersPerBlock maxShmemPerBlock maxShmemPerBlockOptin maxShmemPerSm "
        "maxRegistersPerSm threadsPerWarp asyncEngines maxWarpsPerSm maxBlocksPerSm maxThreadsPerBlock maxBlockDimX "
        "maxBlockDimY maxBlockDimZ maxGridDimX maxGridDimY maxGridDimZ computeMajor computeMinor smMajor smMinor"
    ),
    "TARGET_INFO_CUDA_DEVICE": "gpuId cudaId! pid! uuid:TEXT",
    "TARGET_INFO_SESSION_START_TIME": "utcEpochNs utcTime:TEXT localTime:TEXT",
    "META_DATA_EXPORT": "name:TEXT! value:TEXT",
    "ENUM_NSYS_EVENT_TYPE": _ENUM,
    "ENUM_CUDA_MEMCPY_OPER": _ENUM,
    "ENUM_CUDA_MEM_KIND": _ENUM,
    "ENUM_CUPTI_SYNC_TYPE": _ENUM,
    "ANALYZER_EVENTS": (
        "kind:TEXT! start! end! name:TEXT! processId threadId endThreadId model:TEXT instance request "
        "batch step size bytes"
    ),
    "ANALYZER_WORK": (
        "kind:TEXT! ordinal! start! end! processId correlationId deviceId streamId model:TEXT instance "
        "request batch step"
    ),
    "ANALYZER_EDGES": "relation:TEXT! source! target!",
    "ANALYZER_COUNTERS": "name:TEXT! unit:TEXT! deviceId processId time! value:REAL!",
}


class TableWriter:
    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.made: set[str] = set()

    def insert(self, table: str, values: Mapping[str, Any]) -> None:
        """Fill a table, made if it is not there, with arrays, lists or single values; other columns are NULL."""
        told = _TABLES[table].split()
        if table not in self.made:
            self.made.add(table)
            self.db.execute(f"CREATE TABLE {table} ({', '.join(map(_column, told))})")
        count = max((len(each) for each in values.values() if isinstance(each, list | np.ndarray)), default=0)
        names = ", ".join(f'"{name}"' for name in values)
        statement = f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(values))})"
        self.db.executemany(statement, zip(*(_cells(each, count) for each in values.values()), strict=True))


def nullable(values: Column) -> list[int | None]:
    """NULL for what is absent."""
    return [None if value < 0 else value for value in values.tolist()]


def _cells(values: Any, count: int) -> Iterable[Any]:
    if isinstance(values, np.ndarray):
        found: list[Any] = values.tolist()
        return found
    return values if isinstance(values, list) else [values] * count


def _column(told: str) -> str:
    name, _, kind = told.rstrip("!").partition(":")
    key = " PRIMARY KEY" if name == "id" else ""
    return f'"{name}" {kind or "INTEGER"}{" NOT NULL" if told.endswith("!") else ""}{key}'

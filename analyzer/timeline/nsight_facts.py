"""What an Nsight Systems export says around its events: versions, devices, names of threads, clocks, its own troubles.

Only chosen columns of chosen tables are read. Texts of the profiler's messages, command lines and the environment stay
where they are, since any of them can hold a secret.
"""

from collections.abc import Collection
from pathlib import PurePosixPath

import msgspec

from analyzer.timeline import nsight_own
from analyzer.timeline.kinds import Kind
from analyzer.timeline.nsight_tables import NsightTables, process_of, thread_of
from analyzer.timeline.table import Anchor, Device, Meta, Track

KNOWN_SCHEMAS = ((2, 9), (3, 25))
VERSION_TABLES = ("META_DATA_EXPORT", "EXPORT_META_DATA")
"""The second is the older name."""
_CUPTI = "CUPTI_ACTIVITY_KIND_"
KINDS: dict[str, tuple[Kind, ...]] = {
    "NVTX_EVENTS": (Kind.RANGE, Kind.SPAN, Kind.MARK),
    f"{_CUPTI}RUNTIME": (Kind.API,),
    f"{_CUPTI}KERNEL": (Kind.KERNEL,),
    f"{_CUPTI}MEMCPY": (Kind.MEMCPY,),
    f"{_CUPTI}MEMSET": (Kind.MEMSET,),
    f"{_CUPTI}SYNCHRONIZATION": (Kind.SYNC,),
    f"{_CUPTI}GRAPH_TRACE": (Kind.GRAPH,),
    "OSRT_API": (Kind.OS_CALL,),
    "PROFILER_OVERHEAD": (Kind.OVERHEAD,),
}
_SWITCHES = {
    "COLLECT_CUDA_TRACE": (Kind.API, Kind.KERNEL, Kind.MEMCPY, Kind.MEMSET, Kind.SYNC),
    "COLLECT_NVTX_TRACE": (Kind.RANGE, Kind.SPAN, Kind.MARK),
}
"""A table that would be empty is not written: these settings tell whether its events were looked for."""
_WARNING, _ERROR = 2, 3
_LOSS = ("dropped", "lost", "discarded")


def meta(tables: NsightTables) -> Meta:
    version = _export_values(tables)
    own = nsight_own.meta(tables)
    schema = version.get("EXPORT_SCHEMA_VERSION", "")
    lossy, warnings = _messages(tables)
    if tables.damaged:
        damaged = ", ".join(sorted(set(tables.damaged)))
        warnings.append(f"the file is damaged; what could be read of {damaged} is kept")
    if not _is_known(schema):
        span = " to ".join(f"{major}.{minor}" for major, minor in KNOWN_SCHEMAS)
        warnings.append(f"the export has schema {schema or 'unknown'}; {span} are known, check the counts")
    if own is not None:
        is_partial = own.partial or lossy or bool(tables.damaged)
        return msgspec.structs.replace(
            own, partial=is_partial, warnings=tuple(dict.fromkeys((*own.warnings, *warnings)))
        )
    return Meta(
        producer=version.get("EXPORT_PRODUCT_NAME", "NVIDIA Nsight Systems"),
        producer_version=version.get("EXPORT_PRODUCT_VERSION", ""),
        schema_version=schema,
        collected=_collected(tables),
        partial=lossy or bool(tables.damaged),
        warnings=tuple(warnings),
    )


def _export_values(tables: NsightTables) -> dict[str, str]:
    wanted = "name IN ('EXPORT_PRODUCT_NAME', 'EXPORT_PRODUCT_VERSION', 'EXPORT_SCHEMA_VERSION')"
    return {
        str(name): str(value or "")
        for table in VERSION_TABLES
        for name, value in tables.rows(table, ("name", "value"), wanted)
    }


def _is_known(schema: str) -> bool:
    parts = schema.split(".")[:2]
    if not all(part.isdigit() for part in parts):
        return False
    return KNOWN_SCHEMAS[0] <= tuple(map(int, parts)) <= KNOWN_SCHEMAS[1]


def _collected(tables: NsightTables) -> tuple[str, ...]:
    kinds = {kind for table, made in KINDS.items() if table in tables.names for kind in made}
    for switch, made in _SWITCHES.items():
        if tables.rows("META_DATA_CAPTURE", ("name",), f"name LIKE 'PROCESS_%:{switch}' AND value = 'true'"):
            kinds.update(made)
    return tuple(kind.name.lower() for kind in sorted(kinds))


def _messages(tables: NsightTables) -> tuple[bool, list[str]]:
    """Whether the profiler says that it lost events, and how often it warned; its words are not kept."""
    rows = tables.rows("DIAGNOSTIC_EVENT", ("severity", "text"), f"severity >= {_WARNING}")
    lossy = any(word in str(text).lower() for _, text in rows for word in _LOSS)
    errors = sum(severity == _ERROR for severity, _ in rows)
    said = []
    if rows:
        said.append(
            f"the profiler left {len(rows) - errors} warnings and {errors} errors in the capture; see its own viewer"
        )
    if lossy:
        said.append("the profiler says that it lost events")
    return lossy, said


def device_ids(tables: NsightTables) -> dict[tuple[int, int], int]:
    """CUDA numbers devices per process: (process, CUDA's number) to the number of the GPU."""
    rows = tables.read("TARGET_INFO_CUDA_DEVICE", ("pid", "cudaId", "gpuId"))
    keys = zip(rows["pid"].tolist(), rows["cudaId"].tolist(), strict=True)
    return {key: gpu for key, gpu in zip(keys, rows["gpuId"].tolist(), strict=True) if gpu >= 0}


def devices(tables: NsightTables) -> tuple[Device, ...]:
    numbers = tables.read("TARGET_INFO_GPU", ("id", "totalMemory", "smCount", "computeMajor", "computeMinor"))
    texts = tables.rows("TARGET_INFO_GPU", ("name", "uuid"))
    found = []
    for (name, uuid), number, memory, count, major, minor in zip(
        texts, *(numbers[key].tolist() for key in numbers), strict=False
    ):
        found.append(
            Device(
                id=number,
                name=str(name or "GPU"),
                uuid=str(uuid or ""),
                memory_bytes=memory if memory > 0 else None,
                sm_count=count if count > 0 else None,
                compute_capability=(major, minor) if major > 0 else None,
            )
        )
    return tuple(found)


def anchors(tables: NsightTables) -> tuple[Anchor, ...]:
    own = nsight_own.anchors(tables)
    if own is not None:
        return own
    rows = tables.read("TARGET_INFO_SESSION_START_TIME", ("utcEpochNs",))["utcEpochNs"].tolist()
    return tuple(Anchor(clock="utc", offset_ns=utc) for utc in rows if utc > 0)


def tracks(
    tables: NsightTables, strings: dict[int, str], processes: Collection[int], threads: Collection[tuple[int, int]]
) -> tuple[Track, ...]:
    """Names of the processes and threads that have events, and of the default streams."""
    own = nsight_own.tracks(tables)
    if own is not None:
        return own
    found = []
    for pid, name in tables.rows("PROCESSES", ("pid", "name")):
        if isinstance(pid, int) and pid in processes and name:
            found.append(Track(name=_program(str(name)), process=pid))
    rows = tables.read("ThreadNames", ("globalTid", "nameId"))
    ids = zip(
        process_of(rows["globalTid"]).tolist(),
        thread_of(rows["globalTid"]).tolist(),
        rows["nameId"].tolist(),
        strict=True,
    )
    for pid, tid, name_id in ids:
        if (pid, tid) in threads and name_id in strings:
            found.append(Track(name=strings[name_id], process=pid, thread=tid))
    numbers = device_ids(tables)
    contexts = tables.read("TARGET_INFO_CUDA_CONTEXT_INFO", ("processId", "deviceId", "nullStreamId"))
    for pid, device, stream in zip(*(each.tolist() for each in contexts.values()), strict=True):
        track = Track(name="default stream", process=pid, device=numbers.get((pid, device), device), stream=stream)
        if track not in found:
            found.append(track)
    return tuple(found)


def _program(command: str) -> str:
    """A process's name without its folder and arguments."""
    words = command.split()
    return PurePosixPath(words[0]).name if words else "process"

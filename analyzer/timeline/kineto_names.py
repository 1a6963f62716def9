"""What Kineto's categories, names and arguments say, in the words and numbers of the event table."""

import re
from collections.abc import Sequence

from analyzer.timeline.kinds import GPU_KINDS, MEMSET_NAME, SYNC_NAMES, CopyKind, Kind, MemoryKind, copy_name
from analyzer.timeline.table import ABSENT

KINDS = {
    "kernel": Kind.KERNEL,
    "gpu_memcpy": Kind.MEMCPY,
    "gpu_memset": Kind.MEMSET,
    "cuda_runtime": Kind.API,
    "cuda_driver": Kind.API,
    "cuda_sync": Kind.SYNC,
    "cpu_op": Kind.OPERATOR,
    "python_function": Kind.OPERATOR,
    "overhead": Kind.OVERHEAD,
    **{
        kind.name.lower(): kind
        for kind in (Kind.CLIENT_REQUEST, Kind.REQUEST, Kind.BATCH, Kind.STEP, Kind.STAGE, Kind.OS_CALL, Kind.GRAPH)
    },
}
"""Categories that say what an event is. Any other complete event is a range."""
CATEGORIES = {
    **{int(kind): kind.name.lower() for kind in Kind},
    Kind.RANGE: "user_annotation",
    Kind.API: "cuda_runtime",
    Kind.SYNC: "cuda_sync",
    Kind.MEMCPY: "gpu_memcpy",
    Kind.MEMSET: "gpu_memset",
    Kind.OPERATOR: "cpu_op",
}
"""The category of each kind as we write it."""
SKIPPED = {"gpu_user_annotation", "Trace", "fwdbwd", "async_cpu_to_gpu"}
"""What the profiler derived from other events."""
DEVICE_KINDS = frozenset((*GPU_KINDS, Kind.SYNC))
_COPY = re.compile(r"Memcpy (\w+)\s*(?:\((.+?) -> (.+?)\))?")
_COPY_KINDS = {
    "HtoD": CopyKind.HOST_TO_DEVICE,
    "DtoH": CopyKind.DEVICE_TO_HOST,
    "DtoD": CopyKind.DEVICE_TO_DEVICE,
    "HtoH": CopyKind.HOST_TO_HOST,
    "PtoP": CopyKind.PEER_TO_PEER,
    "HtoA": CopyKind.HOST_TO_ARRAY,
    "AtoH": CopyKind.ARRAY_TO_HOST,
    "AtoA": CopyKind.ARRAY_TO_ARRAY,
    "AtoD": CopyKind.ARRAY_TO_DEVICE,
    "DtoA": CopyKind.DEVICE_TO_ARRAY,
}
_COPY_WORDS = {int(kind): word for word, kind in _COPY_KINDS.items()}


def product(sizes: Sequence[int], limit: int) -> int:
    found = 1 if sizes else ABSENT
    for size in sizes:
        found *= size
    return max(ABSENT, min(found, limit))


def event_name(name: str, kind: Kind) -> tuple[str, tuple[int, int, int]]:
    """The name as other producers write it, and what a copy's says: direction, memory it comes from and goes to."""
    told = (ABSENT, ABSENT, ABSENT)
    if kind is Kind.MEMCPY and (found := _COPY.match(name)):
        copy = _COPY_KINDS.get(found[1], CopyKind.UNKNOWN)
        return copy_name(copy), (copy, _memory(found[2]), _memory(found[3]))
    if kind is Kind.MEMSET and name.startswith("Memset"):
        return MEMSET_NAME, told
    if kind is Kind.SYNC:
        return next((known for known in SYNC_NAMES.values() if name.lower().startswith(known.lower())), name), told
    return name, told


def _memory(name: str | None) -> int:
    key = (name or "unknown").upper().replace(" ", "_")
    return MemoryKind[key] if key in MemoryKind.__members__ else MemoryKind.UNKNOWN


def trace_name(name: str, kind: Kind, copy_kind: int, src_kind: int, dst_kind: int) -> str:
    """The name that ``event_name`` reads as this one. Copies that Kineto has no word for keep theirs."""
    if kind is Kind.MEMSET and name == MEMSET_NAME:
        return f"Memset ({_memory_name(dst_kind)})"
    word = _COPY_WORDS.get(copy_kind)
    if kind is not Kind.MEMCPY or word is None:
        return name
    return f"Memcpy {word} ({_memory_name(src_kind)} -> {_memory_name(dst_kind)})"


def _memory_name(kind: int) -> str:
    return MemoryKind(kind if kind >= 0 else MemoryKind.UNKNOWN).name.replace("_", " ").title()

"""What an event, a copy, a memory or an edge is: the numbers of the event table, which files keep."""

from enum import IntEnum


class Kind(IntEnum):
    """What an event is. Numbers are written to files: add at the end, never renumber."""

    RANGE = 0
    """A range that nests on its thread (NVTX push/pop)."""
    SPAN = 1
    """A range that may overlap others and end on another thread (NVTX start/end)."""
    MARK = 2
    API = 3
    """A call of the CUDA runtime or driver on the host."""
    SYNC = 4
    """A wait of the host for the device, as the device's tracer tells it."""
    KERNEL = 5
    MEMCPY = 6
    MEMSET = 7
    GRAPH = 8
    """One launch of a CUDA graph that was traced as a whole."""
    OS_CALL = 9
    OVERHEAD = 10
    """The profiler's own work."""
    CLIENT_REQUEST = 11
    """A request as the load generator saw it: from its sending to its last answer."""
    REQUEST = 12
    """A request as the server saw it, from its arrival to its answer."""
    BATCH = 13
    """One execution on an instance, for one request or many."""
    STEP = 14
    """One step of an ensemble, for one request."""
    STAGE = 15
    """A part of a request or batch, by name: queue, compute_input, compute_infer, compute_output."""
    OPERATOR = 16
    """An operator or node of a model on the host (PyTorch, ONNX Runtime)."""


GPU_KINDS = (Kind.KERNEL, Kind.MEMCPY, Kind.MEMSET, Kind.GRAPH)
"""What keeps a device's queues at work."""
COPY_KINDS = (Kind.MEMCPY, Kind.MEMSET)
COMPUTE_KINDS = (Kind.KERNEL, Kind.GRAPH)


class CopyKind(IntEnum):
    """Direction of a copy: CUPTI's numbers."""

    UNKNOWN = 0
    HOST_TO_DEVICE = 1
    DEVICE_TO_HOST = 2
    HOST_TO_ARRAY = 3
    ARRAY_TO_HOST = 4
    ARRAY_TO_ARRAY = 5
    ARRAY_TO_DEVICE = 6
    DEVICE_TO_ARRAY = 7
    DEVICE_TO_DEVICE = 8
    HOST_TO_HOST = 9
    PEER_TO_PEER = 10
    UNIFIED_HOST_TO_DEVICE = 11
    UNIFIED_DEVICE_TO_HOST = 12
    UNIFIED_DEVICE_TO_DEVICE = 13


COPY_NAMES = {
    CopyKind.UNKNOWN: "Unknown",
    CopyKind.HOST_TO_DEVICE: "Host-to-Device",
    CopyKind.DEVICE_TO_HOST: "Device-to-Host",
    CopyKind.HOST_TO_ARRAY: "Host-to-Array",
    CopyKind.ARRAY_TO_HOST: "Array-to-Host",
    CopyKind.ARRAY_TO_ARRAY: "Array-to-Array",
    CopyKind.ARRAY_TO_DEVICE: "Array-to-Device",
    CopyKind.DEVICE_TO_ARRAY: "Device-to-Array",
    CopyKind.DEVICE_TO_DEVICE: "Device-to-Device",
    CopyKind.HOST_TO_HOST: "Host-to-Host",
    CopyKind.PEER_TO_PEER: "Peer-to-Peer",
    CopyKind.UNIFIED_HOST_TO_DEVICE: "Unified Host-to-Device",
    CopyKind.UNIFIED_DEVICE_TO_HOST: "Unified Device-to-Host",
    CopyKind.UNIFIED_DEVICE_TO_DEVICE: "Unified Device-to-Device",
}
MEMSET_NAME = "[CUDA memset]"


def copy_name(kind: int) -> str:
    """The name of a copy's events, as Nsight Systems writes it."""
    return f"[CUDA memcpy {COPY_NAMES.get(CopyKind(kind) if kind in COPY_NAMES else CopyKind.UNKNOWN)}]"


SYNC_NAMES = {1: "Event sync", 2: "Stream wait sync", 3: "Stream sync", 4: "Context sync"}
"""Names of SYNC events by CUPTI's numbers. A stream that waits for an event does not block the host."""


class MemoryKind(IntEnum):
    """Where a copy's source or destination lies: the numbers of Nsight Systems."""

    PAGEABLE = 0
    PINNED = 1
    DEVICE = 2
    ARRAY = 3
    MANAGED = 4
    DEVICE_STATIC = 5
    MANAGED_STATIC = 6
    UNKNOWN = 7


class Relation(IntEnum):
    """What an edge says of its two ids."""

    REQUEST_BATCH = 0
    BATCH_STEP = 1
    REQUEST_STEP = 2
    REQUEST_CHILD = 3
    """A request made on behalf of another, as an ensemble does for its steps."""

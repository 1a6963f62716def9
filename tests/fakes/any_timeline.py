"""Small timelines of any shape for property tests: every kind of event, overlaps, empty events, ids known and not."""

from hypothesis import strategies as st

from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kinds import GPU_KINDS, SYNC_NAMES, CopyKind, Kind, Relation, copy_name
from analyzer.timeline.table import ABSENT, Anchor, Device, Meta, Series, Timeline, Track

_NAMES = st.sampled_from(["gemm", "queue", "compute_infer", "cudaLaunchKernel", "serving:request", 'a "b"\n\\', "µ"])
_SERVING = (Kind.REQUEST, Kind.CLIENT_REQUEST, Kind.BATCH, Kind.STEP, Kind.STAGE)


@st.composite
def timelines(draw: st.DrawFn, kinds: tuple[Kind, ...] = tuple(Kind)) -> Timeline:
    """Rows that a collector could have made: work has a device and a stream, host events a process and thread."""
    build = TimelineBuilder()
    base = draw(st.sampled_from([0, 1_000, 1_795_304_415_988_212_631]))
    for correlation in range(1, draw(st.integers(1, 25)) + 1):
        kind = draw(st.sampled_from(kinds))
        start = base + draw(st.integers(0, 40))
        end = start if kind is Kind.MARK else start + draw(st.integers(0, 20))
        columns = draw(_columns(kind, correlation))
        if "model_id" in columns:
            columns["model_id"] = build.name_id(f"model {columns['model_id']}")
        build.add(kind, start, end, build.name_id(_name(draw, kind, columns)), **columns)
    build.link(Relation.REQUEST_BATCH, [0, 1, 2], [0, 0, 1])
    build.link(Relation.REQUEST_CHILD, [0], [1])
    build.sample(Series(name="power", unit="W", device=0), [base + 3, base + 9], [70.5, 71])
    tracks = [Track(name="main", process=1, thread=7), Track(name="copies", process=1, device=0, stream=8)]
    devices = [Device(id=0, name="H100", uuid="GPU-1", memory_bytes=80 << 30, sm_count=132, compute_capability=(9, 0))]
    anchors = [Anchor(clock="utc", offset_ns=1_795_304_415_988_212_631)] if base < 1 << 40 else []
    return build.build(Meta(producer="test"), tracks, devices, anchors, [Kind.RANGE])


def _name(draw: st.DrawFn, kind: Kind, columns: dict[str, int]) -> str:
    if kind is Kind.MEMCPY:
        return copy_name(columns["copy_kind"])
    if kind is Kind.MEMSET:
        return "[CUDA memset]"
    if kind is Kind.SYNC:
        return draw(st.sampled_from(list(SYNC_NAMES.values())))
    if kind is Kind.GRAPH:
        return f"CUDA graph {draw(st.integers(1, 3))}"
    return draw(_NAMES)


@st.composite
def _columns(draw: st.DrawFn, kind: Kind, correlation: int) -> dict[str, int]:
    columns: dict[str, int] = {"process": draw(st.integers(1, 2))}
    if kind in GPU_KINDS or kind is Kind.SYNC:
        columns |= {"device": 0, "stream": draw(st.integers(7, 8)), "correlation": max(1, correlation - 1)}
    else:
        columns["thread"] = draw(st.integers(7, 8))
    if kind is Kind.API:
        columns["correlation"] = correlation
    if kind in _SERVING or (kind in GPU_KINDS and draw(st.booleans())):
        columns |= {"model_id": draw(st.integers(0, 1)), "instance": draw(st.integers(0, 1))}
        columns |= {key: draw(st.integers(ABSENT, 2)) for key in ("request", "batch", "step")}
    if kind is Kind.KERNEL:
        columns |= {"block_count": draw(st.integers(1, 2**31 - 1)), "thread_count": draw(st.integers(1, 1024))}
    if kind is Kind.MEMCPY:
        columns["copy_kind"] = draw(
            st.sampled_from([CopyKind.HOST_TO_DEVICE, CopyKind.DEVICE_TO_HOST, CopyKind.DEVICE_TO_DEVICE])
        )
        columns |= {"src_kind": draw(st.integers(0, 2)), "dst_kind": draw(st.integers(0, 2)), "bytes": 1 << 33}
    if kind in {Kind.RANGE, Kind.BATCH, Kind.REQUEST}:
        columns["size"] = draw(st.integers(ABSENT, 32))
    return columns

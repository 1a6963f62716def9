"""The files of one measured window to one timeline: the server's spans, the client's requests, the GPU's work."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from analyzer.collect import onnxruntime_profiles
from analyzer.collect.attribution import aligned, attributed
from analyzer.collect.cupti import COLLECTED as GPU_KINDS
from analyzer.collect.cupti import Placed, add_gpu, read_gpu
from analyzer.collect.merge import merged
from analyzer.collect.spans import KINDS, Sent, SpanFile, add_sent, add_spans, instances_of, read_spans
from analyzer.errors import AnalyzerError
from analyzer.runtime.spans import Row
from analyzer.timeline import import_any
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.table import ABSENT, Anchor, Device, Meta, Timeline, Track
from perf_client.version import __version__

_SPANS = "spans.npz"
_GPU = "cupti.npz"
_MATCHED = "client requests are told apart from each other by their times alone"


def timeline_of(
    folder: Path, process: int, sent: Sequence[Sent], captures: Sequence[Path] = (), *, with_gpu: bool = False
) -> Timeline:
    """What the server wrote into ``folder``, and files of other profilers. One that can't be read is a warning.

    Raises AnalyzerError where the spans themselves can't be read.
    """
    gpu_path = folder / _GPU if with_gpu else None
    whole, warnings = _own(read_spans(folder / _SPANS), process, sent, gpu_path), []
    for path in captures:
        try:
            found = onnxruntime_profiles.read(path) if onnxruntime_profiles.is_index(path) else [import_any.read(path)]
            whole = attributed(merged([whole, *found], aligned))
        except AnalyzerError as error:
            warnings.append(str(error))
    meta = msgspec.structs.replace(whole.meta, warnings=(*whole.meta.warnings, *warnings))
    return replace(whole, meta=meta)


def _own(spans: SpanFile, process: int, sent: Sequence[Sent], gpu_path: Path | None) -> Timeline:
    build = TimelineBuilder()
    tracks = [Track("server", process=process), *add_spans(build, spans, process)]
    for each in sent:
        add_sent(build, spans, each)
    dropped: dict[str, int] = {"spans": spans.dropped}
    collected: tuple[str, ...] = KINDS
    devices: tuple[Device, ...] = ()
    warnings = [_MATCHED] if sent else []
    if gpu_path is not None:
        gpu = read_gpu(gpu_path)
        add_gpu(build, gpu, _placed(build, spans), process)
        dropped["cupti"] = gpu.dropped
        collected += GPU_KINDS
        devices = gpu.devices
        warnings += gpu.warnings
    meta = Meta(
        producer="serving-analyzer",
        producer_version=__version__,
        collected=collected,
        partial=any(dropped.values()),
        dropped={name: count for name, count in dropped.items() if count},
        warnings=tuple(warnings),
    )
    anchors = (Anchor("monotonic", 0, 0), Anchor("utc", spans.utc_offset_ns, spans.utc_drift_ns))
    return build.build(meta, tracks, devices, anchors)


def _placed(build: TimelineBuilder, spans: SpanFile) -> dict[int, Placed]:
    """Where each batch of a window ran."""
    rows, instances = spans.of(Row.BATCH), instances_of(spans)
    models = [build.name_id(name) for name in spans.models]
    columns = (rows[name].tolist() for name in ("id", "model", "worker"))
    threads = [thread or ABSENT for _, thread in spans.workers]
    return {
        number: Placed(models[model], int(instances[worker]), threads[worker])
        for number, model, worker in zip(*columns)
    }

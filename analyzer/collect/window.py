"""The files of one measured window to one timeline: the server's spans, the client's requests, the GPU's work."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from analyzer.collect.merge import merged
from analyzer.collect.spans import KINDS, Sent, SpanFile, add_sent, add_spans, read_spans
from analyzer.errors import AnalyzerError
from analyzer.timeline import import_any
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.table import Anchor, Meta, Timeline, Track
from perf_client.version import __version__

_SPANS = "spans.npz"
_MATCHED = "client requests are told apart from each other by their times alone"


def timeline_of(folder: Path, process: int, sent: Sequence[Sent], captures: Sequence[Path] = ()) -> Timeline:
    """What the server wrote into ``folder``, and files of other profilers. One that can't be read is a warning.

    Raises AnalyzerError where the spans themselves can't be read.
    """
    whole, warnings = _own(read_spans(folder / _SPANS), process, sent), []
    for path in captures:
        try:
            whole = merged([whole, import_any.read(path)])
        except AnalyzerError as error:
            warnings.append(str(error))
    meta = msgspec.structs.replace(whole.meta, warnings=(*whole.meta.warnings, *warnings))
    return replace(whole, meta=meta)


def _own(spans: SpanFile, process: int, sent: Sequence[Sent]) -> Timeline:
    build = TimelineBuilder()
    tracks = [Track("server", process=process), *add_spans(build, spans, process)]
    for each in sent:
        add_sent(build, spans, each)
    meta = Meta(
        producer="serving-analyzer",
        producer_version=__version__,
        collected=KINDS,
        partial=spans.dropped > 0,
        dropped={"spans": spans.dropped} if spans.dropped else {},
        warnings=(_MATCHED,) if sent else (),
    )
    anchors = (Anchor("monotonic", 0, 0), Anchor("utc", spans.utc_offset_ns, spans.utc_drift_ns))
    return build.build(meta, tracks, anchors=anchors)

"""Lines of the report about the models or the video streams that shared a load."""

from collections.abc import Iterator

from perf_client.loads import Sequences
from perf_client.profile import LoadProfile, LoadResult, ModelResult, StreamResult
from perf_client.sequences import DEFAULT_LENGTH

_SHOWN_STREAMS = 16


def sharing_lines(profile: LoadProfile) -> Iterator[str]:
    """Settings: who shares the load."""
    total = sum(share.weight for share in profile.mix)
    if profile.mix:
        parts = ", ".join(f"{share.model} {share.weight / total:.3g}" for share in profile.mix)
        yield f"  Models that share the load: {parts}"
    if profile.sequences is not None:
        yield f"  Sequences of {_length(profile.sequences)} requests, one of each in flight"


def _length(sequences: Sequences) -> str:
    if sequences.length is None:
        return f"as many as their data has, else {DEFAULT_LENGTH},"
    return f"{sequences.length} +- {sequences.length_variation_percent:g} %"


def parts_lines(result: LoadResult) -> Iterator[str]:
    if result.by_model:
        yield "  Models: "
        yield from (f"    {_model(each, result)}" for each in result.by_model)
    if result.by_stream:
        yield "  Video streams: "
        yield from (f"    {line}" for line in _streams(result.by_stream))


def _model(each: ModelResult, result: LoadResult) -> str:
    name = f"{each.model}, version {each.version}" if each.version else each.model
    share = each.request_count / result.request_count if result.request_count else 0.0
    parts = [f"{each.request_count} requests ({share:.1%})", f"{each.throughput.per_second:g} infer/sec"]
    for percentile in each.response.percentiles if each.response else ():
        if percentile.percent in (50.0, 99.0) and percentile.supported:
            parts.append(f"p{percentile.percent:g} {int(percentile.value_ns / 1000)} usec")
    parts += [f"{count} failed, {failure}" for failure, count in each.failures.items()]
    parts += [f"{each.dropped_count} dropped"] if each.dropped_count else []
    return f"{name}: {', '.join(parts)}"


def _streams(streams: tuple[StreamResult, ...]) -> Iterator[str]:
    """All of them together, then each; of many, those that fared worst."""
    frames = sum(each.frame_count for each in streams)
    on_time = sum(each.on_time_count for each in streams)
    late, failed = sum(each.late_count for each in streams), sum(each.failed_count for each in streams)
    dropped = sum(each.dropped_count for each in streams)
    ratio = on_time / frames if frames else 0.0
    yield f"Frames: {frames}, {on_time} on time ({ratio:.2%}), {late} late, {failed} failed, {dropped} dropped"
    worst = sorted(streams, key=lambda each: each.on_time_count - each.frame_count)
    for each in sorted(worst[:_SHOWN_STREAMS], key=lambda each: each.stream):
        slowest = "none answered" if each.worst_ns is None else f"slowest {int(each.worst_ns / 1000)} usec"
        yield (
            f"Stream {each.stream}: {each.frame_count} frames, {each.late_count} late, {each.failed_count} failed, "
            f"{each.dropped_count} dropped, {slowest}"
        )
    if len(streams) > _SHOWN_STREAMS:
        yield f"and {len(streams) - _SHOWN_STREAMS} streams that fared no worse"

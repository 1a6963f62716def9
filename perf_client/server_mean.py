"""The server's own times to means of one request, as reports show them."""

from dataclasses import dataclass, fields

from perf_client.profile import ServerTimes


@dataclass(frozen=True, slots=True)
class MeanServerTimes:
    """Parts of one request's mean time in the server, in ns. ``overhead_ns`` is what the parts leave of the whole."""

    queue_ns: float
    compute_input_ns: float
    compute_infer_ns: float
    compute_output_ns: float
    cache_hit_ns: float
    cache_miss_ns: float
    overhead_ns: float = 0.0


_PARTS = [field.name for field in fields(MeanServerTimes) if field.name != "overhead_ns"]


def mean_server_times(times: ServerTimes, composing: tuple[ServerTimes, ...] = ()) -> MeanServerTimes:
    """Of a model, or of an ensemble: that one queues and computes in its composing models, one after the other."""
    busy = [model for model in composing if model.success_count] or [times]
    parts = {name: sum(_mean(getattr(model, name), model) for model in busy) for name in _PARTS}
    whole = _mean(times.request_ns, times)
    return MeanServerTimes(**parts, overhead_ns=max(0.0, whole - sum(parts.values())))


def _mean(total_ns: int, times: ServerTimes) -> float:
    return total_ns / times.success_count if times.success_count else 0.0

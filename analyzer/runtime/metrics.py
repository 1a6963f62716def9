"""Statistics to a page in Prometheus' text format, under the names that Triton's dashboards know."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from analyzer.runtime.host_metrics import Reading
from analyzer.runtime.metrics_config import PLAIN, MetricsConfig
from analyzer.runtime.statistics import FailureReason, Histogram, Statistics
from analyzer.runtime.summaries import Summaries, Summary

CONTENT_TYPE = "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"

_BATCH_SIZES = tuple(2**power for power in range(11))


@dataclass(frozen=True, slots=True)
class _Family:
    name: str
    help: str
    read: Callable[[Statistics], int]

    @property
    def is_latency(self) -> bool:
        return "_duration_" in self.name


_COUNTERS = (
    _Family(
        "nv_inference_request_success",
        "Number of successful inference requests, all batch sizes",
        lambda s: s.success_count,
    ),
    _Family(
        "nv_inference_count",
        "Number of inferences performed (does not include cached requests)",
        lambda s: s.inference_count,
    ),
    _Family(
        "nv_inference_exec_count",
        "Number of model executions performed (does not include cached requests)",
        lambda s: s.execution_count,
    ),
    _Family(
        "nv_inference_request_duration_us",
        "Cumulative inference request duration in microseconds (includes cached requests)",
        lambda s: s.success_ns // 1000,
    ),
    _Family(
        "nv_inference_queue_duration_us",
        "Cumulative inference queuing duration in microseconds (includes cached requests)",
        lambda s: s.spent.queue_ns // 1000,
    ),
    _Family(
        "nv_inference_compute_input_duration_us",
        "Cumulative compute input duration in microseconds (does not include cached requests)",
        lambda s: s.spent.input_ns // 1000,
    ),
    _Family(
        "nv_inference_compute_infer_duration_us",
        "Cumulative compute inference duration in microseconds (does not include cached requests)",
        lambda s: s.spent.infer_ns // 1000,
    ),
    _Family(
        "nv_inference_compute_output_duration_us",
        "Cumulative inference compute output duration in microseconds (does not include cached requests)",
        lambda s: s.spent.output_ns // 1000,
    ),
    _Family("nv_cache_num_hits_per_model", "Number of response cache hits per model", lambda s: s.cache_hit_count),
    _Family("nv_cache_num_misses_per_model", "Number of response cache misses per model", lambda s: s.cache_miss_count),
    _Family(
        "nv_cache_hit_duration_per_model",
        "Cumulative response cache hit duration per model, in microseconds",
        lambda s: s.cache_hit_ns // 1000,
    ),
    _Family(
        "nv_cache_miss_duration_per_model",
        "Cumulative response cache miss duration per model, in microseconds",
        lambda s: s.cache_miss_ns // 1000,
    ),
)


def render(
    statistics: Iterable[Statistics],
    pending: Mapping[tuple[str, str], int],
    host: Sequence[Reading] = (),
    refused: Mapping[str, int] | None = None,
    *,
    config: MetricsConfig = PLAIN,
    now_ns: int = 0,
) -> str:
    """One page. ``pending`` are the requests that wait for execution, by model and version.

    ``refused`` are those that are no model's, by reason. ``now_ns`` ends the minute that quantiles are of.
    """
    entries = [(entry, _model(entry)) for entry in statistics]
    lines: list[str] = []
    for family in _COUNTERS:
        if family.is_latency and not config.counter_latencies:
            continue
        lines += _heading(family.name, family.help, "counter")
        lines += [f"{family.name}{{{labels}}} {family.read(entry)}" for entry, labels in entries]
    lines += _failures(entries)
    name = "nv_inference_pending_request_count"
    lines += _heading(name, "Instantaneous number of pending requests awaiting execution per-model.", "gauge")
    lines += [f"{name}{{{labels}}} {pending.get((entry.name, entry.version), 0)}" for entry, labels in entries]
    lines += _durations(
        "nv_inference_first_response_histogram_ms",
        "Time from a request's arrival to the first response of a decoupled model, in milliseconds",
        [
            (entry.first_responses, labels)
            for entry, labels in entries
            if entry.first_responses is not None and config.histogram_latencies
        ],
        unit_ns=1_000_000,
    )
    if config.summary_latencies:
        lines += _summaries(entries, config.summary_quantiles, now_ns)
    lines += _durations(
        "analyzer_inference_request_duration_seconds",
        "Time from a request's arrival to its answer, of successful requests",
        [(entry.latencies, labels) for entry, labels in entries],
        unit_ns=1_000_000_000,
    )
    lines += _batch_sizes(entries)
    lines += _refused(refused or {})
    lines += _host(host)
    return "\n".join(lines) + "\n"


_SUMMARIES: tuple[tuple[str, str, Callable[[Summaries], Summary]], ...] = (
    (
        "request",
        "Summary of inference request duration in microseconds (includes cached requests)",
        lambda s: s.requests,
    ),
    ("queue", "Summary of inference queuing duration in microseconds (includes cached requests)", lambda s: s.queues),
    (
        "compute_input",
        "Summary of compute input duration in microseconds (does not include cached requests)",
        lambda s: s.inputs,
    ),
    (
        "compute_infer",
        "Summary of compute inference duration in microseconds (does not include cached requests)",
        lambda s: s.inferences,
    ),
    (
        "compute_output",
        "Summary of inference compute output duration in microseconds (does not include cached requests)",
        lambda s: s.outputs,
    ),
)


def _summaries(entries: Sequence[tuple[Statistics, str]], quantiles: Sequence[float], now_ns: int) -> Iterator[str]:
    for part, text, read in _SUMMARIES:
        name = f"nv_inference_{part}_summary_us"
        yield from _heading(name, text, "summary")
        for entry, labels in entries:
            if entry.summaries is None:
                continue
            summary = read(entry.summaries)
            yield f"{name}_count{{{labels}}} {summary.count}"
            yield f"{name}_sum{{{labels}}} {summary.sum_us}"
            for quantile, found in zip(quantiles, summary.quantiles(quantiles, now_ns)):
                yield f'{name}{{{labels},quantile="{quantile:g}"}} {"NaN" if found is None else found}'


def _failures(entries: Iterable[tuple[Statistics, str]]) -> Iterator[str]:
    name = "nv_inference_request_failure"
    yield from _heading(name, "Number of failed inference requests, all batch sizes", "counter")
    for entry, labels in entries:
        for reason in FailureReason:
            yield f'{name}{{{labels},reason="{reason.value}"}} {entry.failures[reason]}'


def _refused(refused: Mapping[str, int]) -> Iterator[str]:
    if refused:
        name = "analyzer_requests_refused_total"
        yield from _heading(
            name, "Number of inference requests that were refused before they came to a model", "counter"
        )
        for reason, count in refused.items():
            yield f'{name}{{reason="{reason}"}} {count}'


def _durations(name: str, text: str, histograms: Sequence[tuple[Histogram, str]], unit_ns: int) -> Iterator[str]:
    if not histograms:
        return
    yield from _heading(name, text, "histogram")
    for histogram, labels in histograms:
        bounds = [f"{bound / unit_ns:.9g}" for bound in histogram.bounds_ns]
        yield from _buckets(name, labels, bounds, histogram.counts, f"{histogram.sum_ns / unit_ns:.9g}")


def _batch_sizes(entries: Iterable[tuple[Statistics, str]]) -> Iterator[str]:
    name = "analyzer_inference_batch_size"
    yield from _heading(name, "Rows of each execution", "histogram")
    for entry, labels in entries:
        counts, total = [0] * (len(_BATCH_SIZES) + 1), 0
        for rows, size in entry.batches.items():
            counts[next((at for at, bound in enumerate(_BATCH_SIZES) if rows <= bound), len(_BATCH_SIZES))] += (
                size.count
            )
            total += rows * size.count
        yield from _buckets(name, labels, map(str, _BATCH_SIZES), counts, str(total))


def _buckets(name: str, labels: str, bounds: Iterable[str], counts: Sequence[int], total: str) -> Iterator[str]:
    for bound, count in zip((*bounds, "+Inf"), accumulate(counts)):
        yield f'{name}_bucket{{{labels},le="{bound}"}} {count}'
    yield f"{name}_sum{{{labels}}} {total}"
    yield f"{name}_count{{{labels}}} {sum(counts)}"


def _host(readings: Sequence[Reading]) -> Iterator[str]:
    told = ""
    for reading in sorted(readings, key=lambda item: item.family.name):
        if reading.family.name != told:
            told = reading.family.name
            yield from _heading(told, reading.family.help, reading.family.kind)
        labels = f'{{gpu_uuid="{_escaped(reading.gpu_uuid)}"}}' if reading.gpu_uuid else ""
        yield f"{told}{labels} {reading.value:.12g}"


def _heading(name: str, text: str, kind: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _model(entry: Statistics) -> str:
    labels = (("model", entry.name), ("version", entry.version), *entry.tags)
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

"""Counters of one served model version, in the form of Triton's statistics extension."""

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

from tritonclient.grpc import service_pb2

from analyzer.runtime.durations import Durations, Stamps
from analyzer.runtime.summaries import Summaries

LATENCY_BOUNDS_NS = tuple(step * 10**power for power in range(4, 9) for step in (10, 25, 50))
"""100 us to 5 s."""
FIRST_RESPONSE_BOUNDS_NS = (100_000_000, 500_000_000, 2_000_000_000, 5_000_000_000)
"""Triton's own, where a configuration states none."""


class FailureReason(Enum):
    """Why a request failed, as Triton's metrics tell it. Told by who knows it: a queue rejects, a backend fails."""

    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    BACKEND = "BACKEND"
    OTHER = "OTHER"


class Histogram:
    """Counts of durations, by upper bounds in ascending order; the last count is of those above all bounds."""

    def __init__(self, bounds_ns: Sequence[float]) -> None:
        self.bounds_ns = tuple(bounds_ns)
        self.counts = [0] * (len(self.bounds_ns) + 1)
        self.sum_ns = 0

    def record(self, duration_ns: int) -> None:
        self.counts[bisect_left(self.bounds_ns, duration_ns)] += 1
        self.sum_ns += duration_ns


@dataclass(slots=True)
class _BatchSize:
    """All executions of one batch size."""

    count: int = 0
    input_ns: int = 0
    infer_ns: int = 0
    output_ns: int = 0


@dataclass(slots=True)
class Statistics:
    """Counts requests, rows and executions. Every request that succeeds counts once in queue and compute figures.

    The compute time of an execution counts fully for each of its requests, as each has waited for all of it.
    """

    name: str
    version: str
    tags: tuple[tuple[str, str], ...] = ()
    """Labels of its metrics besides model and version."""
    success_count: int = 0
    success_ns: int = 0
    fail_count: int = 0
    fail_ns: int = 0
    spent: Durations = field(default_factory=Durations)
    inference_count: int = 0
    execution_count: int = 0
    last_inference_ns: int = 0
    batches: dict[int, _BatchSize] = field(default_factory=dict)
    cache_hit_count: int = 0
    cache_hit_ns: int = 0
    cache_miss_count: int = 0
    cache_miss_ns: int = 0
    cached_count: int = 0
    failures: dict[FailureReason, int] = field(default_factory=lambda: dict.fromkeys(FailureReason, 0))
    latencies: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS_NS))
    first_responses: Histogram | None = None
    """Of a decoupled model."""
    summaries: Summaries | None = None
    """Kept where --metrics-config asks for them."""

    def record_requests(self, count: int, rows: int, total_ns: int, queue_ns: int) -> None:
        """``count`` requests of one execution have succeeded; the times are sums over them.

        Each of them is told to ``record_latency`` besides.
        """
        self.success_count += count
        self.success_ns += total_ns
        self.spent.queue_ns += queue_ns
        self.inference_count += rows

    def record_execution(self, count: int, rows: int, spent: Durations, now_ns: int) -> None:
        """One execution is done, with ``count`` requests that have succeeded, of ``rows`` in all."""
        self.execution_count += 1
        input_ns, infer_ns, output_ns = spent.input_ns, spent.infer_ns, spent.output_ns
        total = self.spent
        total.input_ns += input_ns * count
        total.infer_ns += infer_ns * count
        total.output_ns += output_ns * count
        size = self.batches.get(rows)
        if size is None:
            size = self.batches[rows] = _BatchSize()
        size.count += 1
        size.input_ns += input_ns
        size.infer_ns += infer_ns
        size.output_ns += output_ns
        self.last_inference_ns = now_ns

    def record_alone(self, rows: int, arrival_ns: int, queued_ns: int, stamps: Stamps, now_ns: int) -> None:
        """As the two above and ``record_latency`` for an execution of one request, as most are: one call costs less."""
        start_ns, input_end_ns, infer_end_ns = stamps.start_ns, stamps.input_end_ns, stamps.infer_end_ns
        input_ns, infer_ns, output_ns = (
            input_end_ns - start_ns,
            infer_end_ns - input_end_ns,
            stamps.end_ns - infer_end_ns,
        )
        total_ns = now_ns - arrival_ns
        self.success_count += 1
        self.success_ns += total_ns
        self.inference_count += rows
        self.execution_count += 1
        self.last_inference_ns = now_ns
        total = self.spent
        total.queue_ns += start_ns - queued_ns
        total.input_ns += input_ns
        total.infer_ns += infer_ns
        total.output_ns += output_ns
        size = self.batches.get(rows)
        if size is None:
            size = self.batches[rows] = _BatchSize()
        size.count += 1
        size.input_ns += input_ns
        size.infer_ns += infer_ns
        size.output_ns += output_ns
        latencies = self.latencies  # ``record``, without the call
        latencies.counts[bisect_left(latencies.bounds_ns, total_ns)] += 1
        latencies.sum_ns += total_ns
        if self.summaries is not None:
            self.summaries.record(total_ns, start_ns - queued_ns, Durations(0, input_ns, infer_ns, output_ns), now_ns)

    def record_latency(self, total_ns: int, queue_ns: int, spent: Durations, now_ns: int) -> None:
        """Of one request; ``record_requests`` has the sums."""
        self.latencies.record(total_ns)
        if self.summaries is not None:
            self.summaries.record(total_ns, queue_ns, spent, now_ns)

    def record_cache_hit(self, lookup_ns: int) -> None:
        self.cache_hit_count += 1
        self.cache_hit_ns += lookup_ns

    def record_cache_miss(self, lookup_and_insertion_ns: int) -> None:
        self.cache_miss_count += 1
        self.cache_miss_ns += lookup_and_insertion_ns

    def record_cached_request(self, total_ns: int, now_ns: int) -> None:
        """A request that the cache answered: it succeeded without a stay in a queue or an inference."""
        self.success_count += 1
        self.success_ns += total_ns
        self.cached_count += 1
        self.latencies.record(total_ns)
        if self.summaries is not None:
            self.summaries.requests.record(total_ns, now_ns)

    def record_failure(self, total_ns: int, reason: FailureReason = FailureReason.OTHER) -> None:
        self.failures[reason] += 1
        self.fail_count += 1
        self.fail_ns += total_ns

    def message(self) -> service_pb2.ModelStatistics:
        """The counters as a protobuf message, batch sizes in ascending order."""
        count, spent = self.success_count - self.cached_count, self.spent
        requests = service_pb2.InferStatistics(
            success=_duration(self.success_count, self.success_ns),
            fail=_duration(self.fail_count, self.fail_ns),
            queue=_duration(count, spent.queue_ns),
            compute_input=_duration(count, spent.input_ns),
            compute_infer=_duration(count, spent.infer_ns),
            compute_output=_duration(count, spent.output_ns),
            cache_hit=_duration(self.cache_hit_count, self.cache_hit_ns),
            cache_miss=_duration(self.cache_miss_count, self.cache_miss_ns),
        )
        sizes = [
            service_pb2.InferBatchStatistics(
                batch_size=rows,
                compute_input=_duration(size.count, size.input_ns),
                compute_infer=_duration(size.count, size.infer_ns),
                compute_output=_duration(size.count, size.output_ns),
            )
            for rows, size in sorted(self.batches.items())
        ]
        return service_pb2.ModelStatistics(
            name=self.name,
            version=self.version,
            last_inference=_epoch_ms(self.last_inference_ns),
            inference_count=self.inference_count,
            execution_count=self.execution_count,
            inference_stats=requests,
            batch_stats=sizes,
        )


def _epoch_ms(at_ns: int) -> int:
    """Monotonic to wall time, which is how the statistics extension defines last_inference; 0 is never."""
    return (time.time_ns() - time.monotonic_ns() + at_ns) // 1_000_000 if at_ns else 0


def _duration(count: int, ns: int) -> service_pb2.StatisticDuration:
    return service_pb2.StatisticDuration(count=count, ns=ns)

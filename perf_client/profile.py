"""What is asked of a server and what came back: the two records shared by the load generator and the analyzer.

A ``LoadProfile`` says what load to apply; a ``LoadResult`` says what was seen. Both are plain data, written to JSON
with msgspec. Where the server listens is no part of a profile: the same load on another port is the same measurement.
"""

from typing import Literal

import msgspec

from perf_client.loads import Arrival, Concurrency, Load, RequestRate, Sequences

__all__ = ["Arrival", "Concurrency", "Load", "RequestRate", "Sequences"]
"""Names that belong to a profile but live beside the other kinds of load."""

FORMAT_VERSION = 1
"""Version of ``LoadResult`` on disk. 1: first."""

Protocol = Literal["http", "grpc"]
TensorFormat = Literal["binary", "json"]
Parameter = bool | int | float | str
Compression = Literal["none", "gzip", "deflate"]
SharedMemory = Literal["none", "system", "cuda"]
Service = Literal["triton", "openai", "in_process"]
Verdict = Literal["steady", "kept up", "drifting", "overloaded", "too short", "not judged"]
"""``kept up`` is said of a load that changes by design, where a trend of the latency would say nothing; ``not judged``
of figures that another tool measured, which keeps neither counts nor a verdict."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every record: frozen, named fields only, unknown fields are an error."""


class ModelShare(Record, frozen=True, omit_defaults=True):
    """One of several models that share a load; its part of the requests is its weight over the sum of all weights."""

    model: str
    version: str = ""
    weight: float = 1.0


class LoadProfile(Record, frozen=True, omit_defaults=True):
    """One level of load on one model, or on several that share it.

    ``input_data`` is ``random``, ``zero``, or a path: JSON in perf_analyzer's format, or a folder of raw tensors;
    ``more_input_data`` are further paths, played after it. ``shapes`` fixes variable dimensions, without the batch.
    BYTES elements are made up of ``string_length`` random characters, or are ``string_data`` where that is given.
    ``outputs`` are those asked for; empty means all. ``parameters`` go with every request, ``headers`` too (gRPC's
    metadata). Tensors travel in binary or, over HTTP, as JSON.
    ``warmup_s`` is cut from the front; ``None`` lets MSER-5 choose the cut. After the cut everything counts.
    The run ends after ``duration_s`` (warm-up apart) or after ``request_count`` requests, whichever is given; a request
    that has no answer after ``timeout_s`` is a failure of class ``timeout``.

    ``compression`` is that of requests, and asked for in answers. ``streaming``: requests go over streams that may
    bring several answers each. ``shared_memory`` holds inputs and outputs, ``output_shared_memory_bytes`` each output
    whose size the model doesn't say. ``endpoint`` is the path of an ``openai`` service, or the model repository of an
    ``in_process`` one. ``workers`` processes share the load.

    ``mix`` names all models where several share the load, which model a request goes to drawn by ``seed``; ``model``
    and ``version`` are then the first one's. ``sequences`` None: only where the model wants them, with their defaults.
    """

    model: str
    load: Load
    version: str = ""
    protocol: Protocol = "http"
    batch_size: int = 1
    input_data: str = "random"
    more_input_data: tuple[str, ...] = ()
    shapes: dict[str, tuple[int, ...]] = {}
    string_length: int = 128
    string_data: str | None = None
    parameters: dict[str, Parameter] = {}
    headers: tuple[tuple[str, str], ...] = ()
    outputs: tuple[str, ...] = ()
    input_format: TensorFormat = "binary"
    output_format: TensorFormat = "binary"
    warmup_s: float | None = None
    duration_s: float = 5.0
    request_count: int | None = None
    timeout_s: float = 60.0
    seed: int = 0
    compression: Compression = "none"
    streaming: bool = False
    shared_memory: SharedMemory = "none"
    output_shared_memory_bytes: int = 102_400
    service: Service = "triton"
    endpoint: str = ""
    workers: int = 1
    mix: tuple[ModelShare, ...] = ()
    sequences: Sequences | None = None

    @property
    def shares(self) -> tuple[ModelShare, ...]:
        """All models that get requests."""
        return self.mix or (ModelShare(model=self.model, version=self.version),)


class Percentile(Record, frozen=True):
    """A quantile of a latency with its distribution-free 95 % interval, all in ns.

    ``supported`` is false where the sample is too small to know it; bounds are None where no order statistic bounds it.
    """

    percent: float
    value_ns: int
    low_ns: int | None
    high_ns: int | None
    supported: bool


class Latency(Record, frozen=True):
    """Summary of one latency over all counted, successful requests. Percentiles rise from p50 to p99.99."""

    count: int
    mean_ns: float
    std_ns: float
    min_ns: int
    max_ns: int
    percentiles: tuple[Percentile, ...]


class Rate(Record, frozen=True):
    """A rate per second with its 95 % interval, in which bursts and drifts are honoured."""

    per_second: float
    low: float
    high: float


class ScheduleLag(Record, frozen=True):
    """How late requests left, against their schedule (open loop only)."""

    p50_ns: int
    p99_ns: int
    max_ns: int


class ClientCost(Record, frozen=True):
    """What the load generator itself used, and whether it, not the server, was the limit."""

    cpu_s: float
    cpu_ratio: float
    loop_stall_max_ns: int
    bound: bool
    reason: str = ""


class ServerTimes(Record, frozen=True):
    """Growth of the statistics extension of one model over the counted window. Durations are sums in ns.

    ``request_ns`` is the server's time of whole requests, from receipt to answer; 0 where it doesn't say.
    """

    model: str
    version: str
    inference_count: int
    execution_count: int
    success_count: int
    fail_count: int
    queue_ns: int
    compute_input_ns: int
    compute_infer_ns: int
    compute_output_ns: int
    cache_hit_count: int = 0
    cache_miss_count: int = 0
    cache_hit_ns: int = 0
    cache_miss_ns: int = 0
    request_ns: int = 0


class ModelResult(Record, frozen=True):
    """One model's part of a run that several share: its fields are those of ``LoadResult``, over its requests alone."""

    model: str
    version: str
    request_count: int
    throughput: Rate
    response: Latency | None
    service: Latency | None
    first_byte: Latency | None
    dropped_count: int = 0
    failures: dict[str, int] = {}


class AnswerResult(Record, frozen=True):
    """What came back where a request may have several answers: over streams, or as events of an ``openai`` service.

    ``first_answer`` and ``last_answer`` run from the time the request was sent (``first_answer`` of an ``openai``
    service is the time to the first token), ``between_answers`` from one answer to the next of the same request. An
    empty answer that only says that there are no more is not counted. Tokens are None where the answers name none.
    """

    answer_count: int
    answers_per_second: Rate
    first_answer: Latency | None
    last_answer: Latency | None
    between_answers: Latency | None
    output_token_count: int | None = None
    output_tokens_per_second: Rate | None = None


class StreamResult(Record, frozen=True):
    """What became of the frames of one video stream: on time, late, failed or dropped (never sent).

    ``worst_ns`` is the longest response time, None where no frame was answered.
    """

    stream: int
    frame_count: int
    on_time_count: int
    late_count: int
    failed_count: int
    dropped_count: int
    worst_ns: int | None


class Metric(Record, frozen=True):
    """One series of the server's Prometheus page over the counted window: a gauge's values or a counter's growth."""

    name: str
    labels: dict[str, str]
    least: float | None = None
    mean: float | None = None
    most: float | None = None
    growth: float | None = None
    per_second: float | None = None


class CountCheck(Record, frozen=True):
    """How many requests the server counted between two samples of its counters, and how many this client knows of.

    ``surely_count`` were sent and answered between the samples; ``at_most_count`` are all that may be in the server's
    count: those under way at a sample may be on either side of it, and a request that failed may not have reached it.
    """

    server_count: int
    server_failed_count: int
    surely_count: int
    at_most_count: int

    @property
    def unexplained_count(self) -> int:
        """Requests that the server counted and this client can't have sent; below zero those it didn't count."""
        if self.server_count > self.at_most_count:
            return self.server_count - self.at_most_count
        return min(0, self.server_count - self.surely_count)


class LoadResult(Record, frozen=True):
    """What one ``LoadProfile`` gave.

    ``response`` runs from the scheduled time, ``service`` from the time the request was sent, ``first_byte`` from sent
    to the first byte of the answer. ``throughput`` counts inferences (requests times batch size) of successful
    requests. ``start_ns`` is CLOCK_MONOTONIC at the schedule's zero, ``started_unix_ns`` the wall clock then.
    ``counted_from_ns`` and ``counted_to_ns`` bound the counted window, relative to ``start_ns``. ``request_count`` and
    ``failures`` (by class) are over that window, failed requests counted in both; ``failure_examples`` are the server's
    own words. ``failure_adjusted_ns`` holds the response percentiles with failed and dropped requests as endless waits
    (``p99``: None where one reaches down to it), empty where none failed. ``server`` holds the driven model first, then
    the composing models of an ensemble; empty where it was not offered (``server_unmeasured`` says why). Where several
    models share the load it holds them in the profile's order, and ``by_model`` what each got; ``by_stream`` has an
    entry for each video stream. ``incomplete_reason`` says what ended an ``incomplete`` run early. ``count_check`` lays
    the server's count of requests beside ours, None where there is none; ``metrics`` are its Prometheus families, where
    they were asked for.
    """

    profile: LoadProfile
    start_ns: int
    started_unix_ns: int
    counted_from_ns: int
    counted_to_ns: int
    request_count: int
    throughput: Rate
    response: Latency | None
    service: Latency | None
    first_byte: Latency | None
    verdict: Verdict
    verdict_reason: str
    client: ClientCost
    offered_per_second: float | None = None
    schedule_lag: ScheduleLag | None = None
    dropped_count: int = 0
    failures: dict[str, int] = {}
    failure_examples: dict[str, str] = {}
    failure_adjusted_ns: dict[str, int | None] = {}
    server: tuple[ServerTimes, ...] = ()
    server_unmeasured: str = ""
    incomplete: bool = False
    incomplete_reason: str = ""
    by_model: tuple[ModelResult, ...] = ()
    by_stream: tuple[StreamResult, ...] = ()
    answers: AnswerResult | None = None
    count_check: CountCheck | None = None
    metrics: tuple[Metric, ...] = ()
    metrics_unmeasured: str = ""
    format_version: int = FORMAT_VERSION

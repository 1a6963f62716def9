"""What is asked of a server and what came back: the two records shared by the load generator and the analyzer.

A ``LoadProfile`` says what load to apply; a ``LoadResult`` says what was seen. Both are plain data, written to JSON
with msgspec. Where the server listens is no part of a profile: the same load on another port is the same measurement.
"""

from typing import Literal

import msgspec

FORMAT_VERSION = 1
"""Version of ``LoadResult`` on disk. 1: first."""

Protocol = Literal["http", "grpc"]
Arrival = Literal["constant", "poisson", "gamma"]
TensorFormat = Literal["binary", "json"]
Parameter = bool | int | float | str
Compression = Literal["none", "gzip", "deflate"]
SharedMemory = Literal["none", "system", "cuda"]
Service = Literal["triton", "openai", "in_process"]
Verdict = Literal["steady", "drifting", "overloaded", "too short"]


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every record: frozen, named fields only, unknown fields are an error."""


class Concurrency(Record, frozen=True, tag="concurrency", tag_field="mode"):
    """Closed loop: so many requests are kept in flight; the next leaves when one returns."""

    in_flight: int


class RequestRate(Record, frozen=True, tag="request_rate", tag_field="mode"):
    """Open loop: requests leave by a schedule that the server cannot slow down.

    ``gamma_shape`` is used by the ``gamma`` arrival only: 1 is Poisson, below 1 burstier, above 1 more even.
    ``max_in_flight`` caps what is outstanding; requests that find the cap reached are counted as dropped.
    """

    per_second: float
    arrival: Arrival = "constant"
    gamma_shape: float = 1.0
    max_in_flight: int | None = None


Load = Concurrency | RequestRate


class LoadProfile(Record, frozen=True):
    """One level of load on one model.

    ``input_data`` is ``random``, ``zero``, or a path: JSON in perf_analyzer's format, or a folder of raw tensors;
    ``more_input_data`` are further paths, played after it. ``shapes`` fixes variable dimensions, without the batch.
    BYTES elements are made up of ``string_length`` random characters, or are ``string_data`` where that is given.
    ``outputs`` are those asked for; empty means all. ``parameters`` go with every request, ``headers`` too (gRPC's
    metadata). Tensors travel in binary or, over HTTP, as JSON.
    ``warmup_s`` is cut from the front; ``None`` lets MSER-5 choose the cut. After the cut everything counts.
    The run ends after ``duration_s`` (warm-up apart) or after ``request_count`` requests, whichever is given; a request
    that has no answer after ``timeout_s`` is a failure of class ``timeout``.

    ``compression`` is that of requests, and asked for in answers. ``streaming``: requests go over streams that may bring
    several answers each. ``shared_memory`` holds inputs and outputs, ``output_shared_memory_bytes`` each output whose size
    the model doesn't say. ``endpoint`` is the path of an ``openai`` service, or the model repository of an
    ``in_process`` one. ``workers`` processes share the load.
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
    """A rate per second with its 95 % interval (batch means, so autocorrelation is honoured)."""

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


class LoadResult(Record, frozen=True):
    """What one ``LoadProfile`` gave.

    ``response`` runs from the scheduled time, ``service`` from the time the request was sent, ``first_byte`` from sent
    to the first byte of the answer. ``throughput`` counts inferences (requests times batch size) of successful
    requests. ``start_ns`` is CLOCK_MONOTONIC at the schedule's zero, ``started_unix_ns`` the wall clock then.
    ``counted_from_ns`` and ``counted_to_ns`` bound the counted window, relative to ``start_ns``. ``request_count`` and
    ``failures`` (by class) are over that window, failed requests counted in both; ``failure_examples`` are the server's
    own words. ``failure_adjusted_ns`` holds the response percentiles with failed and dropped requests as endless waits
    (``p99``: None where one reaches down to it), empty where none failed. ``server`` holds the driven model first, then
    the composing models of an ensemble; empty where it was not offered (``server_unmeasured`` says why).
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
    format_version: int = FORMAT_VERSION

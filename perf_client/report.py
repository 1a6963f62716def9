"""Results to lines of text: perf_analyzer's report in its layout, then what it does not say.

Latencies in perf_analyzer's lines are response times, counted from when a request was due. In a closed loop that is
when it was sent; in an open loop it also holds what the client or a full connection kept waiting.
"""

from collections.abc import Iterator

from perf_client.command import Command
from perf_client.estimate import needed_samples
from perf_client.loads import Concurrency, Load, RequestRate, arrival_of
from perf_client.metrics_lines import count_lines, metrics_lines
from perf_client.profile import Latency, LoadResult, Percentile, ServerTimes
from perf_client.report_parts import parts_lines, sharing_lines
from perf_client.server_mean import mean_server_times
from perf_client.sweep import Levels, judged_ns

PLAIN_PERCENTS = (50.0, 90.0, 95.0, 99.0)


def settings_lines(command: Command) -> Iterator[str]:
    profile, levels = command.profile, command.levels
    many = levels.end != levels.start
    yield "*** Measurement Settings ***"
    yield f"  Batch size: {profile.batch_size}"
    yield f"  Service Kind: {command.profile.service.upper()}"
    if profile.request_count:
        yield f"  Sending {profile.request_count} benchmark requests"
    else:
        yield f"  Measurement window: {profile.duration_s * 1000:g} msec"
    warmup = "found by MSER-5, part of the window" if profile.warmup_s is None else f"{profile.warmup_s:g} s before it"
    yield f"  Warm-up: {warmup}"
    if many or command.limit:
        yield f"  Latency limit: {command.limit.limit_ns / 1e6 if command.limit else 0:g} msec"
    if many and levels.end is not None:
        yield _limit_of(levels)
    if arrival := arrival_of(profile.load):
        arrival = "uniform" if arrival == "constant" else arrival
        yield f"  Using {arrival} distribution on request generation"
    yield from sharing_lines(profile)
    if command.bisect:
        yield "  Using Binary Search algorithm"
    yield "  Using asynchronous calls for inference"
    yield ""


def _limit_of(levels: Levels) -> str:
    if levels.mode == "concurrency":
        return f"  Concurrency limit: {levels.end:g} concurrent requests"
    if levels.mode == "streams":
        return f"  Video stream limit: {levels.end:g} streams"
    return f"  Request Rate limit: {levels.end:g} requests per seconds"


def level_lines(result: LoadResult, command: Command) -> Iterator[str]:
    yield result.profile.load.words
    yield "  Client: "
    yield from (f"    {line}" for line in _client_lines(result, command))
    yield "  Server: "
    if result.by_model:
        yield from _models_server_lines(result)
    elif result.server:
        yield from (f"    {line}" for line in _server_lines(result.server[0], result.server[1:]))
        yield from _composing_lines(result.server[1:])
    else:
        yield f"    Not measured: {result.server_unmeasured or 'no statistics were received'}"
    yield from parts_lines(result)
    yield from metrics_lines(result)
    yield "  How sure: "
    yield from (f"    {line}" for line in sureness_lines(result))


def _client_lines(result: LoadResult, command: Command) -> Iterator[str]:
    response, service = result.response, result.service
    yield f"Request count: {response.count if response else 0}"
    yield f"Throughput: {result.throughput.per_second:g} infer/sec"
    if result.answers is not None:
        yield f"Response Throughput: {result.answers.answers_per_second.per_second:g} infer/sec"
    if command.verbose:
        yield f"Avg client overhead: {result.client.cpu_ratio:.2%}"
    if response is None or service is None:
        yield "No request was answered"
        return
    if command.percent is None:
        yield f"Avg latency: {_us(response.mean_ns)} usec (standard deviation {_us(response.std_ns)} usec)"
    for percentile in response.percentiles:
        if percentile.percent in (*PLAIN_PERCENTS, command.percent):
            yield f"p{percentile.percent:g} latency: {_us(percentile.value_ns)} usec{_mark(percentile)}"
    yield _transport_line(result, service)


def _mark(percentile: Percentile) -> str:
    if percentile.supported:
        return ""
    return f" (not known: takes {needed_samples(percentile.percent)} requests)"


def _transport_line(result: LoadResult, service: Latency) -> str:
    wait_ns = result.first_byte.mean_ns if result.first_byte else service.mean_ns
    wait = f"response wait {_us(wait_ns)} usec"
    if result.profile.protocol == "grpc":
        return (
            f"Avg gRPC time: {_us(service.mean_ns)} usec "
            f"((un)marshal request/response {_us(service.mean_ns - wait_ns)} usec + {wait})"
        )
    return f"Avg HTTP time: {_us(service.mean_ns)} usec (send/recv {_us(service.mean_ns - wait_ns)} usec + {wait})"


def _models_server_lines(result: LoadResult) -> Iterator[str]:
    if not result.server:
        yield f"    Not measured: {result.server_unmeasured or 'no statistics were received'}"
    for times in result.server:
        yield f"    {times.model}, version: {times.version}"
        yield from (f"      {line}" for line in _server_lines(times))


def _server_lines(times: ServerTimes, composing: tuple[ServerTimes, ...] = ()) -> Iterator[str]:
    yield f"Inference count: {times.inference_count}"
    yield f"Execution count: {times.execution_count}"
    if times.cache_hit_count or times.cache_miss_count:
        yield f"Cache hit count: {times.cache_hit_count}"
        yield f"Cache miss count: {times.cache_miss_count}"
    yield f"Successful request count: {times.success_count}"
    if times.fail_count:
        yield f"Failed request count: {times.fail_count}"
    if times.success_count:
        yield _server_time_line(times, composing)


def _server_time_line(times: ServerTimes, composing: tuple[ServerTimes, ...]) -> str:
    mean = mean_server_times(times, composing)
    parts = {
        "queue": mean.queue_ns,
        "compute input": mean.compute_input_ns,
        "compute infer": mean.compute_infer_ns,
        "compute output": mean.compute_output_ns,
    }
    if composing:
        parts = {"queue": mean.queue_ns, "compute": sum(parts.values()) - mean.queue_ns}
    if times.cache_hit_count or times.cache_miss_count:
        parts |= {"cache hit": mean.cache_hit_ns, "cache miss": mean.cache_miss_ns}
    each = " + ".join(f"{name} {_us(value)} usec" for name, value in {"overhead": mean.overhead_ns, **parts}.items())
    return f"Avg request latency: {_us(mean.overhead_ns + sum(parts.values()))} usec ({each})"


def _composing_lines(composing: tuple[ServerTimes, ...]) -> Iterator[str]:
    if not composing:
        return
    yield ""
    yield "  Composing models: "
    for times in composing:
        yield f"  {times.model}, version: {times.version}"
        yield from (f"      {line}" for line in _server_lines(times))


def sureness_lines(result: LoadResult) -> Iterator[str]:
    """What perf_analyzer does not say. The first word of each line names it, so that scripts can find it."""
    from_s, window_s = result.counted_from_ns / 1e9, (result.counted_to_ns - result.counted_from_ns) / 1e9
    yield f"Verdict: {result.verdict} ({result.verdict_reason})"
    yield f"Counted: {result.request_count} requests over {window_s:.3f} s, after {from_s:.3f} s of warm-up"
    yield f"Throughput interval: {result.throughput.low:g} to {result.throughput.high:g} infer/sec (95 %)"
    yield from _offer_lines(result)
    if result.response and result.service:
        yield f"Response time (from schedule): {_spread(result.response)}"
        yield f"Service time (from send): {_spread(result.service)}"
    yield from _answer_lines(result)
    yield from _failure_lines(result)
    if result.count_check:
        yield from count_lines(result.count_check)
    client = result.client
    yield f"Client CPU: {client.cpu_ratio:.0%} of a core, longest stall {client.loop_stall_max_ns / 1e6:.1f} ms"
    if client.bound:
        yield f"[WARNING] Client-bound: {client.reason}"
    if result.incomplete:
        yield f"[WARNING] Incomplete: {result.incomplete_reason or 'interrupted before the end'}"


def _answer_lines(result: LoadResult) -> Iterator[str]:
    answers = result.answers
    if answers is None:
        return
    first = "Time to first token" if result.profile.service == "openai" else "First answer (from send)"
    between = "Inter-token latency" if result.profile.service == "openai" else "Between answers"
    yield f"Answers: {answers.answer_count} to {result.response.count if result.response else 0} requests"
    if answers.first_answer:
        yield f"{first}: {_spread(answers.first_answer)}"
    if answers.between_answers:
        yield f"{between}: {_spread(answers.between_answers)}"
    if (tokens := answers.output_tokens_per_second) is not None:
        rate = f"{tokens.per_second:g} tokens/sec ({tokens.low:g} to {tokens.high:g})"
        yield f"Output tokens: {answers.output_token_count}, {rate}"


def _offer_lines(result: LoadResult) -> Iterator[str]:
    if result.offered_per_second is not None:
        yield f"Offered: {result.offered_per_second:g} requests/sec"
    if (lag := result.schedule_lag) is not None:
        yield f"Schedule lag: p50 {_us(lag.p50_ns)} usec, p99 {_us(lag.p99_ns)} usec, max {_us(lag.max_ns)} usec"
    if result.dropped_count:
        yield f"Dropped: {result.dropped_count} requests met the in-flight cap and were not sent"


def _spread(latency: Latency) -> str:
    known = [p for p in latency.percentiles if p.supported]
    figures = [f"p{p.percent:g} {_us(p.value_ns)}{_interval(p)}" for p in known]
    unknown = [f"p{p.percent:g}" for p in latency.percentiles if not p.supported]
    text = f"{', '.join([*figures, f'max {_us(latency.max_ns)}'])} usec"
    return f"{text}; too few requests for {', '.join(unknown)}" if unknown else text


def _interval(percentile: Percentile) -> str:
    low = "?" if percentile.low_ns is None else _us(percentile.low_ns)
    high = "?" if percentile.high_ns is None else _us(percentile.high_ns)
    return f" ({low} to {high})"


def _failure_lines(result: LoadResult) -> Iterator[str]:
    for name, count in result.failures.items():
        example = " ".join(result.failure_examples.get(name, "").split())
        yield f"Failures, {name}: {count} of {result.request_count}{f', such as: {example}' if example else ''}"
    if result.failure_adjusted_ns:
        figures = [
            f"{name} {'endless' if value is None else f'{_us(value)} usec'}"
            for name, value in result.failure_adjusted_ns.items()
        ]
        yield f"Response time with failures as endless waits: {', '.join(figures)}"


def summary_lines(results: list[LoadResult], command: Command) -> Iterator[str]:
    name = "Average" if command.percent is None else f"p{command.percent:g}"
    yield f"Inferences/Second vs. Client {name} Batch Latency"
    for result in results:
        latency_ns = judged_ns(result, command.percent)
        shown = "not measured" if latency_ns is None else f"{_us(latency_ns)} usec"
        marks: list[str] = [result.verdict] if result.verdict != "steady" else []
        marks += ["client-bound"] if result.client.bound else []
        marks += ["over the limit"] if command.limit and not command.limit.kept(result) else []
        yield (
            f"{_level(result.profile.load)}, throughput: {result.throughput.per_second:g} infer/sec, latency {shown}"
            + (f" ({', '.join(marks)})" if marks else "")
        )


def _level(load: Load) -> str:
    match load:
        case Concurrency():
            return f"Concurrency: {load.in_flight}"
        case RequestRate():
            return f"Request Rate: {load.per_second:g}"
        case _:
            return load.words


def _us(ns: float) -> str:
    return str(int(ns / 1000))

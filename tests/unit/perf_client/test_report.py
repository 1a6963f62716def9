"""The report against the layout of perf_analyzer's own, as recorded from the real one: same lines, other figures."""

import re

import msgspec
import numpy as np
import pytest

from perf_client.command import parse
from perf_client.profile import Concurrency
from perf_client.report import level_lines, settings_lines, summary_lines
from perf_client.summarize import summarize
from tests.fakes import queues, recorded
from tests.fakes.load_results import SERVER, result

COMMAND = parse(["-m", "m", "--concurrency-range", "4"])


def text(lines):
    return "\n".join(lines)


def test_settings_block_has_the_known_lines():
    command = parse(["-m", "m", "-p", "1000", "--concurrency-range", "1:16:2", "--binary-search", "-l", "2"])
    lines = list(settings_lines(command))
    known = [
        "*** Measurement Settings ***",
        "  Batch size: 1",
        "  Service Kind: TRITON",
        "  Measurement window: 1000 msec",
        "  Latency limit: 2 msec",
        "  Concurrency limit: 16 concurrent requests",
        "  Using Binary Search algorithm",
        "  Using asynchronous calls for inference",
        "",
    ]
    assert [line for line in lines if not line.startswith("  Warm-up")] == known


@pytest.mark.parametrize(("arrival", "word"), [("constant", "uniform"), ("poisson", "poisson")])
def test_arrivals_are_named_in_the_known_words(arrival, word):
    command = parse(["-m", "m", "--request-rate-range", "5", "--request-distribution", arrival])
    assert f"  Using {word} distribution on request generation" in settings_lines(command)


def test_level_block_has_the_known_lines_in_the_known_order():
    lines = list(level_lines(result(), COMMAND))
    assert lines[:16] == [
        "Request concurrency: 4",
        "  Client: ",
        "    Request count: 500",
        "    Throughput: 100 infer/sec",
        "    Avg latency: 387 usec (standard deviation 0 usec)",
        "    p50 latency: 387 usec",
        "    p90 latency: 387 usec",
        "    p95 latency: 387 usec",
        "    p99 latency: 387 usec",
        "    Avg HTTP time: 387 usec (send/recv 1 usec + response wait 386 usec)",
        "  Server: ",
        "    Inference count: 2000",
        "    Execution count: 500",
        "    Successful request count: 500",
        "    Avg request latency: 180 usec (overhead 2 usec + queue 15 usec + compute input 18 usec "
        "+ compute infer 109 usec + compute output 36 usec)",
        "  How sure: ",
    ]


def test_grpc_and_request_rate_have_their_own_wording():
    profile = msgspec.structs.replace(recorded.OPEN, protocol="grpc")
    shown = text(level_lines(result(profile), COMMAND))
    assert shown.startswith("Request Rate: 100 inference requests per second\n")
    assert "Avg gRPC time: 387 usec ((un)marshal request/response 1 usec + response wait 386 usec)" in shown
    assert "Schedule lag: p50 0 usec, p99 0 usec, max 0 usec" in shown
    assert "Offered: 100 requests/sec" in shown


def test_counts_levels_and_rates_have_their_settings_lines():
    assert "  Sending 60 benchmark requests" in settings_lines(parse(["-m", "m", "--request-count", "60"]))
    command = parse(["-m", "m", "--request-rate-range", "5:9:2", "--warmup", "1.5"])
    assert "  Request Rate limit: 9 requests per seconds" in settings_lines(command)
    assert "  Warm-up: 1.5 s before it" in settings_lines(command)


def test_cache_and_failures_of_the_server_have_their_lines():
    cached = msgspec.structs.replace(
        SERVER, cache_hit_count=400, cache_miss_count=100, cache_hit_ns=500_000, fail_count=3
    )
    shown = text(level_lines(result(server=(cached,)), parse(["-m", "m", "-v"])))
    assert "    Cache hit count: 400\n    Cache miss count: 100\n    Successful request count: 500\n" in shown
    assert "    Failed request count: 3\n" in shown
    assert "+ cache hit 1 usec + cache miss 0 usec)" in shown
    assert "    Avg client overhead: 20.00%\n" in shown


def test_dropped_requests_are_said():
    shown = text(level_lines(result(recorded.OPEN, dropped_ns=np.array([5, 6])), COMMAND))
    assert "Dropped: 2 requests met the in-flight cap and were not sent" in shown


def test_percentile_replaces_the_mean_and_adds_its_line():
    command = parse(["-m", "m", "--concurrency-range", "4", "--percentile", "97"])
    due = np.arange(500, dtype=np.int64) * 10_000_000
    columns = recorded.columns((due, due + 387_000))
    shown = text(level_lines(summarize(recorded.CLOSED, columns, recorded.facts(5 * 10**9), (50, 97, 99)), command))
    assert "Avg latency" not in shown
    assert "p97 latency: 387 usec" in shown


def test_an_unsupported_percentile_is_marked_not_printed_as_known():
    shown = text(level_lines(result(count=100), COMMAND))
    assert "p95 latency: 387 usec\n" in shown
    assert "p99 latency: 387 usec (not known: takes 459 requests)" in shown
    assert "too few requests for p99, p99.9, p99.99" in shown


def test_ensemble_lists_its_composing_models():
    ensemble = msgspec.structs.replace(SERVER, queue_ns=0, request_ns=500 * 400_000)
    child = msgspec.structs.replace(SERVER, model="child", version="3")
    shown = text(level_lines(result(server=(ensemble, child, child)), COMMAND))
    assert "Avg request latency: 400 usec (overhead 44 usec + queue 30 usec + compute 326 usec)" in shown
    assert "\n\n  Composing models: \n  child, version: 3\n      Inference count: 2000\n" in shown


def test_absent_statistics_are_said_to_be_not_measured():
    shown = text(level_lines(result(server=()), COMMAND))
    assert "  Server: \n    Not measured: the server keeps no statistics\n" in shown


def test_an_example_of_several_lines_is_shown_in_one():
    made = msgspec.structs.replace(
        result(failures={3: "http 500"}), failure_examples={"http 500": "<html>\n  no\r\nmemory </html>"}
    )
    assert "Failures, http 500: 1 of 500, such as: <html> no memory </html>\n" in text(level_lines(made, COMMAND))


def test_failures_are_listed_by_class_with_adjusted_percentiles():
    shown = text(level_lines(result(failures=dict.fromkeys(range(0, 500, 20), "http 500")), COMMAND))
    assert "Failures, http 500: 25 of 500" in shown
    assert re.search(r"endless waits: p50 387 usec, p90 387 usec, p95 387 usec, p99 endless", shown)


def test_nothing_answered_is_said():
    made = result(failures=dict.fromkeys(range(500), "timeout"))
    shown = text(level_lines(made, COMMAND))
    assert "No request was answered" in shown
    assert "Concurrency: 4, throughput: 0 infer/sec, latency not measured" in text(summary_lines([made], COMMAND))


def test_warnings_stand_out():
    due = np.arange(500, dtype=np.int64) * 10_000_000
    columns = recorded.columns((due, due + 387_000))
    made = summarize(recorded.CLOSED, columns, recorded.facts(5 * 10**9, cpu_ratio=0.97, incomplete=True))
    shown = text(level_lines(made, COMMAND))
    assert "[WARNING] Client-bound: the load generator used 97% of its core" in shown
    assert "[WARNING] Incomplete" in shown


def test_summary_names_the_judged_latency_and_marks_doubtful_levels():
    levels = [msgspec.structs.replace(result(), profile=at(n)) for n in (1, 2)]
    assert list(summary_lines(levels, COMMAND)) == [
        "Inferences/Second vs. Client Average Batch Latency",
        "Concurrency: 1, throughput: 100 infer/sec, latency 387 usec",
        "Concurrency: 2, throughput: 100 infer/sec, latency 387 usec",
    ]
    command = parse(["-m", "m", "--request-rate-range", "100", "--percentile", "95", "-l", "5"])
    due, done = queues.dd1(1.2, 500)
    overloaded = summarize(recorded.OPEN, recorded.columns((due, done)), recorded.facts(int(due[-1]) + 1))
    header, line = summary_lines([overloaded], command)
    assert header == "Inferences/Second vs. Client p95 Batch Latency"
    assert line.startswith("Request Rate: 100, throughput: ")
    assert line.endswith("(overloaded, over the limit)")


def at(level):
    return msgspec.structs.replace(recorded.CLOSED, load=Concurrency(in_flight=level))

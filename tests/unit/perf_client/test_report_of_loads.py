"""Report lines, CSV columns and file names of every kind of load."""

import msgspec
import pytest

from perf_client.command import parse
from perf_client.export import level_name
from perf_client.loads import (
    Concurrency,
    PeriodicConcurrency,
    RateBursts,
    RateRamp,
    RecordedTrace,
    RequestIntervals,
    RequestRate,
    VideoStreams,
)
from perf_client.profile import Latency, ModelResult, ModelShare, Percentile, Rate, StreamResult
from perf_client.progress import describe
from perf_client.report import level_lines, settings_lines, summary_lines
from perf_client.table import row
from tests.fakes import recorded
from tests.fakes.load_results import result

COMMAND = parse(["-m", "m"])
KINDS = [
    (Concurrency(in_flight=4), "Request concurrency: 4", "concurrency_4", {"Concurrency": "4"}),
    (
        PeriodicConcurrency(start=1, end=9, step=2),
        "Periodic concurrency: 1 to 9, 2 more every 10 answers",
        "periodic_concurrency_9",
        {"Load": "Periodic concurrency: 1 to 9, 2 more every 10 answers"},
    ),
    (
        RequestRate(per_second=99.5),
        "Request Rate: 99.5 inference requests per second",
        "request_rate_99.5",
        {"Request Rate": "99.5"},
    ),
    (
        RateRamp(from_per_second=1.0, to_per_second=50.0, ramp_s=5.0),
        "Request rate ramp: 1 to 50 inference requests per second within 5 s",
        "rate_ramp_50",
        {},
    ),
    (
        RateBursts(base_per_second=10.0, burst_per_second=90.0, period_s=2.0, burst_s=0.5),
        "Request rate bursts: 90 inference requests per second for 0.5 s every 2 s, 10 between",
        "rate_bursts_90",
        {},
    ),
    (RequestIntervals(path="gaps.txt"), "Request intervals: gaps.txt", "request_intervals_1", {}),
    (
        RecordedTrace(path="day.csv", speed_ratio=10.0),
        "Recorded trace: day.csv, 10 times as fast",
        "recorded_trace_10",
        {},
    ),
    (
        VideoStreams(streams=8, frames_per_second=25.0),
        "Video streams: 8 at 25 frames per second, deadline 40 ms",
        "video_streams_8",
        {"Video Streams": "8", "Frames/Second": "25"},
    ),
]


@pytest.mark.parametrize(("load", "heading", "stem", "cells"), KINDS)
def test_every_kind_of_load_has_its_heading_file_and_columns(load, heading, stem, cells):
    measured = result(msgspec.structs.replace(recorded.OPEN, load=load))
    lines = list(level_lines(measured, COMMAND))
    assert lines[0] == heading
    assert level_name(measured) == stem
    found = row(measured, None)
    assert {name: found[name] for name in cells} == cells
    assert any(line.startswith(heading.split(" inference")[0][:12]) or load.mode in ("concurrency", "request_rate")
               for line in summary_lines([measured], COMMAND))  # fmt: skip
    assert describe(measured.profile).endswith(", 5 s")


def streams(count):
    return tuple(
        StreamResult(stream=at, frame_count=100, on_time_count=100 - at, late_count=at, failed_count=0,
                     dropped_count=0, worst_ns=None if at == 3 else 5_000_000)
        for at in range(count)
    )  # fmt: skip


def test_streams_are_told_together_and_the_worst_of_many_each():
    profile = msgspec.structs.replace(recorded.OPEN, load=VideoStreams(streams=20, frames_per_second=25.0))
    measured = msgspec.structs.replace(result(profile), by_stream=streams(20))
    lines = [line.strip() for line in level_lines(measured, COMMAND)]
    assert "Frames: 2000, 1810 on time (90.50%), 190 late, 0 failed, 0 dropped" in lines
    assert "Stream 19: 100 frames, 19 late, 0 failed, 0 dropped, slowest 5000 usec" in lines
    assert "and 4 streams that fared no worse" in lines
    assert not any(line.startswith("Stream 0:") for line in lines)
    few = msgspec.structs.replace(measured, by_stream=streams(4))
    assert any("Stream 3" in line and "none answered" in line for line in level_lines(few, COMMAND))
    assert row(few, None)["Frames late"] == "6"
    assert row(few, None)["Fewest on time of a stream"] == "97"


def model_result(name, **changes):
    latency = Latency(
        count=100, mean_ns=1e6, std_ns=0.0, min_ns=1, max_ns=2_000_000,
        percentiles=(Percentile(percent=50.0, value_ns=1_000_000, low_ns=1, high_ns=2, supported=True),
                     Percentile(percent=99.0, value_ns=2_000_000, low_ns=1, high_ns=None, supported=False)),
    )  # fmt: skip
    figures = {"request_count": 125, "throughput": Rate(per_second=25.0, low=24.0, high=26.0)}
    made = {"model": name, "version": "", "response": latency, "service": latency, "first_byte": latency}
    return ModelResult(**{**figures, **made, **changes})


def test_models_are_told_each_by_its_own_figures():
    shares = (ModelShare(model="a", weight=3.0), ModelShare(model="b", version="2"))
    profile = msgspec.structs.replace(recorded.OPEN, model="a", mix=shares)
    parts = (
        model_result("a", request_count=375),
        model_result("b", version="2", response=None, failures={"timeout": 5}, dropped_count=7),
    )
    measured = msgspec.structs.replace(result(profile), by_model=parts)
    lines = [line.strip() for line in level_lines(measured, COMMAND)]
    assert "a: 375 requests (75.0%), 25 infer/sec, p50 1000 usec" in lines
    assert "b, version 2: 125 requests (25.0%), 25 infer/sec, 5 failed, timeout, 7 dropped" in lines
    assert "m, version: 1" in lines
    unmeasured = msgspec.structs.replace(measured, server=(), server_unmeasured="it is off")
    assert any("Not measured: it is off" in line for line in level_lines(unmeasured, COMMAND))
    found = row(measured, None)
    assert (found["a Inferences/Second"], found["a p50 latency"], found["a p99 latency"]) == ("25", "1000", "")
    assert (found["b v2 Failures"], found["b v2 Dropped"]) == ("5", "7")


def test_who_shares_the_load_stands_in_the_settings():
    command = parse(["-m", "a", "-m", "b", "--mix", "3:1"])
    assert "  Models that share the load: a 0.75, b 0.25" in settings_lines(command)
    command = parse(["-m", "a", "--serial-sequences"])
    assert any("Sequences of as many as their data has, else 20" in line for line in settings_lines(command))
    command = parse(["-m", "a", "--sequence-length", "9"])
    assert any("Sequences of 9 +- 20 %" in line for line in settings_lines(command))
    command = parse(["-m", "a", "--streams", "1:9", "--fps", "25"])
    assert "  Video stream limit: 9 streams" in settings_lines(command)


def test_an_incomplete_run_says_what_ended_it():
    measured = msgspec.structs.replace(result(), incomplete=True, incomplete_reason="the server was gone")
    assert any(line.endswith("Incomplete: the server was gone") for line in level_lines(measured, COMMAND))

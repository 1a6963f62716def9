"""Verdicts on loads that change by design: work left undone is told, a trend is not judged."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest

from perf_client.loads import PeriodicConcurrency, RateBursts, RateRamp, VideoStreams
from perf_client.pacer import bursts, ramp, scheduled, unit_counts
from perf_client.parts import by_stream
from perf_client.record import NEVER
from perf_client.summarize import counted_from, summarize
from tests.fakes import queues, recorded

SPAN_S = 20.0
SERVICE_S = 0.005
"""The server does 200 requests a second, one after the other."""

RAMP = RateRamp(from_per_second=20.0, to_per_second=180.0, ramp_s=SPAN_S)
BURSTS = RateBursts(base_per_second=50.0, burst_per_second=400.0, period_s=2.0, burst_s=0.4)


def served(load, seed=None):
    """What a first-in-first-out server makes of a load: even arrivals, or Poisson with exponential service."""
    counts = unit_counts("constant" if seed is None else "poisson", seed or 0)
    if isinstance(load, RateRamp):
        time_of = ramp(load.from_per_second, load.to_per_second, load.ramp_s)
    else:
        time_of = bursts(load.base_per_second, load.burst_per_second, load.period_s, load.burst_s)
    blocks = scheduled(counts, time_of)
    due_ns = np.concatenate([next(blocks), next(blocks)])
    due_s = due_ns[due_ns < SPAN_S * 1e9] / 1e9
    service = np.full(len(due_s), SERVICE_S)
    if seed is not None:
        service = np.random.default_rng(seed).exponential(SERVICE_S, len(due_s))
    return queues.first_in_first_out(due_s, service)


def verdict_of(load, seen, **options):
    profile = msgspec.structs.replace(recorded.OPEN, load=load, warmup_s=None)
    return summarize(profile, recorded.columns(seen, **options), recorded.facts(int(SPAN_S * 1e9)))


@pytest.mark.parametrize("load", [RAMP, BURSTS])
@pytest.mark.parametrize("seed", [None, *range(1, 21)])
def test_a_server_that_keeps_up_is_not_called_drifting_or_overloaded(load, seed):
    result = verdict_of(load, served(load, seed))
    assert (result.verdict, result.counted_from_ns) == ("kept up", 0)
    assert "load changes by design" in result.verdict_reason


@pytest.mark.parametrize(
    "load",
    [
        msgspec.structs.replace(RAMP, to_per_second=320.0),
        msgspec.structs.replace(RAMP, from_per_second=300.0, to_per_second=150.0),
        msgspec.structs.replace(BURSTS, base_per_second=220.0),
    ],
)
@pytest.mark.parametrize("seed", [None, *range(1, 11)])
def test_work_left_undone_is_an_overload(load, seed):
    result = verdict_of(load, served(load, seed))
    assert result.verdict == "overloaded"
    assert "in the last quarter" in result.verdict_reason


def test_lost_requests_are_an_overload_wherever_they_fell():
    due, done = served(RAMP)
    result = verdict_of(RAMP, (due, done), failures=dict.fromkeys(range(100, 130), "timeout"))
    assert result.verdict == "overloaded"
    assert "30 of 2000" in result.verdict_reason


def test_a_few_requests_and_a_closed_loop_are_not_judged():
    assert verdict_of(RAMP, (np.arange(10), np.arange(10) + 1)).verdict == "too short"
    due, done = served(RAMP)
    result = verdict_of(PeriodicConcurrency(start=1, end=9), (due, done))
    assert (result.verdict, result.offered_per_second) == ("kept up", None)
    assert "in flight changes by design" in result.verdict_reason
    nothing = verdict_of(RAMP, (due, done), failures=dict.fromkeys(range(len(due)), "http 500"))
    assert nothing.verdict == "too short"


def test_an_asked_warm_up_is_cut_from_a_changing_load_too():
    profile = msgspec.structs.replace(recorded.OPEN, load=RAMP, warmup_s=3.0)
    columns = recorded.columns(served(RAMP))
    assert counted_from(profile, columns, recorded.facts(int(SPAN_S * 1e9))) == 3_000_000_000


def test_waits_for_a_slot_are_not_the_client_s_lateness():
    due = np.arange(500, dtype=np.int64) * 10_000_000
    columns = recorded.columns((due, due + 50_000_000), lag_ns=30_000_000)
    facts = recorded.facts(5_000_000_000)
    assert summarize(recorded.OPEN, columns, facts).client.bound
    assert not summarize(recorded.OPEN, columns, replace(facts, waited_for_slot=400)).client.bound


def test_frames_are_told_apart_by_when_they_were_due():
    load = VideoStreams(streams=3, frames_per_second=30.0, deadline_ms=10.0)
    number = np.arange(300, dtype=np.int64)
    due = np.rint(number / 90 * 1e9).astype(np.int64)
    took = np.where(number % 3 == 1, 12_000_000, 2_000_000)
    lost = np.flatnonzero(number % 30 == 2)
    sent = np.setdiff1d(number, lost)
    columns = recorded.columns(
        (due[sent], (due + took)[sent]), failures={0: "timeout", 1: "timeout"}, dropped_ns=due[lost]
    )
    columns.sent_ns[0] = NEVER
    profile = msgspec.structs.replace(recorded.OPEN, load=load)
    result = summarize(profile, columns, recorded.facts(10**10))
    first, second, third = result.by_stream
    assert (first.frame_count, first.on_time_count, first.late_count, first.failed_count) == (100, 99, 0, 1)
    assert (second.frame_count, second.on_time_count, second.late_count, second.failed_count) == (100, 0, 99, 1)
    assert (third.frame_count, third.on_time_count, third.dropped_count) == (100, 90, 10)
    assert (first.worst_ns, second.worst_ns) == (2_000_000, 12_000_000)
    assert result.dropped_count == 10
    assert by_stream(recorded.OPEN, columns, None) == ()

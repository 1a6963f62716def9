"""Every mode of load against scripted servers in the same event loop: what they saw is what was asked for."""

import asyncio
import json
from collections import Counter
from itertools import groupby

import msgspec
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from perf_client.drive import Run
from perf_client.errors import LoadError
from perf_client.loads import (
    Concurrency,
    Load,
    PeriodicConcurrency,
    RateBursts,
    RateRamp,
    RecordedTrace,
    RequestIntervals,
    RequestRate,
    Sequences,
    VideoStreams,
)
from perf_client.profile import LoadProfile, LoadResult, ModelShare
from perf_client.schedule import due_times
from perf_client.summarize import summarize
from tests.fakes.driven import drive_grpc, drive_scripted
from tests.fakes.grpc_server import echo
from tests.fakes.scripted_http import Exchange, ScriptedServer, answer, answer_at_once


def profile(**changes) -> LoadProfile:
    settings = {"model": "scripted", "load": Concurrency(in_flight=2), "duration_s": 0.4, "warmup_s": 0.0}
    return LoadProfile(**(settings | {"timeout_s": 5.0} | changes))


def result_of(asked: LoadProfile, run: Run) -> LoadResult:
    return summarize(asked, run.columns, run.facts)


def parameters(exchange: Exchange) -> dict[str, object]:
    lines = exchange.header.lower().split("\r\n")
    length = next(int(line.split(":")[1]) for line in lines if line.startswith("inference-header-content-length"))
    return json.loads(exchange.body[:length])["parameters"]


def shaped(tmp_path) -> list[Load]:
    (tmp_path / "gaps.txt").write_text("2000\n8000\n")
    (tmp_path / "trace.csv").write_text("timestamp\n" + "\n".join(str(at) for at in range(0, 400, 5)) + "\n")
    return [
        RequestRate(per_second=150.0, arrival="gamma", gamma_shape=0.5),
        RateRamp(from_per_second=50.0, to_per_second=300.0, ramp_s=0.4),
        RateBursts(base_per_second=150.0, burst_per_second=600.0, period_s=0.2, burst_s=0.05, arrival="poisson"),
        RequestIntervals(path=str(tmp_path / "gaps.txt")),
        RecordedTrace(path=str(tmp_path / "trace.csv")),
        VideoStreams(streams=5, frames_per_second=40.0),
    ]


@pytest.mark.parametrize("kind", range(6))
def test_every_open_load_offers_exactly_its_schedule(kind, tmp_path):
    load = shaped(tmp_path)[kind]
    server, asked = ScriptedServer(answer_at_once), profile(load=load, seed=3)
    run = drive_scripted(server, asked)
    due = next(due_times(load, 3))
    assert run.columns.scheduled_ns.tolist() == due[due < 400_000_000].tolist()
    assert len(server.log) == len(run.columns) > 20
    result = result_of(asked, run)
    assert result.verdict in (("kept up",) if load.changes else ("steady", "drifting", "too short"))
    assert (result.failures, result.dropped_count) == ({}, 0)


@pytest.mark.parametrize("kind", range(6))
def test_the_in_flight_cap_drops_and_counts_in_every_open_load(kind, tmp_path):
    async def stuck(number: int) -> bytes:
        await asyncio.sleep(0.5)
        return answer()

    load = msgspec.structs.replace(shaped(tmp_path)[kind], max_in_flight=3)
    asked = profile(load=load)
    run = drive_scripted(ScriptedServer(stuck), asked)
    due = next(due_times(load, 0))
    assert len(run.columns) == 3
    assert len(run.columns.dropped_ns) == np.count_nonzero(due < 400_000_000) - 3
    result = result_of(asked, run)
    assert result.dropped_count == len(run.columns.dropped_ns)
    assert result.verdict == "overloaded"


def test_a_trace_that_ends_early_ends_the_sending(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("0\n50\n100\n")
    server = ScriptedServer(answer_at_once)
    run = drive_scripted(server, profile(load=RecordedTrace(path=str(path), speed_ratio=2.0)))
    assert run.columns.scheduled_ns.tolist() == [0, 25_000_000, 50_000_000]


def test_an_open_load_of_so_many_requests_is_judged_up_to_its_last():
    asked = profile(load=RequestRate(per_second=200.0), request_count=60)
    run = drive_scripted(ScriptedServer(answer_at_once), asked)
    assert len(run.columns) == 60
    assert run.facts.ended_ns == pytest.approx(300_000_000, abs=10)
    assert result_of(asked, run).offered_per_second == pytest.approx(200)


def test_a_periodic_concurrency_rises_with_the_answers_and_stays_at_its_end():
    out = 0
    seen: list[int] = []

    async def script(number: int) -> bytes:
        nonlocal out
        out += 1
        await asyncio.sleep(0.005)
        seen.append(out)
        out -= 1
        return answer()

    asked = profile(load=PeriodicConcurrency(start=1, end=7, step=3, period=10), duration_s=0.5)
    run = drive_scripted(ScriptedServer(script), asked)
    assert max(seen[:10]) == 1
    assert max(seen[:20]) == 4
    assert max(seen) == 7
    assert result_of(asked, run).verdict == "kept up"


def test_late_and_dropped_frames_are_told_for_each_stream():
    async def second_stream_is_slow(number: int) -> bytes:
        await asyncio.sleep(0.12 if number % 2 else 0)
        return answer()

    asked = profile(load=VideoStreams(streams=2, frames_per_second=25.0, deadline_ms=100.0), duration_s=0.8)
    run = drive_scripted(ScriptedServer(second_stream_is_slow), asked)
    first, second = result_of(asked, run).by_stream
    assert (first.frame_count, second.frame_count) == (20, 20)
    assert (second.late_count, second.on_time_count) == (20, 0)
    assert first.late_count <= 2
    assert second.worst_ns >= 120_000_000


@pytest.mark.parametrize("load", [Concurrency(in_flight=3), RequestRate(per_second=600.0, arrival="poisson")])
def test_models_share_a_load_and_each_has_its_own_result(load):
    async def third_fails(number: int) -> bytes:
        return answer(b"no", "500 No") if number % 3 == 0 else answer()

    shares = (ModelShare(model="scripted", weight=3.0), ModelShare(model="other", version="7", weight=1.0))
    asked = profile(load=load, mix=shares, duration_s=0.6, seed=2)
    server = ScriptedServer(third_fails, others=("other",))
    run = drive_scripted(server, asked)
    result = result_of(asked, run)
    seen = Counter(exchange.header.split(" ", 2)[1] for exchange in server.log)
    assert np.bincount(run.columns.model).tolist() == [
        seen["/v2/models/scripted/infer"],
        seen["/v2/models/other/versions/7/infer"],
    ]
    assert sum(each.request_count for each in result.by_model) == result.request_count
    share = result.by_model[1].request_count / result.request_count
    assert share == pytest.approx(0.25, abs=4 * (0.19 / result.request_count) ** 0.5)
    assert sum(each.failures["http 500"] for each in result.by_model) == result.failures["http 500"]


def test_a_model_of_a_mix_that_is_not_there_is_named():
    shares = (ModelShare(model="scripted"), ModelShare(model="absent"))
    with pytest.raises(LoadError, match="absent"):
        drive_scripted(ScriptedServer(answer_at_once), profile(mix=shares))


SEQUENCES = Sequences(length=4, length_variation_percent=50.0)


def check_sequences(seen: list[dict[str, object]], most_alive: int) -> None:
    """Whole, in order, and never more alive than asked; what the end of the run cut off was ended."""
    alive: set[object] = set()
    for each in seen:
        assert (each["sequence_id"] in alive) is not each["sequence_start"]
        alive.add(each["sequence_id"])
        assert len(alive) <= most_alive
        if each["sequence_end"]:
            alive.discard(each["sequence_id"])
    assert not alive
    in_turn = sorted(seen, key=lambda each: each["sequence_id"])
    lengths = [len(list(group)) for _, group in groupby(in_turn, key=lambda each: each["sequence_id"])]
    assert max(lengths) <= 6
    assert len(lengths) > 5


@pytest.mark.parametrize("load", [Concurrency(in_flight=3), RequestRate(per_second=300.0)])
def test_sequences_over_http_are_whole_and_have_one_request_in_flight(load):
    in_flight: Counter = Counter()
    server = ScriptedServer(answer_at_once)

    async def script(number: int) -> bytes:
        sequence_id = parameters(server.log[number])["sequence_id"]
        in_flight[sequence_id] += 1
        assert in_flight[sequence_id] == 1
        await asyncio.sleep(0.002)
        in_flight[sequence_id] -= 1
        return answer()

    server.script = script
    asked = profile(load=load, sequences=msgspec.structs.replace(SEQUENCES, parallel=3))
    run = drive_scripted(server, asked)
    check_sequences([parameters(exchange) for exchange in server.log], 3)
    result = result_of(asked, run)
    assert result.failures == {}
    assert 0 <= len(server.log) - len(run.columns) <= 3


def test_a_model_with_a_sequence_batcher_gets_sequences_unasked():
    server = ScriptedServer(answer_at_once, config={"max_batch_size": 0, "sequence_batching": {}})
    drive_scripted(server, profile(request_count=50))
    check = Counter(parameters(exchange)["sequence_start"] for exchange in server.log)
    assert check[True] >= 2


def test_requests_that_wait_for_their_sequence_are_late_by_no_fault_of_the_client():
    async def slow(number: int) -> bytes:
        await asyncio.sleep(0.05)
        return answer()

    asked = profile(load=RequestRate(per_second=200.0), sequences=Sequences(parallel=2), duration_s=0.5)
    run = drive_scripted(ScriptedServer(slow), asked)
    result = result_of(asked, run)
    assert run.facts.waited_for_slot > 50
    assert len(run.columns) == 100
    assert not result.client.bound
    assert result.verdict == "overloaded"


def test_sequences_over_grpc_carry_their_marks():
    seen: list[dict[str, object]] = []

    def infer(request, context):
        found = {name: getattr(each, each.WhichOneof("parameter_choice")) for name, each in request.parameters.items()}
        seen.append(found)
        return echo(request, context)

    asked = profile(model="echo", protocol="grpc", shapes={"INPUT0": (4,)}, sequences=SEQUENCES)
    run = drive_grpc(asked, infer)
    assert pb.ModelInferRequest is not None
    check_sequences(seen, 2)
    assert not run.columns.failure.any()


@pytest.mark.parametrize("load", [Concurrency(in_flight=4), RequestRate(per_second=200.0)])
def test_what_is_in_flight_at_an_interruption_is_counted_as_interrupted(load):
    events: list[asyncio.Event] = []

    async def slow(number: int) -> bytes:
        if number == 23:
            events[0].set()
        await asyncio.sleep(0.03 if number < 20 else 30)
        return answer()

    server = ScriptedServer(slow)
    asked = profile(load=load, duration_s=30.0)
    run = drive_scripted(server, asked, events.append)
    result = result_of(asked, run)
    assert (result.incomplete, result.incomplete_reason) == (True, "the run was interrupted")
    assert len(run.columns) == result.request_count
    assert result.failures == {"interrupted": len(run.columns) - result.response.count}
    assert result.response.count <= 20
    assert 0 <= len(run.columns) - len(server.log) <= 2


@pytest.mark.parametrize("load", [Concurrency(in_flight=4), RequestRate(per_second=200.0)])
def test_an_interruption_before_the_start_sends_nothing(load):
    server = ScriptedServer(answer_at_once)
    run = drive_scripted(server, profile(load=load), lambda interrupted: interrupted.set())
    assert (len(run.columns), len(server.log), run.facts.incomplete) == (0, 0, True)
    assert run.facts.ended_ns == 0
    assert result_of(profile(load=load), run).verdict == "too short"

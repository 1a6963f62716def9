"""The HTTP client against scripted servers in the same event loop: what it records is what the server did."""

import asyncio
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from threading import Thread

import numpy as np
import pytest
import uvloop

from perf_client.drive import Run, drive
from perf_client.errors import LoadError
from perf_client.profile import Concurrency, LoadProfile, RequestRate
from perf_client.record import NEVER
from perf_client.target import Target
from tests.fakes.driven import drive_scripted, failures
from tests.fakes.scripted_http import Script, ScriptedServer, answer, answer_at_once, scripted_server


def profile(**changes) -> LoadProfile:
    settings = {"model": "scripted", "load": Concurrency(in_flight=2), "duration_s": 0.3, "timeout_s": 5.0}
    return LoadProfile(**(settings | changes))


def test_every_request_is_a_row_and_its_times_are_in_order():
    server = ScriptedServer(answer_at_once)
    run = drive_scripted(server, profile())
    assert len(run.columns) == len(server.log) > 0
    assert failures(run) == {"": len(run.columns)}
    assert not run.facts.incomplete
    times = (run.columns.scheduled_ns, run.columns.sent_ns, run.columns.first_byte_ns, run.columns.last_byte_ns)
    for earlier, later in pairwise(times):
        assert (earlier <= later).all()
    arrived_ns = np.sort([exchange.arrived_ns for exchange in server.log]) - run.facts.start_ns
    assert (np.sort(run.columns.sent_ns) <= arrived_ns).all()


def test_a_closed_loop_never_has_more_in_flight_than_asked():
    out = most = 0

    async def script(number: int) -> bytes:
        nonlocal out, most
        out += 1
        most = max(most, out)
        await asyncio.sleep(0.002)
        out -= 1
        return answer()

    drive_scripted(ScriptedServer(script), profile(load=Concurrency(in_flight=5)))
    assert most == 5


def test_a_request_count_is_kept_exactly():
    server = ScriptedServer(answer_at_once)
    run = drive_scripted(server, profile(request_count=37))
    assert len(run.columns) == len(server.log) == 37
    assert run.facts.ended_ns >= run.columns.last_byte_ns.max()


def test_a_request_count_starts_after_an_explicit_warm_up():
    run = drive_scripted(ScriptedServer(answer_at_once), profile(request_count=20, warmup_s=0.1))
    due_after = run.columns.scheduled_ns >= 100_000_000
    assert due_after.sum() >= 20
    assert (~due_after).sum() > 0


@pytest.mark.parametrize("load", [RequestRate(per_second=300.0), RequestRate(per_second=300.0, arrival="poisson")])
def test_an_open_loop_follows_its_schedule_whatever_the_server_does(load):
    async def slow(number: int) -> bytes:
        await asyncio.sleep(0.05)
        return answer()

    run = drive_scripted(ScriptedServer(slow), profile(load=load, duration_s=0.5))
    assert len(run.columns) == pytest.approx(150, abs=60)
    if load.arrival == "constant":
        expected = np.arange(150) * 1e9 / 300
        assert np.abs(run.columns.scheduled_ns - expected).max() <= 1
    assert (run.columns.sent_ns >= run.columns.scheduled_ns).all()
    assert failures(run) == {"": len(run.columns)}


def test_requests_scheduled_before_the_end_are_awaited_after_it():
    async def late(number: int) -> bytes:
        await asyncio.sleep(0.4)
        return answer()

    run = drive_scripted(ScriptedServer(late), profile(load=RequestRate(per_second=50.0), duration_s=0.2))
    assert len(run.columns) == 10
    assert failures(run) == {"": 10}
    assert run.columns.last_byte_ns.max() > run.facts.ended_ns


def test_an_in_flight_cap_drops_and_counts():
    async def stuck(number: int) -> bytes:
        await asyncio.sleep(0.3)
        return answer()

    run = drive_scripted(
        ScriptedServer(stuck), profile(load=RequestRate(per_second=100.0, max_in_flight=3), duration_s=0.2)
    )
    assert len(run.columns) == 3
    assert len(run.columns.dropped_ns) == 17
    assert (run.columns.dropped_ns >= 30_000_000).all()


def test_requests_wait_their_turn_with_their_schedule_when_the_client_is_stalled():
    stall_s = 0.15

    def stall_later(interrupted: asyncio.Event) -> None:
        import time

        asyncio.get_running_loop().call_later(0.15, time.sleep, stall_s)

    run = drive_scripted(
        ScriptedServer(answer_at_once), profile(load=RequestRate(per_second=200.0), duration_s=0.5), stall_later
    )
    assert len(run.columns) == 100
    lag_ns = run.columns.sent_ns - run.columns.scheduled_ns
    assert lag_ns.max() >= 0.9 * stall_s * 1e9
    assert run.facts.loop_stall_max_ns >= 0.8 * stall_s * 1e9


async def _every_third_fails(number: int) -> bytes:
    return answer(b'{"error":"no memory"}', "500 Internal Server Error") if number % 3 == 0 else answer()


async def _every_third_closes(number: int) -> bytes | None:
    return None if number % 3 == 0 else answer()


async def _every_third_is_nonsense(number: int) -> bytes:
    return b"SSH-2.0-x\r\n\r\n" if number % 3 == 0 else answer()


async def _every_third_is_too_long(number: int) -> bytes:
    return answer(b"{}") + b"{}" if number % 3 == 0 else answer()


@pytest.mark.parametrize(
    ("script", "name"),
    [
        (_every_third_fails, "http 500"),
        (_every_third_closes, "connection closed"),
        (_every_third_is_nonsense, "bad answer"),
        (_every_third_is_too_long, "bad answer"),
    ],
)
def test_failures_are_counted_by_class_and_the_run_goes_on(script: Script, name: str):
    server = ScriptedServer(script)
    run = drive_scripted(server, profile(request_count=60))
    assert failures(run) == {"": 40, name: 20}
    assert len(server.log) == 60
    assert not run.facts.incomplete


def test_the_servers_message_is_kept_for_each_class():
    run = drive_scripted(ScriptedServer(_every_third_fails), profile(request_count=6))
    assert run.facts.failure_examples == {"http 500": '{"error":"no memory"}'}


def test_a_request_without_an_answer_becomes_a_timeout():
    async def third_hangs(number: int) -> bytes | None:
        if number == 3:
            await asyncio.sleep(10)
        return answer()

    run = drive_scripted(ScriptedServer(third_hangs), profile(request_count=20, timeout_s=0.2))
    assert failures(run) == {"": 19, "timeout": 1}
    waited_ns = (run.columns.last_byte_ns - run.columns.sent_ns)[run.columns.failure > 0]
    assert waited_ns[0] >= 200_000_000


def _chunked(number: int) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"5\r\nhello\r\n" + b"b;x=y\r\n world, you\r\n" + b"0\r\nTrailer: 1\r\n\r\n"


def _interim(number: int) -> bytes:
    return b"HTTP/1.1 100 Continue\r\n\r\n" + answer()


def _dated(number: int) -> bytes:
    return answer(headers=f"Date: {number}\r\n")


def _closing(number: int) -> bytes:
    return answer(headers="Connection: close\r\n")


@pytest.mark.parametrize("reply", [_chunked, _interim, _dated, _closing])
def test_each_form_of_answer_is_understood(reply: Callable[[int], bytes]):
    async def script(number: int) -> bytes:
        return reply(number)

    run = drive_scripted(ScriptedServer(script), profile(request_count=600 if reply is _dated else 20))
    assert failures(run) == {"": len(run.columns)}


def test_an_answer_that_ends_with_the_connection_is_complete():
    class UntilClose(ScriptedServer):
        async def _exchange(self, reader, writer):
            more = await super()._exchange(reader, writer)
            return more and not self.log

    async def script(number: int) -> bytes:
        return b"HTTP/1.1 200 OK\r\n\r\nall of it"

    run = drive_scripted(UntilClose(script), profile(request_count=5, load=Concurrency(in_flight=1)))
    assert failures(run) == {"": 5}


def test_answers_torn_into_pieces_are_put_together():
    pieces = _chunked(0)

    class Torn(ScriptedServer):
        async def _exchange(self, reader, writer):
            header = await reader.readuntil(b"\r\n\r\n")
            if header.startswith(b"GET"):
                writer.write(self._describe(header.decode().split(" ")[1]))
                return True
            length = int(header.lower().split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            for position in range(0, len(pieces), 7):
                writer.write(pieces[position : position + 7])
                await writer.drain()
                await asyncio.sleep(0)
            return True

    run = drive_scripted(Torn(answer_at_once), profile(request_count=10))
    assert failures(run) == {"": 10}
    assert (run.columns.first_byte_ns < run.columns.last_byte_ns).any()


def test_a_server_that_dies_leaves_failures_not_an_end():
    server = ScriptedServer(answer_at_once)

    def die_later(interrupted: asyncio.Event) -> None:
        server.script = _dies_after(server, 50)

    run = drive_scripted(server, profile(duration_s=0.5), die_later)
    seen = failures(run)
    assert seen[""] == 50
    assert seen["connection closed"] + seen["connection reset"] >= 1
    assert not run.facts.incomplete


def _dies_after(server: ScriptedServer, count: int) -> Script:
    async def script(number: int) -> bytes | None:
        if number >= count:
            server.cut_connections()
            return None
        return answer()

    return script


def test_an_interrupted_run_keeps_what_it_has_and_says_so():
    events: list[asyncio.Event] = []

    async def script(number: int) -> bytes:
        if number == 20:
            events[0].set()
        return answer()

    run = drive_scripted(ScriptedServer(script), profile(duration_s=30.0), events.append)
    assert run.facts.incomplete
    assert run.facts.incomplete_reason == "the run was interrupted"
    assert len(run.columns) > 0
    assert run.facts.ended_ns < 30e9


def test_payloads_differ_from_request_to_request_and_repeat_with_the_seed():
    first, second = ScriptedServer(answer_at_once), ScriptedServer(answer_at_once)
    for server in (first, second):
        drive_scripted(server, profile(request_count=50, load=Concurrency(in_flight=1), seed=7))
    bodies = [exchange.body for exchange in first.log]
    assert len(set(bodies)) == 50
    assert bodies == [exchange.body for exchange in second.log]


def test_server_statistics_are_sampled_and_grow():
    server = ScriptedServer(answer_at_once)

    def statistics(model: str) -> dict[str, object]:
        count = len(server.log)
        duration = {"count": count, "ns": count * 10}
        stats = {"success": duration, "queue": duration, "compute_infer": duration}
        entry = {"name": model, "version": "1", "inference_count": count, "execution_count": count}
        return {"model_stats": [entry | {"inference_stats": stats}]}

    server.statistics = statistics
    server.config = {"max_batch_size": 0, "ensemble_scheduling": {"step": []}}
    run = drive_scripted(server, profile(request_count=40, load=Concurrency(in_flight=1)))
    assert run.facts.server[0].times[0].success_count == 0
    assert run.facts.server[-1].times[0].success_count == 40
    assert run.facts.server[-1].times[0].queue_ns == 400
    assert run.facts.server_unmeasured == ""


def test_the_models_of_an_ensemble_are_sampled_too():
    server = ScriptedServer(answer_at_once)
    server.statistics = lambda model: {"model_stats": [{"name": model, "version": "1"}]}
    server.config = {"ensemble_scheduling": {"step": [{"model_name": "a"}, {"model_name": "b", "model_version": 2}]}}
    run = drive_scripted(server, profile(request_count=4))
    assert [entry.model for entry in run.facts.server[-1].times] == ["scripted", "a", "b"]


def test_a_server_without_statistics_is_unmeasured_not_zero():
    run = drive_scripted(ScriptedServer(answer_at_once), profile(request_count=4))
    assert run.facts.server == ()
    assert run.facts.server_unmeasured.startswith("the server offers no statistics extension")


def test_no_server_is_a_sentence():
    with pytest.raises(LoadError, match=r"no KServe v2 server answers over http at 127\.0\.0\.1:1 \(connection ref"):
        uvloop.run(drive(profile(), Target("127.0.0.1", 1, "http")))


def test_a_web_server_that_is_no_kserve_is_a_sentence():
    class Silent(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_error(404)

    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            with pytest.raises(LoadError, match=r"no KServe v2 server answers over http at .* \(status 404") as caught:
                uvloop.run(drive(profile(), Target("127.0.0.1", server.server_port, "http")))
        finally:
            server.shutdown()
    assert caught.value.exit_code == 5


def test_an_unknown_model_is_a_sentence():
    with pytest.raises(LoadError, match="doesn't serve model 'other': unknown model") as caught:
        drive_scripted(ScriptedServer(answer_at_once), profile(model="other"))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"load": Concurrency(in_flight=0)}, "concurrency of 0"),
        ({"load": RequestRate(per_second=0.0)}, "request rate of 0"),
        ({"load": RequestRate(per_second=1.0, max_in_flight=0)}, "cap of 0"),
        ({"request_count": 0}, "request count of 0"),
        ({"duration_s": 0.0}, "duration of 0"),
        ({"timeout_s": 0.0}, "timeout of 0"),
        ({"batch_size": 2}, "no batch dimension"),
        ({"shapes": {"NOPE": (1,)}}, "no such input"),
        ({"load": Concurrency(in_flight=10_000_000)}, "open files"),
    ],
)
def test_profiles_that_can_not_be_driven_are_refused(changes: dict, message: str):
    with pytest.raises(LoadError, match=message):
        drive_scripted(ScriptedServer(answer_at_once), profile(**changes))


def test_refused_connections_fail_the_requests_that_needed_them():
    async def main() -> Run:
        server = ScriptedServer(answer_at_once)
        async with scripted_server(server):
            target = Target("127.0.0.1", server.port, "http")
            run = asyncio.create_task(drive(profile(load=RequestRate(per_second=200.0), duration_s=0.6), target))
            while not server.log:
                await asyncio.sleep(0.01)
        return await run

    run = uvloop.run(main())
    seen = failures(run)
    assert seen["connection refused"] > 0
    assert len(run.columns) == 120
    refused = run.columns.failure_names.index("connection refused")
    assert (run.columns.sent_ns[run.columns.failure == refused] == NEVER).all()

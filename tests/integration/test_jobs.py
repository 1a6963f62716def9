"""The load generator as a child process: jobs in, results out."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import msgspec

from perf_client.profile import LoadResult
from perf_client.record import Columns
from tests.fakes.scripted_http import ScriptedServer, answer_at_once, scripted_server


@contextmanager
def server_in_a_thread() -> Iterator[ScriptedServer]:
    """The test itself waits on a pipe, so the server needs a loop of its own."""
    loop = asyncio.new_event_loop()
    server = ScriptedServer(answer_at_once)
    stop = asyncio.Event()
    started = asyncio.Event()

    async def main() -> None:
        async with scripted_server(server):
            started.set()
            await stop.wait()

    task = loop.create_task(main())
    loop.run_until_complete(started.wait())
    thread = Thread(target=loop.run_until_complete, args=(task,))
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


@contextmanager
def child() -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "perf_client", "--jobs"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def job(port: int, columns: Path | None = None, **changes) -> str:
    profile = {"model": "scripted", "load": {"mode": "concurrency", "in_flight": 2}, "duration_s": 0.2} | changes
    return json.dumps({"profile": profile, "url": f"127.0.0.1:{port}", "columns": str(columns) if columns else None})


def ask(process: "subprocess.Popen[str]", line: str) -> dict:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def test_jobs_are_answered_one_by_one_until_the_end_of_input(tmp_path: Path):
    with server_in_a_thread() as server, child() as process:
        for number in range(2):
            path = tmp_path / f"{number}.npz"
            reply = ask(process, job(server.port, path, request_count=30))
            result = msgspec.convert(reply["result"], LoadResult)
            assert len(Columns.load(path)) == 30
            assert result.failures == {}
            assert not result.incomplete
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


def test_a_job_that_can_not_be_done_is_answered_and_the_next_one_is_done():
    with server_in_a_thread() as server, child() as process:
        assert ask(process, "{}")["kind"] == "usage"
        assert ask(process, job(server.port, model="other"))["error"].startswith("the server at 127.0.0.1:")
        assert ask(process, job(server.port, input_data="nothing.json"))["kind"] == "data"
        assert ask(process, job(1))["kind"] == "server"
        assert ask(process, job(server.port, Path("/nowhere/at/all.npz"), request_count=2))["kind"] == "data"
        assert "result" in ask(process, job(server.port, request_count=2))


def test_an_interrupted_job_is_answered_with_what_there_is():
    with server_in_a_thread() as server, child() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(job(server.port, duration_s=60.0) + "\n")
        process.stdin.flush()
        while not server.log:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        reply = json.loads(process.stdout.readline())
        assert reply["result"]["incomplete"]
        assert process.wait(20) == 130


def test_a_held_job_begins_at_the_moment_it_is_told():
    with server_in_a_thread() as server, child() as one, child() as other:
        for process in (one, other):
            process.stdin.write(json.dumps(json.loads(job(server.port)) | {"held": True}) + "\n")
            process.stdin.flush()
        assert [json.loads(process.stdout.readline()) for process in (one, other)] == [{"ready": True}] * 2
        at_ns = time.monotonic_ns() + 50_000_000
        for process in (one, other):
            process.stdin.write(f"{at_ns}\n")
            process.stdin.flush()
        starts = [json.loads(process.stdout.readline())["result"]["start_ns"] for process in (one, other)]
        assert starts == [at_ns, at_ns]


def test_a_held_job_that_never_begins_is_told_so_and_ends():
    with server_in_a_thread() as server, child() as process:
        process.stdin.write(json.dumps(json.loads(job(server.port)) | {"held": True}) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == {"ready": True}
        process.stdin.close()
        assert "no moment to begin" in json.loads(process.stdout.readline())["error"]
        assert process.wait(10) == 0

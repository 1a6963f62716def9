"""Several processes that share a load against one server, as its log shows them."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import uvloop

from perf_client.drive import Run, run_load
from perf_client.errors import LoadError
from perf_client.profile import Concurrency, LoadProfile, LoadResult, RequestRate
from perf_client.record import Columns
from perf_client.schedule import due_times
from perf_client.summarize import summarize
from perf_client.watch import Tick
from perf_client.workers import drive_shared
from tests.fakes.scripted_server import Script, running


def profile(load, **changes) -> LoadProfile:
    settings = {"model": "m", "load": load, "workers": 2, "warmup_s": 0.0, "timeout_s": 20.0}
    return LoadProfile(**(settings | changes))


def test_arrivals_are_those_of_one_schedule(tmp_path: Path):
    load = RequestRate(per_second=400.0, arrival="poisson")
    with running(Script(service_s=[0.001], queue=False), tmp_path) as server:
        run = run_load(profile(load, request_count=200, seed=3), server.url)
        log = server.stop()
    wanted = next(due_times(load, 3))[:200]
    assert run.columns.scheduled_ns.tolist() == wanted.tolist()
    assert Counter(run.columns.failure.tolist()) == {0: 200}
    assert len(log.arrived_ns) == 200
    # One clock for all: no request reached the server before it was sent, by whichever process.
    sent_ns = np.sort(run.columns.sent_ns) + run.facts.start_ns
    assert (np.sort(log.arrived_ns) >= sent_ns).all()


def test_a_closed_loop_keeps_so_many_in_flight_and_sends_so_many(tmp_path: Path):
    with running(Script(service_s=[0.01], queue=False), tmp_path) as server:
        run = run_load(profile(Concurrency(in_flight=5), request_count=101), server.url)
        log = server.stop()
    assert len(log.arrived_ns) == len(run.columns) == 101
    starts = [(at, 1) for at in log.arrived_ns] + [(at, -1) for at in log.done_ns]
    in_flight = np.cumsum([step for _, step in sorted(starts)])
    assert in_flight.max() == 5


def test_the_result_has_the_form_of_any_other(tmp_path: Path):
    load = profile(Concurrency(in_flight=4), request_count=60)
    with running(Script(service_s=[0.005], queue=False, fail_every=10), tmp_path) as server:
        run = run_load(load, server.url)
    result = summarize(load, run.columns, run.facts)
    assert isinstance(result, LoadResult)
    assert (result.request_count, result.failures) == (60, {"http 500": 6})
    assert "scripted failure" in result.failure_examples["http 500"]
    assert result.server[0].model == "m"
    assert run.facts.busiest_cpu_ratio is not None
    assert not result.incomplete


def test_progress_is_that_of_all_of_them_together(tmp_path: Path):
    ticks: list[Tick] = []
    with running(Script(service_s=[0.005], queue=False), tmp_path) as server:
        run = run_load(profile(Concurrency(in_flight=5), duration_s=1.8), server.url, on_tick=ticks.append)
        log = server.stop()
    assert ticks
    done = [tick.done_count for tick in ticks]
    assert done == sorted(done)
    assert all(tick.in_flight <= 5 for tick in ticks)
    # Each of two processes alone had about half of them.
    assert len(run.columns) / 2 < done[-1] <= len(log.arrived_ns) or ticks[-1].elapsed_s < 1.4


def test_a_load_that_cant_begin_is_the_same_sentence(tmp_path: Path):
    with (
        running(Script(service_s=[0.001]), tmp_path) as server,
        pytest.raises(LoadError, match="doesn't serve model 'x'") as caught,
    ):
        run_load(profile(Concurrency(in_flight=2), model="x"), server.url)
    assert caught.value.exit_code == 2


def test_an_interrupted_command_has_what_all_of_them_measured(tmp_path: Path):
    command = [sys.executable, "-m", "perf_client", "-m", "m", "--workers", "2", "--concurrency-range", "4"]
    with running(Script(service_s=[0.005], queue=False), tmp_path) as server:
        command += ["-u", server.url, "--duration", "60", "--result-dir", str(tmp_path), "--warmup", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as process:
            try:
                while not server.answered_count():
                    assert process.poll() is None
                process.send_signal(signal.SIGINT)
                output, _ = process.communicate(timeout=30)
            finally:
                process.kill()
        log = server.stop()
    assert process.returncode == 130
    assert "[WARNING] Incomplete: the run was interrupted" in output
    columns = Columns.load(tmp_path / "concurrency_4.npz")
    # What was in flight at the end counts as failed, whether it still reached the server or not.
    assert 0 <= len(columns) - len(log.arrived_ns) <= 4


def test_a_worker_that_dies_leaves_a_partial_result(tmp_path: Path):
    async def drive_and_kill(url: str) -> Run:
        load = profile(Concurrency(in_flight=4), duration_s=1.0)
        task = asyncio.create_task(drive_shared(load, url, asyncio.Event()))
        while len(children := _children()) < 2 or not server.answered_count():
            await asyncio.sleep(0.01)
        os.kill(children[1], signal.SIGKILL)
        return await task

    with running(Script(service_s=[0.005], queue=False), tmp_path) as server:
        run = uvloop.run(drive_and_kill(server.url))
    assert run.facts.incomplete
    assert "died with its part of the requests" in run.facts.incomplete_reason
    assert len(run.columns)


def _children() -> list[int]:
    """Worker processes that are children of this one, in the order of their start."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError, IndexError):
            continue
        if parent == os.getpid() and b"perf_client.worker" in words:
            found.append(int(entry.name))
    return sorted(found)

"""The runtime driven without a socket."""

import asyncio
from pathlib import Path

import pytest
import uvloop

from perf_client.drive import Run, drive
from perf_client.errors import LoadError
from perf_client.profile import Concurrency, LoadProfile, RequestRate
from perf_client.summarize import summarize
from perf_client.target import Target
from tests.fakes.driven import failures
from tests.fakes.repositories import write_add_sub, write_ensemble

NOWHERE = Target("127.0.0.1", 1, "http")


def profile(repository: Path, **changes) -> LoadProfile:
    settings = {
        "model": "add_sub",
        "service": "in_process",
        "endpoint": str(repository),
        "load": Concurrency(in_flight=4),
        "request_count": 50,
        "warmup_s": 0.0,
        "timeout_s": 10.0,
    }
    return LoadProfile(**(settings | changes))


def run(load: LoadProfile) -> Run:
    return uvloop.run(drive(load, NOWHERE))


def test_a_closed_loop_drives_a_model_that_is_loaded_here(tmp_path: Path):
    write_add_sub(tmp_path)
    load = profile(tmp_path)
    done = run(load)
    assert failures(done) == {"": 50}
    result = summarize(load, done.columns, done.facts)
    assert (result.server[0].model, result.server[0].success_count) == ("add_sub", 50)
    assert not result.client.bound


def test_an_open_loop_keeps_its_schedule(tmp_path: Path):
    write_add_sub(tmp_path)
    done = run(profile(tmp_path, load=RequestRate(per_second=500.0, arrival="poisson")))
    assert failures(done) == {"": 50}
    assert (done.columns.sent_ns >= done.columns.scheduled_ns).all()


def test_composing_models_are_loaded_and_counted(tmp_path: Path):
    write_add_sub(tmp_path)
    write_ensemble(tmp_path)
    done = run(profile(tmp_path, model="chain"))
    assert failures(done) == {"": 50}
    assert "add_sub" in {times.model for times in done.facts.server[-1].times}


def test_an_interruption_leaves_a_partial_result(tmp_path: Path):
    begun = tmp_path / "add_sub" / "1" / "begun"
    code = f"open({str(begun)!r}, 'w').close()\n        responses = []"
    model = write_add_sub(tmp_path) / "1" / "model.py"
    model.write_text(model.read_text().replace("responses = []", code))

    async def main() -> Run:
        interrupted = asyncio.Event()

        async def interrupt() -> None:
            while not begun.exists():  # loading takes its time
                await asyncio.sleep(0.005)
            interrupted.set()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(interrupt())
            return await drive(profile(tmp_path, request_count=None, duration_s=60.0), NOWHERE, interrupted)

    done = uvloop.run(main())
    assert done.facts.incomplete
    assert len(done.columns)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"endpoint": "nowhere"}, "--model-repository nowhere: there is no such folder"),
        ({"model": "other"}, "'other'"),
        ({"batch_size": 9999}, "batch size 9999 is not"),
    ],
)
def test_what_cant_be_served_is_a_sentence(changes: dict, sentence: str, tmp_path: Path):
    write_add_sub(tmp_path)
    with pytest.raises(LoadError, match=sentence) as caught:
        run(profile(tmp_path, **changes))
    assert caught.value.exit_code == 2

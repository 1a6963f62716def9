"""Models that come, fail to come, are loaded again and go, and a store that closes."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.message_dict import message_dict
from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.overlay import Override
from analyzer.runtime.request import ErrorKind, InferError, InferResponse
from tests.fakes import repositories
from tests.fakes.opened_store import infer, serve

FOUR = np.arange(4, dtype=np.int32).reshape(1, 4)


def reason_of(store: ModelStore, model: str) -> str:
    (entry,) = [entry for entry in store.index() if entry.name == model]
    assert entry.state == "UNAVAILABLE"
    return entry.reason


def test_a_model_that_fails_to_load_says_why_and_takes_nothing_else_down(tmp_path: Path):
    repositories.write_python(tmp_path, "broken", "raise RuntimeError('no weights')")
    repositories.write_simulated(tmp_path)

    async def use(store: ModelStore) -> None:
        assert reason_of(store, "broken") == "model 'broken' can't import its model.py: RuntimeError: no weights"
        assert store.is_ready("simulated")
        assert not store.all_ready()
        with pytest.raises(InferError, match="'broken' has no available versions") as caught:
            store.metadata("broken")
        assert caught.value.kind is ErrorKind.NOT_FOUND  # as Triton has it
        with pytest.raises(InferError, match=r"failed to load 'broken', .*no weights"):
            await store.load("broken")

    serve(tmp_path, use)


def test_reload_serves_the_old_model_until_the_new_one_is_ready(tmp_path: Path):
    repositories.write_simulated(tmp_path)

    async def use(store: ModelStore) -> None:
        await infer(store, "simulated", {"INPUT0": np.ones((1, 4), np.float32)})
        config = message_dict(store.config("simulated"))
        config["max_batch_size"] = 2
        loading = asyncio.ensure_future(store.load("simulated", Override(json.dumps(config))))
        await infer(store, "simulated", {"INPUT0": np.ones((1, 4), np.float32)})
        await loading
        assert store.config("simulated").max_batch_size == 2
        with pytest.raises(InferError, match="batch-size must be <= 2"):
            await infer(store, "simulated", {"INPUT0": np.ones((3, 4), np.float32)})
        with pytest.raises(InferError, match="failed to load 'simulated', the configuration given"):
            await store.load("simulated", Override("{"))
        assert store.is_ready("simulated")

    serve(tmp_path, use)


def test_unload_answers_what_is_in_flight_and_then_the_model_is_gone(tmp_path: Path):
    repositories.write_simulated(tmp_path, parameters={"service_us": 2_000})

    async def use(store: ModelStore) -> None:
        one = np.ones((1, 4), np.float32)
        running = [asyncio.ensure_future(infer(store, "simulated", {"INPUT0": one})) for _ in range(3)]
        await asyncio.sleep(0)
        await store.unload("simulated")
        assert all(isinstance(answer, InferResponse) for answer in await asyncio.gather(*running))
        assert not store.is_ready("simulated")
        (entry,) = store.index()
        assert (entry.version, entry.state, entry.reason) == ("1", "UNAVAILABLE", "unloaded")
        with pytest.raises(InferError, match="has no available versions"):
            await infer(store, "simulated", {"INPUT0": one})
        await store.load("simulated")
        await infer(store, "simulated", {"INPUT0": one})

    serve(tmp_path, use)


@pytest.mark.parametrize("name", ["..", "../other", "/etc", ".", "", "a/b", "missing"])
def test_a_name_cannot_leave_the_repository(tmp_path: Path, name: str):
    (tmp_path / "models").mkdir()
    repositories.write_simulated(tmp_path, "other")

    async def use(store: ModelStore) -> None:
        with pytest.raises(InferError, match="no such folder"):
            await store.load(name)
        await store.unload(name)  # what is not there is unloaded already
        assert store.index() == []

    serve(tmp_path / "models", use)


def test_closing_refuses_new_requests_and_answers_those_in_flight(tmp_path: Path):
    repositories.write_simulated(tmp_path, parameters={"service_us": 2_000})

    async def use(store: ModelStore) -> None:
        one = np.ones((1, 4), np.float32)
        running = asyncio.ensure_future(infer(store, "simulated", {"INPUT0": one}))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(store.close(10.0))
        await asyncio.sleep(0)
        with pytest.raises(InferError, match="shutting down"):
            await infer(store, "simulated", {"INPUT0": one})
        await closing
        assert isinstance(await running, InferResponse)

    serve(tmp_path, use)


def test_closing_gives_up_on_a_model_that_never_ends(tmp_path: Path):
    repositories.write_python(tmp_path, "meet", repositories.MEETING, extra=repositories.IN_THREADS)

    async def run() -> None:
        store = ModelStore(tmp_path, loop=asyncio.get_running_loop())
        await store.open()
        stuck = asyncio.ensure_future(infer(store, "meet", {"INPUT0": np.ones(4, np.float32)}))
        queued = asyncio.ensure_future(infer(store, "meet", {"INPUT0": np.ones(4, np.float32)}))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(store.close(0.01))
        with pytest.raises(InferError, match="unloaded before it could answer"):
            await queued
        from tests.fakes import meeting

        meeting.BARRIER.abort()
        with pytest.raises(InferError, match="BrokenBarrierError"):
            await stuck
        await closing
        meeting.BARRIER.reset()

    asyncio.run(run())


def test_a_repository_that_vanishes_takes_no_loaded_model_down(tmp_path: Path):
    repositories.write_simulated(tmp_path / "models")

    async def use(store: ModelStore) -> None:
        (tmp_path / "models").rename(tmp_path / "elsewhere")
        await infer(store, "simulated", {"INPUT0": np.ones((1, 4), np.float32)})
        assert [entry.state for entry in store.index()] == ["READY"]
        with pytest.raises(InferError, match="failed to load 'simulated'"):
            await store.load("simulated")
        assert store.is_ready("simulated")

    serve(tmp_path / "models", use)

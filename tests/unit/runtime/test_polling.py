import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.polling import RepositoryPoller, look
from analyzer.runtime.repository_diff import Changes, callers, difference
from analyzer.runtime.request import InferError, InferResponse
from tests.fakes import repositories
from tests.fakes.opened_store import asked, opened_store

ONE = {"1/model.py": (5, 10)}
FOUR = np.arange(4, dtype=np.float32).reshape(1, 4)
_SNAPSHOTS = st.dictionaries(
    st.sampled_from("abcd"),
    st.dictionaries(st.sampled_from(["config.pbtxt", "1/m", "2/m"]), st.tuples(st.integers(0, 2), st.integers(0, 2))),
)


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({}, {}, Changes()),
        ({"a": ONE}, {"a": dict(ONE)}, Changes()),
        ({}, {"b": ONE, "a": ONE}, Changes(added=("a", "b"))),
        ({"a": ONE, "b": ONE}, {"b": ONE}, Changes(removed=("a",))),
        ({"a": ONE}, {"a": {"1/model.py": (6, 10)}}, Changes(changed=("a",))),
        ({"a": ONE}, {"a": {"1/model.py": (5, 11)}}, Changes(changed=("a",))),
        ({"a": ONE}, {"a": {**ONE, "2/model.py": (5, 10)}}, Changes(changed=("a",))),
        ({"a": {**ONE, "2/model.py": (5, 10)}}, {"a": ONE}, Changes(changed=("a",))),
        ({"a": ONE, "b": ONE}, {"a": {}, "c": ONE}, Changes(("c",), ("a",), ("b",))),
    ],
)
def test_two_looks_make_a_difference(before, after, changes):
    assert difference(before, after) == changes


@given(_SNAPSHOTS, _SNAPSHOTS)
def test_difference_names_each_model_once_and_none_that_stayed(before, after):
    changes = difference(before, after)
    named = [*changes.added, *changes.changed, *changes.removed]
    assert len(set(named)) == len(named)
    assert {name for name in {*before, *after} if before.get(name) != after.get(name)} == set(named)
    assert bool(changes) == (before != after)
    back = difference(after, before)
    assert (back.added, back.changed, back.removed) == (changes.removed, changes.changed, changes.added)


@pytest.mark.parametrize(
    ("called", "changed", "found"),
    [
        ({}, {"a"}, set()),
        ({"e": {"a", "b"}}, {"a"}, {"e"}),
        ({"e": {"a"}, "f": {"e"}, "g": {"b"}}, {"a"}, {"e", "f"}),
        ({"e": {"f"}, "f": {"e"}}, {"e"}, {"e", "f"}),
    ],
)
def test_callers_are_found_through_others(called, changed, found):
    assert callers(called, changed) == found


def test_look_passes_over_what_python_writes_and_hidden_files(tmp_path: Path):
    folder = repositories.write_simulated(tmp_path)
    before = look(tmp_path)
    (folder / "1" / "__pycache__").mkdir()
    (folder / "1" / "__pycache__" / "model.pyc").touch()
    (folder / ".config.pbtxt.swp").touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / "README").touch()
    assert look(tmp_path) == before
    assert set(before) == {"simulated"}


def test_look_ends_at_links_that_lead_in_a_circle(tmp_path: Path):
    folder = repositories.write_simulated(tmp_path)
    (folder / "1" / "again").symlink_to(folder)
    (folder / "1" / "gone").symlink_to(tmp_path / "nowhere")
    assert "config.pbtxt" in look(tmp_path)["simulated"]


async def ask(store: ModelStore, model: str, version: str = "") -> InferResponse | InferError:
    return await asked(store, model, {"INPUT0": FOUR}, version=version)


def polled(repository: Path, use: Callable[[ModelStore, RepositoryPoller], Awaitable[None]]) -> None:
    async def run() -> None:
        found = look(repository)
        async with opened_store(repository) as store:
            await use(store, RepositoryPoller(store, found))

    asyncio.run(run())


def states(store: ModelStore) -> dict[str, str]:
    return {f"{entry.name}/{entry.version}": entry.state for entry in store.index()}


def test_models_come_and_go_with_their_folders(tmp_path: Path):
    repositories.write_simulated(tmp_path, "first")

    async def use(store: ModelStore, poller: RepositoryPoller) -> None:
        assert not await poller.poll()
        repositories.write_simulated(tmp_path, "second")
        assert (await poller.poll()).added == ("second",)
        assert isinstance(await ask(store, "second"), InferResponse)
        shutil.rmtree(tmp_path / "first")
        assert (await poller.poll()).removed == ("first",)
        with pytest.raises(InferError):
            await ask(store, "first")
        assert "first" not in {name.split("/")[0] for name, state in states(store).items() if state == "READY"}
        assert store.all_ready()

    polled(tmp_path, use)


def test_a_new_version_is_served_and_a_version_that_went_is_not(tmp_path: Path):
    repositories.write_simulated(tmp_path, "m", extra="version_policy { all { } }")

    async def use(store: ModelStore, poller: RepositoryPoller) -> None:
        (tmp_path / "m" / "2").mkdir()
        assert (await poller.poll()).changed == ("m",)
        answer = await ask(store, "m")
        assert isinstance(answer, InferResponse)
        assert answer.version == "2"
        shutil.rmtree(tmp_path / "m" / "1")
        await poller.poll()
        assert states(store) == {"m/2": "READY"}

    polled(tmp_path, use)


def test_a_change_that_fails_leaves_the_old_one_serving_until_it_is_mended(tmp_path: Path, caplog):
    folder = repositories.write_simulated(tmp_path, "m")
    good = (folder / "config.pbtxt").read_text()

    async def use(store: ModelStore, poller: RepositoryPoller) -> None:
        (folder / "config.pbtxt").write_text("nonsense {")
        assert (await poller.poll()).changed == ("m",)
        assert isinstance(await ask(store, "m"), InferResponse)
        assert "m/config.pbtxt, line 1" in caplog.text
        assert not await poller.poll()
        (folder / "config.pbtxt").write_text(good.replace("max_batch_size: 8", "max_batch_size: 3"))
        await poller.poll()
        assert store.config("m").max_batch_size == 3

    polled(tmp_path, use)


def test_a_new_model_that_fails_is_unavailable_with_its_reason(tmp_path: Path):
    repositories.write_simulated(tmp_path, "m")

    async def use(store: ModelStore, poller: RepositoryPoller) -> None:
        repositories.write_simulated(tmp_path, "bad", extra="dynamic_batching { preferred_batch_size: [ 99 ] }")
        await poller.poll()
        (entry,) = [entry for entry in store.index() if entry.name == "bad"]
        assert (entry.state, "preferred_batch_size 99" in entry.reason) == ("UNAVAILABLE", True)
        assert isinstance(await ask(store, "m"), InferResponse)

    polled(tmp_path, use)


def test_requests_under_way_are_answered_by_the_model_that_took_them(tmp_path: Path):
    folder = repositories.write_simulated(tmp_path, "m", parameters={"service_us": 20_000})

    async def use(store: ModelStore, poller: RepositoryPoller) -> None:
        asked = [asyncio.ensure_future(ask(store, "m")) for _ in range(8)]
        await asyncio.sleep(0)
        os.utime(folder / "config.pbtxt", ns=(1, 1))
        assert (await poller.poll()).changed == ("m",)
        asked += [asyncio.ensure_future(ask(store, "m")) for _ in range(8)]
        shutil.rmtree(folder)
        await asyncio.sleep(0)
        await poller.poll()
        assert all(isinstance(answer, InferResponse) for answer in await asyncio.gather(*asked))

    polled(tmp_path, use)


ENSEMBLE = """
ensemble_scheduling { step {
  model_name: "inner" model_version: -1
  input_map { key: "INPUT0" value: "INPUT0" } output_map { key: "OUTPUT0" value: "OUTPUT0" }
} }
"""


def test_an_ensemble_comes_up_when_what_it_calls_does(tmp_path: Path):
    tensor = ("TYPE_FP32", (4,))
    inputs, outputs = [("INPUT0", *tensor)], [("OUTPUT0", *tensor)]
    repositories.write_model(
        tmp_path, "outer", backend="ensemble", inputs=inputs, outputs=outputs, max_batch_size=8, extra=ENSEMBLE
    )

    async def use(store: ModelStore, poller: RepositoryPoller) -> None:
        assert states(store) == {"inner/": "UNAVAILABLE", "outer/1": "UNAVAILABLE"}
        repositories.write_simulated(tmp_path, "inner")
        await poller.poll()
        assert isinstance(await ask(store, "outer"), InferResponse)
        shutil.rmtree(tmp_path / "inner")
        await poller.poll()
        assert states(store)["outer/1"] == "UNAVAILABLE"
        shutil.rmtree(tmp_path / "outer")
        await poller.poll()
        assert set(states(store).values()) <= {"UNLOADING"}

    polled(tmp_path, use)


def test_unloading_an_ensemble_can_take_what_it_calls_along(tmp_path: Path):
    tensor = ("TYPE_FP32", (4,))
    repositories.write_model(
        tmp_path,
        "outer",
        backend="ensemble",
        inputs=[("INPUT0", *tensor)],
        outputs=[("OUTPUT0", *tensor)],
        max_batch_size=8,
        extra=ENSEMBLE,
    )
    repositories.write_simulated(tmp_path, "inner")

    async def use(store: ModelStore, _poller: RepositoryPoller) -> None:
        await store.unload("outer")
        assert store.is_ready("inner")
        await store.load("outer")
        await store.unload("outer", with_called=True)
        assert not store.is_ready("inner")

    polled(tmp_path, use)

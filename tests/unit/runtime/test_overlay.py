import asyncio
import base64
import tempfile
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.backends.base import ModelError
from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.overlay import Override, is_model_name, read_override, write_overlay
from analyzer.runtime.request import InferError, InferRequest
from tests.fakes import repositories

CONFIG = (
    '{"backend": "simulated", "max_batch_size": %d, "input": [{"name": "INPUT0", "data_type": "TYPE_FP32", '
    '"dims": [4]}], "output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [4]}]}'
)


@pytest.mark.parametrize(
    ("parameters", "override"),
    [
        ({}, Override()),
        ({"config": "{}"}, Override("{}")),
        ({"config": "{}", "file:1/a": b"\1\2"}, Override("{}", {"1/a": b"\1\2"})),
        ({"config": "{}", "file:1/a": base64.b64encode(b"\1\2").decode()}, Override("{}", {"1/a": b"\1\2"})),
    ],
)
def test_what_a_load_request_says_is_read(parameters, override):
    assert read_override(parameters) == override


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"config": 3}, "must be a string that holds JSON"),
        ({"other": "x"}, "load parameter 'other' is not supported"),
        ({"file:1/a": b"x"}, "need the parameter 'config'"),
        ({"config": "{}", "file:1/a": "no base64!"}, "must be the file's content in base64"),
        ({"config": "{}", "file:1/a": 7}, "must be the file's content in base64"),
    ],
)
def test_a_load_request_that_makes_no_sense_is_refused(parameters, sentence):
    with pytest.raises(InferError) as caught:
        read_override(parameters)
    assert sentence in caught.value.message


@pytest.mark.parametrize("path", ["../x", "/etc/x", "1/../../x", "a\0b", ""])
def test_files_do_not_leave_their_folder_and_nothing_stays_behind(path, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ModelError):
        write_overlay("m", {"1/good": b"x", path: b"x"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "good"), [("m", True), ("a.b-c_1", True), ("..", False), ("a/b", False), ("", False)])
def test_names_of_models_that_come_with_their_files(name, good):
    assert is_model_name(name) == good


def test_a_model_of_the_clients_own_files_is_served_until_it_is_unloaded(tmp_path, monkeypatch):
    folders = tmp_path / "temporary"
    folders.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folders))
    repository = tmp_path / "models"
    repository.mkdir()
    repositories.write_simulated(repository, "m")

    async def run() -> None:
        loop = asyncio.get_running_loop()
        store = ModelStore(repository, loop=loop)
        await store.open()
        for name, rows in (("m", 2), ("new", 3)):
            await store.load(name, Override(CONFIG % rows, {"7/weights": b"x", "labels.txt": b"a"}))
            assert store.config(name).max_batch_size == rows
            assert store.metadata(name).versions == ["7"]
            answered = loop.create_future()
            store.submit(InferRequest(name, {"INPUT0": np.zeros((1, 4), np.float32)}, 0), answered.set_result)
            assert (await answered).version == "7"
        assert len(list(folders.iterdir())) == 2
        bad = f'{(CONFIG % 1)[:-1]}, "dynamic_batching": {{"preferred_batch_size": [9]}}}}'
        with pytest.raises(InferError, match="preferred_batch_size"):
            await store.load("m", Override(bad, {"1/a": b""}))
        assert store.config("m").max_batch_size == 2
        await store.unload("new")
        await store.load("m")
        assert (store.config("m").max_batch_size, store.metadata("m").versions) == (8, ["1"])
        await store.close(5.0)
        assert list(folders.iterdir()) == []
        assert {path.name for path in repository.iterdir()} == {"m"}

    asyncio.run(run())


def test_a_name_that_leads_elsewhere_is_not_found_even_with_files(tmp_path: Path):
    async def run() -> None:
        store = ModelStore(tmp_path, loop=asyncio.get_running_loop())
        await store.open()
        with pytest.raises(InferError, match="there is no such folder"):
            await store.load("../m", Override(CONFIG % 1, {"1/a": b""}))
        await store.close(0.0)

    asyncio.run(run())

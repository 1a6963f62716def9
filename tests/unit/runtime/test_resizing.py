"""Another number of instances, and nothing else: the model serves on, with what it remembers and what was counted."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.overlay import Override
from analyzer.runtime.request import InferError, InferResponse
from tests.fakes import repositories
from tests.fakes.opened_store import asked, infer, serve

COUNTS = """\
import os

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.calls = 0
        if os.path.exists(os.path.join(os.path.dirname(args["model_repository"]), "refuse")):
            raise ValueError("no more of us")

    def execute(self, requests):
        self.calls += 1
        shape = requests[0].inputs()[0].shape()
        told = pb_utils.Tensor("OUTPUT0", np.full(shape, self.calls, np.float32))
        return [pb_utils.InferenceResponse([told]) for _ in requests]
"""
ONE = {"INPUT0": np.zeros(1, np.float32)}


def write(repository: Path, execution: str) -> None:
    """With one instance."""
    extra = "instance_group { count: 1 kind: KIND_CPU }\n" + repositories.parameter_block({"execution": execution})
    repositories.write_python(repository, "counts", COUNTS, extra=extra)


def change(repository: Path, before: str, after: str) -> None:
    """The configuration alone: who writes model.py anew has changed the model."""
    path = repository / "counts" / "config.pbtxt"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


async def calls(store: ModelStore, count: int = 1) -> list[float]:
    """What the instances had counted when they answered, in ascending order."""
    answers = await asyncio.gather(*(asked(store, "counts", ONE) for _ in range(count)))
    assert all(isinstance(answer, InferResponse) for answer in answers)
    return sorted(float(answer.outputs["OUTPUT0"][0]) for answer in answers)


def successes(store: ModelStore) -> int:
    return int(store.statistics("counts")[0].inference_stats.success.count)


@pytest.fixture(params=["process", "thread"])
def repository(request, tmp_path: Path) -> Path:
    write(tmp_path, request.param)
    return tmp_path


@pytest.mark.parametrize("batching", ["", "dynamic_batching { }"])
def test_instances_are_added_and_ended_under_load_and_what_was_counted_stays(repository: Path, batching: str):
    if batching:
        change(repository, "max_batch_size: 0", f"max_batch_size: 1 {batching}")
    one = {"INPUT0": np.zeros((1, 1), np.float32)} if batching else ONE

    async def use(store: ModelStore) -> None:
        sent = 0
        for before, after in ((1, 3), (3, 2), (2, 4), (4, 1)):
            waiting = [asked(store, "counts", one) for _ in range(40)]
            change(repository, f"count: {before}", f"count: {after}")
            await store.load("counts")
            waiting += [asked(store, "counts", one) for _ in range(40)]
            sent += len(waiting)
            failed = [answer for answer in await asyncio.gather(*waiting) if isinstance(answer, InferError)]
            assert failed == []
            assert store.config("counts").instance_group[0].count == after
            assert (successes(store), store.pending()["counts", "1"]) == (sent, 0)

    serve(repository, use)


def test_the_instances_that_stay_remember(repository: Path):
    async def use(store: ModelStore) -> None:
        assert [await calls(store) for _ in range(3)] == [[1.0], [2.0], [3.0]]
        change(repository, "count: 1", "count: 2")
        await store.load("counts")
        counted = await calls(store, 20)
        assert counted[-1] > 3
        assert len(counted) - len(set(counted)) <= counted[-1]

    serve(repository, use)


def test_an_instance_that_can_not_be_added_leaves_the_model_as_it_was(repository: Path):
    async def use(store: ModelStore) -> None:
        await calls(store)
        change(repository, "count: 1", "count: 3")
        (repository / "refuse").touch()
        with pytest.raises(InferError, match="no more of us"):
            await store.load("counts")
        assert store.config("counts").instance_group[0].count == 1
        assert await calls(store, 3) == [2.0, 3.0, 4.0]
        (repository / "refuse").unlink()
        await store.load("counts")
        assert successes(store) == 4
        assert store.config("counts").instance_group[0].count == 3
        await calls(store, 10)

    serve(repository, use)


def test_a_count_in_a_configuration_given_with_the_load_is_one_too(tmp_path: Path):
    write(tmp_path, "process")
    tensor = '"data_type": "TYPE_FP32", "dims": [-1]'
    config = f"""{{
        "backend": "python",
        "input": [{{"name": "INPUT0", {tensor}}}],
        "output": [{{"name": "OUTPUT0", {tensor}}}],
        "parameters": {{"execution": {{"string_value": "process"}}}},
        "instance_group": [{{"count": 2, "kind": "KIND_CPU"}}]
    }}"""

    async def use(store: ModelStore) -> None:
        await calls(store)
        await store.load("counts", Override(config))
        await calls(store)
        assert successes(store) == 2

    serve(tmp_path, use)


@pytest.mark.parametrize(
    ("before", "after"),
    [("count: 1", "count: 1 name: 'other'"), ("max_batch_size: 0", "max_batch_size: 2"), ("count: 1", "count: 1 ")],
)
def test_any_other_change_loads_the_model_anew(repository: Path, before: str, after: str):
    async def use(store: ModelStore) -> None:
        await calls(store)
        change(repository, before, after)
        await store.load("counts")
        assert successes(store) == 0

    serve(repository, use)


def test_a_changed_model_file_loads_the_model_anew(repository: Path):
    async def use(store: ModelStore) -> None:
        await calls(store)
        change(repository, "count: 1", "count: 2")
        (repository / "counts" / "1" / "model.py").write_text(COUNTS.replace("self.calls = 0", "self.calls = 100"))
        await store.load("counts")
        answer = await infer(store, "counts", ONE)
        assert answer.outputs["OUTPUT0"][0] == 101

    serve(repository, use)

"""Ensembles in a store: their steps, their times, and what they call."""

from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import InferError
from tests.fakes import repositories
from tests.fakes.opened_store import infer, serve

FOUR = np.arange(4, dtype=np.int32).reshape(1, 4)


def reason_of(store: ModelStore, model: str) -> str:
    (entry,) = [entry for entry in store.index() if entry.name == model]
    assert entry.state == "UNAVAILABLE"
    return entry.reason


def test_the_ensemble_runs_its_steps_and_sums_their_times(tmp_path: Path):
    repositories.write_ensemble(tmp_path)

    async def use(store: ModelStore) -> None:
        left, right = FOUR + 5, FOUR
        response = await infer(store, "chain", {"X": left, "Y": right}, id="a")
        assert (response.model, response.id, list(response.outputs)) == ("chain", "a", ["SUM2", "DIFF"])
        np.testing.assert_array_equal(response.outputs["SUM2"], 2 * (left + right))
        np.testing.assert_array_equal(response.outputs["DIFF"], left - right)
        by_name = {entry.name: entry for entry in store.statistics()}
        assert {entry.inference_count for entry in by_name.values()} == {1}
        steps = sum(by_name[name].inference_stats.compute_infer.ns for name in ("add_sub", "doubled"))
        assert by_name["chain"].inference_stats.compute_infer.ns == steps
        assert by_name["chain"].inference_stats.queue.count == 1

    serve(tmp_path, use)


def test_a_step_that_fails_fails_the_ensemble_once(tmp_path: Path):
    repositories.write_ensemble(tmp_path)
    (tmp_path / "doubled" / "1" / "model.py").write_text(
        "class TritonPythonModel:\n    def execute(self, requests):\n        raise ValueError('no luck')\n"
    )

    async def use(store: ModelStore) -> None:
        with pytest.raises(InferError, match="'doubled_0' failed: ValueError: no luck"):
            await infer(store, "chain", {"X": FOUR, "Y": FOUR})
        by_name = {entry.name: entry.inference_stats for entry in store.statistics()}
        assert {name: stats.fail.count for name, stats in by_name.items()} == {"add_sub": 0, "chain": 1, "doubled": 1}

    serve(tmp_path, use)


def test_an_ensemble_in_an_ensemble_accounts_for_its_steps(tmp_path: Path):
    repositories.write_ensemble(tmp_path)
    maps = "".join(f'input_map {{ key: "{name}" value: "{name}" }} ' for name in "XY")
    outer = f'step {{ model_name: "chain" model_version: 1 {maps} output_map {{ key: "DIFF" value: "Z" }} }}'
    repositories.write_model(
        tmp_path,
        "outer",
        backend="",
        inputs=[("X", "TYPE_INT32", (4,)), ("Y", "TYPE_INT32", (4,))],
        outputs=[("Z", "TYPE_INT32", (4,))],
        max_batch_size=4,
        extra=f'platform: "ensemble" ensemble_scheduling {{ {outer} }}',
    )

    async def use(store: ModelStore) -> None:
        response = await infer(store, "outer", {"X": FOUR, "Y": FOUR})
        assert not response.outputs["Z"].any()
        by_name = {entry.name: entry.inference_stats for entry in store.statistics()}
        assert by_name["outer"].compute_infer.ns == by_name["chain"].compute_infer.ns > 0

    serve(tmp_path, use)


def test_loading_an_ensemble_loads_what_it_calls(tmp_path: Path):
    repositories.write_ensemble(tmp_path)

    async def use(store: ModelStore) -> None:
        assert [entry.state for entry in store.index()] == ["", "", ""]
        await store.load("chain")
        assert [(entry.name, entry.state) for entry in store.index()] == [
            ("add_sub", "READY"),
            ("chain", "READY"),
            ("doubled", "READY"),
        ]
        await store.unload("doubled")
        assert not store.is_ready("chain")
        with pytest.raises(
            InferError, match="in ensemble 'chain', Request for unknown model: 'doubled' has no available versions"
        ):
            await infer(store, "chain", {"X": FOUR, "Y": FOUR})

    serve(tmp_path, use, models=[])


def test_ensembles_that_call_each_other_are_refused(tmp_path: Path):
    for name, other in (("a", "b"), ("b", "a")):
        step = (
            f'step {{ model_name: "{other}" input_map {{ key: "X" value: "X" }} output_map {{ key: "Y" value: "Y" }} }}'
        )
        repositories.write_model(
            tmp_path,
            name,
            backend="",
            inputs=[("X", "TYPE_FP32", (1,))],
            outputs=[("Y", "TYPE_FP32", (1,))],
            extra=f'platform: "ensemble" ensemble_scheduling {{ {step} }}',
        )

    async def use(store: ModelStore) -> None:
        assert "call each other in a cycle" in reason_of(store, "a")
        assert not store.all_ready()

    serve(tmp_path, use)

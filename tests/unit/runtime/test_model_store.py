import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.message_dict import message_dict
from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.overlay import Override
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, InferResponse, Tensors
from tests.fakes import repositories

FOUR = np.arange(4, dtype=np.int32).reshape(1, 4)


async def infer(store: ModelStore, model: str, inputs: Tensors, **fields: object) -> InferResponse:
    answered = asyncio.get_running_loop().create_future()
    store.submit(InferRequest(model, inputs, time.monotonic_ns(), **fields), answered.set_result)
    answer = await answered
    if isinstance(answer, InferError):
        raise answer
    return answer


def serve(repository: Path, use: Callable[[ModelStore], Awaitable[None]], models: Sequence[str] | None = None) -> None:
    """Opens a store over the repository, uses it on an event loop, and closes it."""

    async def run() -> None:
        store = ModelStore(repository, loop=asyncio.get_running_loop())
        await store.open(models)
        try:
            await use(store)
        finally:
            await store.close(5.0)

    threads = set(threading.enumerate())
    asyncio.run(run())
    for thread in set(threading.enumerate()) - threads:
        thread.join(timeout=30)
        assert not thread.is_alive()


def reason_of(store: ModelStore, model: str) -> str:
    (entry,) = [entry for entry in store.index() if entry.name == model]
    assert entry.state == "UNAVAILABLE"
    return entry.reason


def test_python_model_answers_with_its_id_and_version(tmp_path: Path):
    repositories.write_add_sub(tmp_path)

    async def use(store: ModelStore) -> None:
        assert store.all_ready()
        response = await infer(store, "add_sub", {"INPUT0": FOUR, "INPUT1": FOUR}, id="7")
        assert (response.id, response.version, list(response.outputs)) == ("7", "1", ["OUTPUT0", "OUTPUT1"])
        np.testing.assert_array_equal(response.outputs["OUTPUT0"], 2 * FOUR)
        np.testing.assert_array_equal(response.outputs["OUTPUT1"], 0 * FOUR)

    serve(tmp_path, use)


def test_only_the_requested_outputs_come_back_in_the_order_asked_for(tmp_path: Path):
    repositories.write_add_sub(tmp_path)

    async def use(store: ModelStore) -> None:
        inputs = {"INPUT0": FOUR, "INPUT1": FOUR}
        response = await infer(store, "add_sub", inputs, requested=("OUTPUT1",))
        assert list(response.outputs) == ["OUTPUT1"]
        response = await infer(store, "add_sub", inputs, requested=("OUTPUT1", "OUTPUT0"))
        assert list(response.outputs) == ["OUTPUT1", "OUTPUT0"]

    serve(tmp_path, use)


@pytest.mark.parametrize(
    ("model", "inputs", "fields", "kind", "message"),
    [
        ("x", {}, {}, ErrorKind.NOT_FOUND, "Request for unknown model: 'x' is not found"),
        (
            "add_sub",
            {},
            {"version": "9"},
            ErrorKind.NOT_FOUND,
            "Request for unknown model: 'add_sub' version 9 is not found",
        ),
        (
            "add_sub",
            {"INPUT0": FOUR},
            {},
            ErrorKind.INVALID_ARGUMENT,
            "expected 2 inputs but got 1 inputs for model 'add_sub'. "
            "Got input(s) ['INPUT0'], but missing required input(s) ['INPUT1'].",
        ),
        (
            "add_sub",
            {"INPUT0": FOUR, "INPUT1": FOUR, "X": FOUR},
            {},
            ErrorKind.INVALID_ARGUMENT,
            "unexpected inference input 'X' for model 'add_sub'",
        ),
        (
            "add_sub",
            {"INPUT0": FOUR, "INPUT1": FOUR.astype(np.float32)},
            {},
            ErrorKind.INVALID_ARGUMENT,
            "inference input 'INPUT1' data-type is 'FP32', but model 'add_sub' expects 'INT32'",
        ),
        (
            "add_sub",
            {"INPUT0": np.zeros((1, 5), np.int32), "INPUT1": FOUR},
            {},
            ErrorKind.INVALID_ARGUMENT,
            "unexpected shape for input 'INPUT0' for model 'add_sub'. Expected [-1,4], got [1,5]",
        ),
        (
            "add_sub",
            {"INPUT0": np.zeros((9, 4), np.int32), "INPUT1": np.zeros((9, 4), np.int32)},
            {},
            ErrorKind.INVALID_ARGUMENT,
            "inference request batch-size must be <= 8 for 'add_sub'",
        ),
        (
            "add_sub",
            {"INPUT0": np.zeros((2, 4), np.int32), "INPUT1": FOUR},
            {},
            ErrorKind.INVALID_ARGUMENT,
            "input 'INPUT1' batch size does not match other inputs for 'add_sub'",
        ),
        (
            "add_sub",
            {"INPUT0": np.zeros((0, 4), np.int32), "INPUT1": FOUR},
            {},
            ErrorKind.INVALID_ARGUMENT,
            "input 'INPUT0' of model 'add_sub' has a batch of 0 rows, at least 1 is needed",
        ),
        (
            "add_sub",
            {"INPUT0": FOUR, "INPUT1": FOUR},
            {"requested": ("Y",)},
            ErrorKind.INVALID_ARGUMENT,
            "unexpected inference output 'Y' for model 'add_sub'",
        ),
    ],
)
def test_wrong_requests_are_refused_at_once(tmp_path: Path, model, inputs, fields, kind, message):
    repositories.write_add_sub(tmp_path)

    async def use(store: ModelStore) -> None:
        with pytest.raises(InferError) as caught:
            store.submit(InferRequest(model, inputs, 0, **fields), print)
        assert (caught.value.kind, caught.value.message) == (kind, message)

    serve(tmp_path, use)


def test_requests_of_one_turn_go_together_and_each_gets_its_own_rows(tmp_path: Path):
    repositories.write_simulated(tmp_path, parameters={"service_us": 100}, extra="dynamic_batching { }")

    async def use(store: ModelStore) -> None:
        sent = [np.full((rows, 4), rows, np.float32) for rows in (1, 2, 3)]
        responses = await asyncio.gather(*(infer(store, "simulated", {"INPUT0": array}) for array in sent))
        for array, response in zip(sent, responses):
            np.testing.assert_array_equal(response.outputs["OUTPUT0"], array)
        (statistics,) = store.statistics("simulated")
        assert (statistics.inference_count, statistics.execution_count) == (6, 1)
        assert [size.batch_size for size in statistics.batch_stats] == [6]

    serve(tmp_path, use)


def test_a_full_batch_does_not_wait_for_its_delay(tmp_path: Path):
    hour_us = 3_600_000_000
    repositories.write_simulated(
        tmp_path, max_batch_size=4, extra=f"dynamic_batching {{ max_queue_delay_microseconds: {hour_us} }}"
    )

    async def use(store: ModelStore) -> None:
        one = np.ones((1, 4), np.float32)
        waiting = [asyncio.ensure_future(infer(store, "simulated", {"INPUT0": one})) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert store.pending() == {("simulated", "1"): 3}
        await infer(store, "simulated", {"INPUT0": one})
        await asyncio.gather(*waiting)
        (statistics,) = store.statistics()
        assert [(size.batch_size, size.compute_infer.count) for size in statistics.batch_stats] == [(4, 1)]

    serve(tmp_path, use)


def test_a_partial_batch_leaves_when_its_delay_expires(tmp_path: Path):
    repositories.write_simulated(tmp_path, extra="dynamic_batching { max_queue_delay_microseconds: 300 }")

    async def use(store: ModelStore) -> None:
        await infer(store, "simulated", {"INPUT0": np.ones((1, 4), np.float32)})
        (statistics,) = store.statistics()
        assert statistics.inference_stats.queue.ns >= 300_000

    serve(tmp_path, use)


def test_requests_of_different_shapes_are_not_batched(tmp_path: Path):
    repositories.write_simulated(tmp_path, dims=(-1,), parameters={"service_us": 50}, extra="dynamic_batching { }")

    async def use(store: ModelStore) -> None:
        sent = [np.ones((1, width), np.float32) for width in (3, 3, 5)]
        responses = await asyncio.gather(*(infer(store, "simulated", {"INPUT0": array}) for array in sent))
        assert [response.outputs["OUTPUT0"].shape for response in responses] == [(1, 3), (1, 3), (1, 5)]
        (statistics,) = store.statistics()
        assert statistics.execution_count == 2

    serve(tmp_path, use)


BARRIER = """\
import threading
import triton_python_backend_utils as pb_utils
import tests.fakes.meeting as meeting


class TritonPythonModel:
    def execute(self, requests):
        meeting.BARRIER.wait(timeout=30)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
"""


IN_THREADS = 'parameters { key: "execution" value { string_value: "thread" } }'


def test_instances_run_at_the_same_time(tmp_path: Path):
    """Each of the two executions waits for the other: with one instance neither would end."""
    repositories.write_python(tmp_path, "meet", BARRIER, extra="instance_group { count: 2 }" + IN_THREADS)

    async def use(store: ModelStore) -> None:
        one = np.ones(4, np.float32)
        await asyncio.gather(infer(store, "meet", {"INPUT0": one}), infer(store, "meet", {"INPUT0": one}))

    serve(tmp_path, use)


def test_statistics_count_what_perf_analyzer_compares(tmp_path: Path):
    repositories.write_add_sub(tmp_path)

    async def use(store: ModelStore) -> None:
        for _ in range(3):
            await infer(store, "add_sub", {"INPUT0": FOUR, "INPUT1": FOUR})
        (entry,) = store.statistics("add_sub", "1")
        stats = entry.inference_stats
        counts = {stats.success.count, stats.queue.count, stats.compute_input.count, stats.compute_infer.count}
        assert counts | {stats.compute_output.count, entry.inference_count, entry.execution_count} == {3}
        parts = (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
        assert 0 < sum(part.ns for part in parts) <= stats.success.ns
        assert entry.last_inference > 0

    serve(tmp_path, use)


def test_a_failing_execution_fails_only_its_own_requests(tmp_path: Path):
    repositories.write_simulated(tmp_path, parameters={"fail_every": 2})

    async def use(store: ModelStore) -> None:
        one = np.ones((1, 4), np.float32)
        results = await asyncio.gather(
            *(infer(store, "simulated", {"INPUT0": one}) for _ in range(4)), return_exceptions=True
        )
        assert [isinstance(result, InferError) for result in results] == [False, True, False, True]
        (entry,) = store.statistics()
        assert (entry.inference_stats.success.count, entry.inference_stats.fail.count) == (2, 2)

    serve(tmp_path, use)


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


def test_an_output_that_does_not_fit_its_reshape_fails_the_request(tmp_path: Path):
    folder = repositories.write_python(tmp_path, "wide")
    (folder / "config.pbtxt").write_text(
        'backend: "python"\n'
        'input { name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] }\n'
        'output { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 1, 2 ] reshape: { shape: [ 2 ] } }\n'
    )

    async def use(store: ModelStore) -> None:
        with pytest.raises(InferError, match="gave an output of another shape"):
            await infer(store, "wide", {"INPUT0": np.ones(4, np.float32)})

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
    repositories.write_python(tmp_path, "meet", BARRIER, extra=IN_THREADS)

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


def test_version_policy_chooses_what_is_served(tmp_path: Path):
    repositories.write_simulated(tmp_path, extra="version_policy { all { } }")
    (tmp_path / "simulated" / "3").mkdir()
    (tmp_path / "simulated" / "notes").mkdir()

    async def use(store: ModelStore) -> None:
        one = np.ones((1, 4), np.float32)
        assert (await infer(store, "simulated", {"INPUT0": one})).version == "3"
        assert (await infer(store, "simulated", {"INPUT0": one}, version="1")).version == "1"
        assert list(store.metadata("simulated").versions) == ["1", "3"]
        assert [entry.version for entry in store.statistics()] == ["1", "3"]

    serve(tmp_path, use)


def test_metadata_shows_shapes_as_a_client_sends_them(tmp_path: Path):
    repositories.write_add_sub(tmp_path)

    async def use(store: ModelStore) -> None:
        metadata = store.metadata("add_sub")
        assert metadata.platform == "python"
        assert [(item.name, item.datatype, list(item.shape)) for item in metadata.inputs] == [
            ("INPUT0", "INT32", [-1, 4]),
            ("INPUT1", "INT32", [-1, 4]),
        ]
        assert store.inputs("add_sub") is store.inputs("add_sub", "1")
        assert store.outputs("add_sub")["OUTPUT0"].dims == (-1, 4)

    serve(tmp_path, use)


def test_reshape_gives_the_model_its_own_shape_and_the_client_the_declared_one(tmp_path: Path):
    folder = repositories.write_python(tmp_path, "scalar", max_batch_size=4)
    (folder / "config.pbtxt").write_text(
        'backend: "python" max_batch_size: 4\n'
        'input { name: "INPUT0" data_type: TYPE_FP32 dims: [ 1 ] reshape: { shape: [ ] } }\n'
        'output { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 1 ] reshape: { shape: [ ] } }\n'
    )

    async def use(store: ModelStore) -> None:
        sent = np.array([[1.0], [2.0]], np.float32)
        response = await infer(store, "scalar", {"INPUT0": sent})
        np.testing.assert_array_equal(response.outputs["OUTPUT0"], sent)

    serve(tmp_path, use)

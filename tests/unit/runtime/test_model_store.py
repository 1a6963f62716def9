import asyncio
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import ErrorKind, InferError, InferRequest
from tests.fakes import repositories
from tests.fakes.opened_store import infer, serve

FOUR = np.arange(4, dtype=np.int32).reshape(1, 4)


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


def test_instances_run_at_the_same_time(tmp_path: Path):
    """Each of the two executions waits for the other: with one instance neither would end."""
    repositories.write_python(
        tmp_path, "meet", repositories.MEETING, extra="instance_group { count: 2 }" + repositories.IN_THREADS
    )

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

import asyncio
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, InferResponse
from tests.fakes.opened_store import opened_store
from tests.fakes.repositories import write_model, write_python

# Answers with how many requests it has executed before; X below zero waits for the file beside it.
GATED = """\
import os
import time
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.gate = os.path.join(args["model_repository"], "open")
        self.count = 0

    def execute(self, requests):
        responses = []
        for request in requests:
            while request.inputs()[0].as_numpy().ravel()[0] < 0 and not os.path.exists(self.gate):
                time.sleep(0.002)
            self.count += 1
            tensor = pb_utils.Tensor("OUTPUT0", np.array([[self.count]], np.float32))
            responses.append(pb_utils.InferenceResponse([tensor]))
        return responses
"""


class Scene:
    """One instance that is kept busy until ``open``; batches of 1, so that the order shows."""

    def __init__(self, store: ModelStore, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.order: list[str] = []
        self.requests: dict[str, InferRequest] = {}

    def ask(self, name: str, value: float = 1, **parameters: int) -> "asyncio.Future[InferResponse]":
        done = asyncio.get_running_loop().create_future()

        def reply(answer: InferResponse | InferError) -> None:
            self.order.append(name)
            done.set_exception(answer) if isinstance(answer, InferError) else done.set_result(answer)

        inputs = {"INPUT0": np.full((1, 1), value, np.float32)}
        request = self.requests[name] = InferRequest("gated", inputs, 0, parameters=dict(parameters))
        self.store.submit(request, reply)
        return done

    def open(self) -> None:
        (self.folder / "open").touch()


def play(repository: Path, batching: str, scene, *, instances: int = 1) -> None:
    extra = f"dynamic_batching {{ {batching} }} instance_group {{ count: {instances} }}"
    folder = write_python(repository, "gated", GATED, dims=(1,), max_batch_size=1, extra=extra)
    run_scene(repository, folder, scene)


def run_scene(repository: Path, folder: Path, scene) -> None:
    async def run() -> None:
        async with opened_store(repository) as store:
            assert store.all_ready(), store.index()
            played = Scene(store, folder)
            try:
                await scene(played)
            finally:
                played.open()

    asyncio.run(run())


LEVELS = "priority_levels: 3 default_priority_level: 2"


def test_queued_requests_leave_by_priority(tmp_path):
    async def scene(scene: Scene) -> None:
        busy = [scene.ask("busy", -1), scene.ask("ahead")]
        await asyncio.sleep(0)  # one turn of the loop, in which both are sent
        asked = [scene.ask(name, priority=level) for name, level in (("low", 3), ("default", 0), ("high", 1))]
        scene.open()
        await asyncio.gather(*busy, *asked)
        assert scene.order[2:] == ["high", "default", "low"]

    play(tmp_path, LEVELS, scene)


def test_request_that_waits_too_long_is_refused_while_the_instance_is_busy(tmp_path):
    policy = "default_queue_policy { default_timeout_microseconds: 1000 }"

    async def scene(scene: Scene) -> None:
        busy = [scene.ask("busy", -1), scene.ask("ahead")]
        await asyncio.sleep(0)
        late = scene.ask("late")
        with pytest.raises(InferError, match="Request timeout expired") as caught:
            await late
        assert caught.value.kind is ErrorKind.UNAVAILABLE
        assert scene.store.statistics("gated")[0].inference_stats.fail.count == 1
        scene.open()
        await asyncio.gather(*busy)

    play(tmp_path, policy, scene)


def test_timeout_of_a_request_counts_where_it_is_allowed(tmp_path):
    async def scene(scene: Scene) -> None:
        busy = [scene.ask("busy", -1), scene.ask("ahead")]
        await asyncio.sleep(0)
        patient, hasty = scene.ask("patient"), scene.ask("hasty", timeout=1000)
        with pytest.raises(InferError, match="timeout expired"):
            await hasty
        scene.open()
        await asyncio.gather(*busy, patient)

    play(tmp_path, "default_queue_policy { allow_timeout_override: true }", scene)


def test_request_to_a_full_queue_is_refused_at_once(tmp_path):
    async def scene(scene: Scene) -> None:
        busy = []
        for name in ("busy", "ahead"):
            busy.append(scene.ask(name, -1))
            await asyncio.sleep(0)
        queued = scene.ask("queued")
        with pytest.raises(InferError, match="Exceeds maximum queue size"):
            scene.ask("one too many")
        scene.open()
        await asyncio.gather(*busy, queued)

    play(tmp_path, "default_queue_policy { max_queue_size: 1 }", scene)


def test_answers_keep_the_order_of_requests_over_several_instances(tmp_path):
    async def scene(scene: Scene) -> None:
        slow = scene.ask("slow", -1)
        quick = [scene.ask(f"quick{number}") for number in range(3)]
        while scene.store.statistics("gated")[0].execution_count < 3:
            await asyncio.sleep(0.002)
        assert scene.order == []
        scene.open()
        await asyncio.gather(slow, *quick)
        assert scene.order == ["slow", "quick0", "quick1", "quick2"]

    play(tmp_path, "preserve_ordering: true", scene, instances=4)


@pytest.mark.parametrize(
    ("batching", "words"),
    [
        ("priority_levels: 2", "default_priority_level 0; it must be from 1 to 2"),
        ("priority_levels: 2 default_priority_level: 3", "must be from 1 to 2"),
        ("priority_levels: 100000 default_priority_level: 1", "at most 1000"),
        (f"{LEVELS} priority_queue_policy {{ key: 4 value {{ }} }}", "for level 4"),
    ],
)
def test_wrong_priorities_refuse_the_model_with_a_sentence(tmp_path, batching, words):
    write_model(
        tmp_path,
        "m",
        backend="simulated",
        inputs=[("X", "TYPE_FP32", [1])],
        outputs=[("Y", "TYPE_FP32", [1])],
        max_batch_size=4,
        extra=f"dynamic_batching {{ {batching} }}",
    )

    async def run() -> None:
        async with opened_store(tmp_path) as store:
            assert words in store.index()[0].reason

    asyncio.run(run())


@pytest.mark.parametrize("batching", ["", LEVELS, "max_queue_delay_microseconds: 1000"])
def test_cancelled_request_leaves_the_queue_at_once_and_is_never_executed(tmp_path, batching):
    async def scene(scene: Scene) -> None:
        first = scene.ask("first", -1)
        waiting = {name: scene.ask(name) for name in "abcd"}
        await asyncio.sleep(0)
        for name in "bd":
            scene.requests[name].cancel()
        for name in "bd":
            with pytest.raises(InferError) as caught:
                await waiting[name]
            assert caught.value.kind == ErrorKind.CANCELLED
        assert not first.done()
        scene.open()
        counts = [(await waiting[name]).outputs["OUTPUT0"].item() for name in "ac"]
        assert sorted(counts) == [2, 3]  # after the first, and none of the cancelled between them
        statistics = scene.store.statistics("gated")[0].inference_stats
        assert (statistics.success.count, statistics.fail.count) == (3, 2)

    play(tmp_path, batching, scene)


def test_cancelled_request_that_an_instance_has_in_its_inbox_is_not_executed(tmp_path):
    """Without batching, requests are handed to instances ahead of time."""

    async def scene(scene: Scene) -> None:
        scene.ask("first", -1)
        handed_over, last = scene.ask("handed over"), scene.ask("last")
        for _ in range(3):
            await asyncio.sleep(0)
        scene.requests["handed over"].cancel()
        scene.open()
        with pytest.raises(InferError, match="cancelled"):
            await handed_over
        assert (await last).outputs["OUTPUT0"].item() == 2

    folder = write_python(tmp_path, "gated", GATED, dims=(1,), max_batch_size=1)
    run_scene(tmp_path, folder, scene)


def test_request_that_is_being_executed_when_it_is_cancelled_is_answered_all_the_same(tmp_path):
    async def scene(scene: Scene) -> None:
        first = scene.ask("first", -1)
        while scene.store.pending()["gated", "1"]:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        scene.requests["first"].cancel()
        scene.open()
        assert (await asyncio.gather(first, return_exceptions=True))[0] is not None
        assert (await scene.ask("next")).outputs["OUTPUT0"].item() in (1, 2)

    play(tmp_path, "", scene)

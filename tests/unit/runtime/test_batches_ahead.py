"""Which batches a busy instance finds waiting when it is done: full ones only."""

import asyncio
from time import monotonic_ns

import numpy as np

from analyzer.runtime.batcher import BatchPolicy
from analyzer.runtime.request import InferRequest
from analyzer.runtime.scheduler import ScheduledModel
from analyzer.runtime.signature import InputSpec, OutputSpec, Signature
from analyzer.runtime.statistics import Statistics

DTYPE = np.dtype(np.float32)


class HeldCrew:
    """One instance that begins what it is given and ends it when told."""

    size = 1

    def __init__(self):
        self.given = []

    def start(self, execution, on_done):
        self.given.append((execution, on_done))
        self._begin()

    def end(self):
        execution, on_done = self.given.pop(0)
        execution.input_end_ns = execution.infer_end_ns = execution.end_ns = monotonic_ns()
        self._begin()
        on_done(execution, [{"B": request.inputs["A"]} for request in execution.requests])

    async def stop(self):
        pass

    def _begin(self):
        if self.given:
            self.given[0][0].start_ns = monotonic_ns()


def test_only_a_full_batch_waits_for_a_busy_instance():
    async def run():
        signature = Signature("m", 4, [InputSpec("A", "FP32", (-1, 1), DTYPE)], [OutputSpec("B", "FP32", (-1,), DTYPE)])
        crew, answers = HeldCrew(), []
        policy = BatchPolicy(max_batch_size=4, dynamic=True)
        model = ScheduledModel(signature, Statistics("m", "1"), policy, crew, asyncio.get_running_loop())

        async def submit(count):
            for _ in range(count):
                model.submit(InferRequest("m", {"A": np.zeros((1, 1), np.float32)}, monotonic_ns()), answers.append)
            await asyncio.sleep(0)

        def sizes():
            return [len(execution.requests) for execution, _ in crew.given]

        await submit(1)
        assert (sizes(), model.pending_count) == ([1], 0)
        await submit(3)
        assert (sizes(), model.pending_count) == ([1], 3)
        await submit(1)
        assert (sizes(), model.pending_count) == ([1, 4], 4)
        await submit(9)
        assert (sizes(), model.pending_count) == ([1, 4], 13)
        crew.end()
        assert (sizes(), model.pending_count, len(answers)) == ([4, 4], 9, 1)
        while crew.given:
            crew.end()
        assert (model.pending_count, len(answers)) == (0, 14)
        assert {size.batch_size: size.compute_infer.count for size in model.statistics.message().batch_stats} == {
            1: 2,
            4: 3,
        }
        await asyncio.wait_for(model.drain(), 5)

    asyncio.run(run())

"""The small parts of the runtime's core, each by itself."""

import asyncio
import random
import statistics
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.runtime.alarm import Alarm
from analyzer.runtime.backends.base import Execution, ModelError
from analyzer.runtime.backends.simulated import Service
from analyzer.runtime.backends.tensor_batch import gather, scatter
from analyzer.runtime.dtypes import NUMPY_DTYPES, config_type_of, datatype_of, datatype_of_numpy
from analyzer.runtime.durations import Durations
from analyzer.runtime.ensemble import Ensemble
from analyzer.runtime.ensemble_steps import Step, check_steps
from analyzer.runtime.instance import ThreadCrew
from analyzer.runtime.instance_groups import placements
from analyzer.runtime.loading import prepare
from analyzer.runtime.request import InferError, InferRequest
from analyzer.runtime.signature import InputSpec, OutputSpec, Signature
from analyzer.runtime.statistics import Statistics
from tests.fakes import repositories

FP32 = NUMPY_DTYPES["FP32"]


def request(**inputs: np.ndarray) -> InferRequest:
    return InferRequest("m", inputs, 0)


def signature(
    *inputs: tuple[str, tuple[int, ...]], outputs: tuple[str, ...] = ("OUT",), datatype: str = "FP32", batch: int = 8
) -> Signature:
    return Signature(
        "m",
        batch,
        [InputSpec(name, datatype, dims, NUMPY_DTYPES[datatype]) for name, dims in inputs],
        [OutputSpec(name, datatype, (-1, 4), NUMPY_DTYPES[datatype]) for name in outputs],
    )


def test_data_types_go_both_ways():
    for name, dtype in NUMPY_DTYPES.items():
        assert datatype_of(config_type_of(name)) == name
        assert datatype_of_numpy(dtype) == ("UINT16" if name == "BF16" else name)
    assert datatype_of_numpy(np.dtype("<U5")) == "BYTES"
    assert datatype_of_numpy(np.dtype(">f4")) == "FP32"
    assert datatype_of_numpy(np.dtype(np.complex64)) is None


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8))
def test_what_is_gathered_is_scattered_again(rows: list[int]):
    arrays = [np.full((count, 3), index, np.float32) for index, count in enumerate(rows)]
    batch = gather([request(x=array) for array in arrays])
    assert batch["x"].shape == (sum(rows), 3)
    for array, answer in zip(arrays, scatter({"y": batch["x"]}, rows)):
        assert not isinstance(answer, InferError)
        np.testing.assert_array_equal(answer["y"], array)


def test_a_single_request_is_not_copied():
    array = np.ones((2, 3), np.float32)
    batch = gather([request(x=array)])
    assert batch["x"] is array
    assert scatter(batch, [2]) == [{"x": array}]


@pytest.mark.parametrize("shape", [(), (2, 1), (4, 1)])
def test_an_output_without_the_rows_of_the_batch_is_an_error(shape: tuple[int, ...]):
    with pytest.raises(InferError, match="for a batch of 3 rows"):
        scatter({"y": np.zeros(shape)}, [1, 2])


def test_variable_dims_take_any_size_and_keep_shapes_apart():
    variable = signature(("A", (-1, -1, 2)))
    first = variable.check(request(A=np.zeros((3, 7, 2), np.float32)))
    second = variable.check(request(A=np.zeros((1, 7, 2), np.float32)))
    other = variable.check(request(A=np.zeros((1, 8, 2), np.float32)))
    assert (first[0], second[0]) == (3, 1)
    assert first[1] == second[1] != other[1]
    with pytest.raises(InferError, match=r"Expected \[-1,-1,2\], got \[1,7\]"):
        variable.check(request(A=np.zeros((1, 7), np.float32)))


def test_a_scalar_for_a_batching_model_is_a_wrong_shape():
    with pytest.raises(InferError, match=r"Expected \[-1\], got \[\]"):
        signature(("A", (-1,))).check(request(A=np.zeros((), np.float32)))


def test_a_model_without_batching_takes_the_first_dimension_as_its_own():
    assert signature(("A", (100, 2)), batch=0).check(request(A=np.zeros((100, 2), np.float32))) == (1, None)


def test_optional_inputs_may_be_left_out_but_are_not_mixed():
    specs = [InputSpec("A", "FP32", (-1, 1), FP32), InputSpec("B", "FP32", (-1, 1), FP32, optional=True)]
    optional = Signature("m", 8, specs, [])
    one = np.zeros((1, 1), np.float32)
    assert optional.check(request(A=one))[1] != optional.check(request(A=one, B=one))[1]
    with pytest.raises(InferError, match="unexpected inference input 'C'"):
        optional.check(request(A=one, C=one))
    with pytest.raises(InferError, match="expected 1 inputs but got 1 inputs"):
        optional.check(request(B=one))


def test_statistics_weigh_an_execution_by_its_requests():
    counters = Statistics("m", "1")
    counters.record_requests(count=3, rows=5, total_ns=900, queue_ns=60)
    counters.record_execution(count=3, rows=5, spent=Durations(input_ns=1, infer_ns=10, output_ns=2), now_ns=1)
    counters.record_requests(count=1, rows=1, total_ns=100, queue_ns=40)
    counters.record_execution(count=1, rows=1, spent=Durations(input_ns=3, infer_ns=20, output_ns=4), now_ns=2)
    counters.record_failure(7)
    message = counters.message()
    stats = message.inference_stats
    assert (message.inference_count, message.execution_count) == (6, 2)
    assert (stats.success.count, stats.success.ns, stats.fail.count, stats.fail.ns) == (4, 1000, 1, 7)
    assert (stats.queue.ns, stats.compute_input.ns, stats.compute_infer.ns, stats.compute_output.ns) == (100, 6, 50, 10)
    assert [(size.batch_size, size.compute_infer.ns) for size in message.batch_stats] == [(1, 20), (5, 10)]


@pytest.mark.parametrize("distribution", ["fixed", "exponential", "lognormal"])
def test_every_distribution_has_the_declared_mean(distribution):
    service = Service(service_us=100, service_per_item_us=50, distribution=distribution)
    rng = random.Random(1)
    draws = [service.draw_ns(2, rng) for _ in range(20_000)]
    assert statistics.fmean(draws) == pytest.approx(200_000, rel=0.03)
    assert (len(set(draws)) == 1) == (distribution == "fixed")


def test_simulated_outputs_without_a_like_input_are_zeros(tmp_path: Path):
    folder = repositories.write_model(
        tmp_path,
        "m",
        backend="simulated",
        inputs=[("A", "TYPE_FP32", (2,)), ("B", "TYPE_FP32", (2,))],
        outputs=[
            ("SECOND", "TYPE_FP32", (2,)),
            ("OTHER", "TYPE_FP32", (2,)),
            ("THIRD", "TYPE_FP32", (2,)),
            ("LABELS", "TYPE_STRING", (-1,)),
        ],
        max_batch_size=4,
    )
    prepared = prepare(folder)
    assert prepared.backend is not None
    instance = prepared.backend.load(prepared.versions[0], next(iter(placements(prepared.versions[0]))))
    first, second = np.ones((3, 2), np.float32), np.full((3, 2), 2, np.float32)
    (answer,) = instance.execute(Execution([request(A=first, B=second)], [3]))
    assert answer["SECOND"] is first
    assert answer["OTHER"] is second
    assert answer["THIRD"].tolist() == [[0, 0]] * 3
    assert answer["LABELS"].tolist() == [[b""]] * 3


def test_busy_service_takes_at_least_its_time(tmp_path: Path):
    prepared = prepare(repositories.write_simulated(tmp_path, parameters={"service_us": 300, "is_busy": "true"}))
    assert prepared.backend is not None
    instance = prepared.backend.load(prepared.versions[0], next(iter(placements(prepared.versions[0]))))
    execution = Execution([request(INPUT0=np.ones((1, 4), np.float32))], [1])
    instance.execute(execution)
    assert execution.infer_end_ns - execution.input_end_ns >= 300_000


def test_an_alarm_rings_at_its_time_and_not_before():
    async def run() -> list[int]:
        rung_ns: list[int] = []
        done = asyncio.Event()

        def ring() -> None:
            rung_ns.append(time.monotonic_ns() - set_ns)
            if len(rung_ns) == 1:
                alarm.set(set_ns)  # past: rings at once
            else:
                done.set()

        alarm = Alarm(asyncio.get_running_loop(), ring)
        set_ns = time.monotonic_ns()
        alarm.set(set_ns + 10_000_000_000)
        alarm.set(set_ns + 200_000)
        alarm.set(set_ns + 200_000)
        await done.wait()
        alarm.close()
        alarm.close()
        return rung_ns

    first, second = asyncio.run(run())
    assert 200_000 <= first <= second


class Gate:
    """An instance that waits to be let through, and counts who is inside."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.leave = threading.Event()

    def execute(self, execution: Execution) -> list:
        self.entered.release()
        self.leave.wait(timeout=30)
        return [{} for _ in execution.requests]

    def close(self) -> None:
        pass


def test_stopping_a_crew_fails_what_nobody_has_begun():
    async def run() -> None:
        gate = Gate()
        answers: list = []
        crew = ThreadCrew({"m_0_0": lambda: gate}, asyncio.get_running_loop())
        await crew.load()
        for name in "ab":
            crew.start(Execution([request()], [1]), lambda _, given, name=name: answers.append((name, given)))
        await asyncio.to_thread(gate.entered.acquire)
        stopping = asyncio.ensure_future(crew.stop())
        await asyncio.sleep(0)
        ((name, (error,)),) = answers
        assert name == "b"
        assert isinstance(error, InferError)
        gate.leave.set()
        await stopping
        await asyncio.sleep(0)
        assert answers[1] == ("a", [{}])

    asyncio.run(run())


def test_a_crew_whose_second_instance_fails_to_load_is_stopped():
    def fail() -> Gate:
        raise MemoryError("no room")

    async def run() -> None:
        crew = ThreadCrew({"m_0_0": Gate, "m_0_1": fail}, asyncio.get_running_loop())
        with pytest.raises(MemoryError, match="no room"):
            await crew.load()

    asyncio.run(run())


def test_giving_up_a_load_leaves_no_thread_behind():
    may_load = threading.Event()

    def load() -> Gate:
        may_load.wait(timeout=30)
        return Gate()

    async def run() -> None:
        loading = asyncio.ensure_future(ThreadCrew({"given_up": load}, asyncio.get_running_loop()).load())
        await asyncio.sleep(0)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading

    asyncio.run(run())
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "given_up"]
    may_load.set()
    thread.join(timeout=30)
    assert not thread.is_alive()


STEPS = (
    Step("first", "", inputs=(("A", "X"),), outputs=(("mid", "OUT"),)),
    Step("second", "", inputs=(("A", "mid"),), outputs=(("Y", "OUT"),)),
)


def lookup_of(**models: Signature):
    return lambda model, version: Ensemble(models[model], Statistics(model, "1"), (), None, None)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"first": signature(("A", (-1, 4)), outputs=("OTHER",))},
            "maps the output 'OUT', which model 'first' has not",
        ),
        ({"second": signature(("B", (-1, 4)))}, "maps the input 'A', which model 'second' has not"),
        ({"second": signature(("A", (-1, 4)), ("B", (-1, 4)))}, "gives no tensor to input 'B' of model 'second'"),
        (
            {"first": signature(("A", (-1, 4)), datatype="INT8")},
            "tensor 'X' is FP32, but input 'A' of model 'first' is",
        ),
        ({"first": signature(("A", (-1, 4)), batch=4)}, "allows batches of 8, but its step 'first' only of 4"),
    ],
)
def test_steps_that_do_not_fit_their_models_are_refused(changed: dict[str, Signature], reason: str):
    own = signature(("X", (-1, 4)), outputs=("Y",))
    fitting = {"first": signature(("A", (-1, 4))), "second": signature(("A", (-1, 4)))}
    check_steps("e", own, STEPS, lookup_of(**fitting))
    with pytest.raises(ModelError) as caught:
        check_steps("e", own, STEPS, lookup_of(**{**fitting, **changed}))
    assert reason in str(caught.value)


def test_an_ensemble_output_must_have_the_type_of_what_makes_it():
    own = signature(("X", (-1, 4)), outputs=("Y",))
    models = lookup_of(
        first=signature(("A", (-1, 4))),
        second=Signature(
            "second", 8, [InputSpec("A", "FP32", (-1, 4), FP32)], [OutputSpec("OUT", "INT8", (-1,), np.dtype("int8"))]
        ),
    )
    with pytest.raises(ModelError, match="output 'Y' is INT8, not FP32"):
        check_steps("e", own, STEPS, models)

"""IO binding and padded batches, on the CPU: its memory has addresses as a device's has."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.runtime.backends.base import Execution, OutputCheck
from analyzer.runtime.backends.fixed_batches import cut, pad, size_for
from analyzer.runtime.backends.onnxruntime import fixed_shapes
from analyzer.runtime.backends.onnxruntime_binding import BoundDevice, BoundInstance
from analyzer.runtime.backends.onnxruntime_options import CPU, SessionPlan
from analyzer.runtime.backends.onnxruntime_session import OpenSession, RunInstance, open_session
from analyzer.runtime.device_tensor import DeviceTensor, as_array, on_host
from analyzer.runtime.request import InferError, InferRequest
from tests.fakes.device_memory import HostCopies, device_tensor
from tests.fakes.repositories import affine_onnx

SIZES = (1, 4, 8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "model.onnx"
    file.write_bytes(affine_onnx())
    return file


class Recorded:
    """A session that tells the shapes it is run with."""

    def __init__(self, session) -> None:
        self.session = session
        self.rows = []
        self.seen = {}

    @property
    def current(self):
        return self

    def close(self):
        pass

    def io_binding(self):
        return self.session.io_binding()

    def run_with_iobinding(self, binding, options):
        self.session.run_with_iobinding(binding, options)
        self.rows += [value.shape()[0] for value in binding.get_outputs()]

    def run(self, outputs, inputs, options):
        self.rows.append(inputs["x"].shape[0])
        return self.session.run(outputs, inputs, options)


def bound(path: Path, sizes: tuple[int, ...] = ()) -> tuple[BoundInstance, dict[int, Recorded], HostCopies]:
    plan = SessionPlan((CPU,), intra_op_threads=1, batch_sizes=sizes)
    sessions = {size: Recorded(open_session("affine", path, plan)) for size in sizes or (0,)}
    copies = HostCopies()
    check = OutputCheck("affine", {"y": np.dtype(np.float32)})
    device = BoundDevice("cpu", 0, copies, {"y": "FP32"})
    return BoundInstance("affine", sessions, plan, check=check, device=device), sessions, copies


def rows_of(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 4), np.float32)


def aligned(array: np.ndarray) -> np.ndarray:
    """The same values at an address as CUDA would give it."""
    buffer = np.empty(array.nbytes + 256, np.uint8)
    start = -buffer.ctypes.data % 256
    place = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    place[...] = array
    return place


def execute(instance: BoundInstance, requests: list[InferRequest]):
    return instance.execute(Execution(requests, [request.inputs["x"].shape[0] for request in requests]))


@pytest.mark.parametrize("sizes", [(), SIZES])
@pytest.mark.parametrize("places", ["hh", "dd", "hd", "d", "h", "ddd"])
def test_answers_are_the_same_wherever_inputs_and_outputs_lie(path: Path, sizes: tuple[int, ...], places: str):
    instance, _, _ = bound(path, sizes)
    arrays = [aligned(rows_of(number + 1, number)) for number in range(len(places))]
    tensors = [
        as_array(device_tensor(array)) if place == "d" else array for place, array in zip(places, arrays, strict=True)
    ]
    for keep in (frozenset(), frozenset({"y"})):
        answers = execute(instance, [InferRequest("affine", {"x": x}, 0, keep_on_device=keep) for x in tensors])
        for array, answer in zip(arrays, answers, strict=True):
            assert isinstance(answer["y"], DeviceTensor) is bool(keep)
            np.testing.assert_array_equal(on_host(answer)["y"], 2 * array + 1)
    instance.close()


def test_a_lone_tensor_on_the_device_is_read_where_it_lies(path: Path):
    instance, _, copies = bound(path)
    tensor = device_tensor(aligned(rows_of(3)))
    keep = frozenset({"y"})
    (answer,) = execute(instance, [InferRequest("affine", {"x": as_array(tensor)}, 0, keep_on_device=keep)])
    (last,) = execute(instance, [InferRequest("affine", {"x": answer["y"]}, 0)])
    np.testing.assert_array_equal(last["y"], 4 * tensor.memory.array + 3)
    assert (copies.to_device_count, copies.within_count, tensor.memory.reads) == (0, 0, 0)


def test_a_tensor_of_another_device_comes_by_way_of_the_host(path: Path):
    instance, _, copies = bound(path)
    tensor = device_tensor(aligned(rows_of(2)), device=1)
    (answer,) = execute(instance, [InferRequest("affine", {"x": as_array(tensor)}, 0)])
    np.testing.assert_array_equal(answer["y"], 2 * tensor.memory.array + 1)
    assert (tensor.memory.reads, copies.to_device_count) == (1, 1)


def test_outputs_stay_on_the_device_only_where_all_of_the_batch_can_use_them(path: Path):
    instance, _, _ = bound(path)
    keeps = [frozenset({"y"}), frozenset()]
    answers = execute(instance, [InferRequest("affine", {"x": rows_of(1)}, 0, keep_on_device=keep) for keep in keeps])
    assert [type(answer["y"]) for answer in answers] == [np.ndarray, np.ndarray]


def test_each_fixed_size_has_its_own_session_and_sees_no_other_size(path: Path):
    instance, sessions, _ = bound(path, SIZES)
    for count in (1, 2, 3, 5, 8, 4, 1):
        (answer,) = execute(instance, [InferRequest("affine", {"x": rows_of(count)}, 0)])
        np.testing.assert_array_equal(answer["y"], 2 * rows_of(count) + 1)
    assert {size: session.rows for size, session in sessions.items()} == {1: [1, 1], 4: [4, 4, 4], 8: [8, 8]}


def test_on_arrays_of_the_host_batches_are_padded_for_one_session(path: Path):
    plan = SessionPlan((CPU,), intra_op_threads=1, batch_sizes=SIZES)
    session = Recorded(open_session("affine", path, plan))
    instance = RunInstance("affine", session, plan, outputs=["y"], texts=[])
    for count in (1, 3, 6):
        np.testing.assert_array_equal(instance.execute({"x": rows_of(count)})["y"], 2 * rows_of(count) + 1)
    assert session.rows == [1, 4, 8]


@given(st.integers(1, 40), st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_padding_adds_copies_of_row_0_and_cutting_takes_them_off(rows: int, sizes: list[int]):
    sizes = sorted({*sizes, 40})
    size = size_for(rows, sizes)
    assert size in sizes
    assert size >= rows
    assert not any(rows <= other < size for other in sizes)
    given_rows = {"x": np.arange(rows * 2).reshape(rows, 2)}
    padded = pad(given_rows, rows, size)
    assert padded["x"].shape == (size, 2)
    assert (padded["x"][rows:] == given_rows["x"][0]).all()
    np.testing.assert_array_equal(cut("m", padded, rows, size)["x"], given_rows["x"])


def test_a_full_batch_is_not_copied():
    inputs = {"x": np.zeros((4, 2))}
    assert pad(inputs, 4, 4) is inputs
    assert cut("m", inputs, 4, 4) is inputs


def test_an_output_that_does_not_follow_the_batch_is_refused_where_rows_were_added():
    with pytest.raises(InferError, match=r"output 'y' of model 'm' has shape \(1,\) for a padded batch of 4 rows"):
        cut("m", {"y": np.zeros(1)}, 3, 4)


@pytest.mark.parametrize("rows", [1, 3])
def test_while_a_session_is_profiled_another_answers_that_has_run_before(path: Path, tmp_path: Path, rows: int):
    plan = SessionPlan((CPU,), intra_op_threads=1)
    on_arrays, on_device = OpenSession("affine", path, plan), OpenSession("affine", path, plan)
    check, device = (
        OutputCheck("affine", {"y": np.dtype(np.float32)}),
        BoundDevice("cpu", 0, HostCopies(), {"y": "FP32"}),
    )
    alone = RunInstance("affine", on_arrays, plan, outputs=["y"], texts=[])
    both = BoundInstance("affine", {0: on_device}, plan, check=check, device=device)
    x = rows_of(rows)
    for profiled in (False, True, False):
        if profiled:
            for number, session in enumerate((on_arrays, on_device)):
                session.profile(tmp_path / str(number))
        np.testing.assert_array_equal(alone.execute({"x": x})["y"], 2 * x + 1)
        np.testing.assert_array_equal(execute(both, [InferRequest("affine", {"x": x}, 0)])[0]["y"], 2 * x + 1)
        files = [session.end_profile() for session in (on_arrays, on_device)]
        assert all((file is not None) is profiled for file in files)
        for file, _begin_utc_ns in filter(None, files):
            assert file.read_text().count('"model_run"') == 2
    assert {on_arrays, on_device} <= set(OpenSession.all())
    assert on_arrays.seen == {"x": ((rows, 4), np.float32)}


class Spied:
    def __init__(self, session) -> None:
        self.session, self.rows = session, []

    def run(self, outputs, inputs):
        self.rows.append(inputs["x"].shape[0])
        return self.session.run(outputs, inputs)


def test_a_session_is_run_once_with_its_size_before_requests_come(path: Path):
    opened = OpenSession("affine", path, SessionPlan((CPU,), intra_op_threads=1))
    shapes = fixed_shapes(opened.current.get_inputs(), 8)
    opened.current = spied = Spied(opened.current)
    opened.warm(shapes)
    opened.warm({"x": ((3, 99), np.float32)})  # what the model refuses is no failure of the load
    assert spied.rows == [8, 3]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (["batch", 4], ((8, 4), np.float32)),
        ([None, 3, 224], ((8, 3, 224), np.float32)),
        (["batch", "length"], None),
        (["batch", -1], None),
    ],
)
def test_shapes_are_known_where_only_the_first_dim_is_open(shape, expected):
    only = SimpleNamespace(name="x", shape=shape, type="tensor(float)")
    assert fixed_shapes([only], 8) == (expected and {"x": expected})

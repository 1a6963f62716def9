import asyncio

import numpy as np
import pytest

from analyzer.runtime.backends.base import Execution
from analyzer.runtime.device_tensor import DeviceTensor, as_array, on_host
from analyzer.runtime.instance import InlineCrew
from analyzer.runtime.request import InferRequest
from tests.fakes.device_memory import device_tensor

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_a_device_tensor_reads_like_an_array_without_a_copy():
    tensor = device_tensor(VALUES)
    assert (tensor.shape, tensor.ndim, tensor.dtype, tensor.nbytes) == ((3, 4), 2, np.float32, 48)
    interface = tensor.__cuda_array_interface__
    assert (interface["shape"], interface["typestr"], interface["data"]) == ((3, 4), "<f4", (VALUES.ctypes.data, False))
    assert tensor.memory.reads == 0


@pytest.mark.parametrize(("start", "end"), [(0, 3), (1, 2), (2, 3), (1, 1)])
def test_rows_are_the_same_memory_from_their_first_byte_on(start: int, end: int):
    np.testing.assert_array_equal(device_tensor(VALUES).rows(start, end).to_host(), VALUES[start:end])


@pytest.mark.parametrize("shape", [(12,), (2, 6), (-1, 2), (1, 3, 4, 1)])
def test_reshape_keeps_the_memory(shape: tuple[int, ...]):
    tensor = device_tensor(VALUES)
    np.testing.assert_array_equal(tensor.reshape(shape).to_host(), VALUES.reshape(shape))
    assert tensor.reshape(*shape).pointer == tensor.pointer


def test_reshape_to_another_number_of_elements_is_refused():
    with pytest.raises(ValueError, match="size 12"):
        device_tensor(VALUES).reshape(5)


def test_on_host_copies_only_what_lies_on_a_device():
    near = np.ones(2, np.float32)
    found = on_host({"near": near, "far": as_array(device_tensor(VALUES))})
    assert found["near"] is near
    np.testing.assert_array_equal(found["far"], VALUES)


class Recording:
    def __init__(self, takes: bool) -> None:
        self.takes_device_tensors = takes
        self.seen = []

    def execute(self, execution):
        self.seen += [request.inputs["x"] for request in execution.requests]
        return [{} for _ in execution.requests]

    def close(self):
        pass


@pytest.mark.parametrize("takes", [True, False])
def test_only_an_instance_that_says_so_gets_device_tensors(takes: bool):
    instance = Recording(takes)
    crew = InlineCrew("m_0", instance)
    request = InferRequest("m", {"x": as_array(device_tensor(VALUES))}, 0, on_device=True)
    crew.start(Execution([request], [3]), lambda execution, answers: None)
    asyncio.run(crew.stop())
    assert crew.takes_device_tensors is takes
    assert isinstance(instance.seen[0], DeviceTensor) is takes
    assert request.on_device is takes
    np.testing.assert_array_equal(on_host({"x": instance.seen[0]})["x"], VALUES)

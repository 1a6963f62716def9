import gc

import numpy as np
import pytest

from analyzer.runtime.cuda_memory import CudaError, LibCuda, open_region
from analyzer.runtime.delivery import delivering
from analyzer.runtime.device_tensor import DeviceTensor, as_array, on_device
from analyzer.runtime.dtypes import NUMPY_DTYPES
from analyzer.runtime.request import Delivery, ErrorKind, InferError, InferRequest, InferResponse
from analyzer.runtime.shared_memory import SharedMemory
from analyzer.runtime.signature import Signature
from tests.fakes.cuda_driver import FakeCuda, FakeLibCuda
from tests.fakes.shared_object import shared_object

FP32 = NUMPY_DTYPES["FP32"]
EIGHT = np.arange(8, dtype=np.float32)


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda(devices=2)


@pytest.fixture
def memory(cuda) -> SharedMemory:
    return SharedMemory(lambda: cuda)


def refused(call, *arguments: object) -> InferError:
    with pytest.raises(InferError) as caught:
        call(*arguments)
    return caught.value


def test_input_in_cuda_memory_is_described_not_copied(memory, cuda):
    memory.register_cuda("r", cuda.share(EIGHT), 0, 32)
    tensor = on_device(memory.read("X", FP32, (2, 2), Delivery(0, "r", 8, 16)))
    assert tensor is not None
    assert (tensor.datatype, tensor.shape, tensor.device, cuda.copies) == ("FP32", (2, 2), 0, [])
    assert tensor.to_host().tolist() == [[2, 3], [4, 5]]
    assert cuda.copies == ["to host"]


def test_texts_in_cuda_memory_come_to_the_host_at_once(memory, cuda):
    memory.register_cuda("r", cuda.share(b"\x02\0\0\0hi\x01\0\0\0!"), 1 - 1, 11)
    array = memory.read("X", NUMPY_DTYPES["BYTES"], (2,), Delivery(0, "r", 0, 11))
    assert array.tolist() == [b"hi", b"!"]


def test_region_stays_open_until_its_last_tensor_is_gone(memory, cuda):
    memory.register_cuda("r", cuda.share(EIGHT), 0, 32)
    tensor = memory.read("X", FP32, (8,), Delivery(0, "r", 0, 32))
    memory.unregister_cuda()
    gc.collect()
    assert (list(memory.cuda_status()), len(cuda.opened)) == ([], 1)
    del tensor
    gc.collect()
    assert cuda.opened == []


@pytest.mark.parametrize("source", ["host", "same device", "other device"])
def test_output_is_written_in_place_from_wherever_it_is(memory, cuda, source):
    target = cuda.share(bytes(32))
    memory.register_cuda("out", target, 0, 32)
    device = 1 if source == "other device" else 0
    memory.register_cuda("in", cuda.share(EIGHT, device), device, 32)
    array = EIGHT if source == "host" else memory.read("X", FP32, (8,), Delivery(0, "in", 0, 32))
    memory.write("Y", array, Delivery(0, "out", 0, 32))
    expected = {"host": ["to device"], "same device": ["within"], "other device": ["to host", "to device"]}
    assert cuda.copies == expected[source]
    (region,) = memory.cuda_status("out")
    assert np.frombuffer(region.read(region.pointer, 32), np.float32).tolist() == EIGHT.tolist()


def test_output_from_a_device_lands_in_system_memory(memory, cuda):
    memory.register_cuda("in", cuda.share(EIGHT), 0, 32)
    with shared_object(bytes(32)) as key:
        memory.register("out", key, 0, 32)
        memory.write("Y", memory.read("X", FP32, (8,), Delivery(0, "in", 0, 32)), Delivery(0, "out", 0, 32))
        assert np.frombuffer(memory.view("out", 0, 32), np.float32).tolist() == EIGHT.tolist()
        memory.unregister()


def test_outputs_for_cuda_memory_may_stay_on_the_device(memory, cuda):
    memory.register_cuda("r", cuda.share(bytes(32)), 0, 32)
    request = InferRequest("m", {}, 0, deliveries={"Y": Delivery(0, "r", 0, 32), "Z": Delivery(3)})
    answers: list[InferResponse | InferError] = []
    reply = delivering(request, answers.append, memory, lambda model, version: Signature("m", 0, [], []))
    assert request.keep_on_device == {"Y"}
    tensor = DeviceTensor(1024, 32, 0, "FP32", (8,), next(memory.cuda_status()))
    reply(InferResponse("m", "1", "", {"Y": as_array(tensor)}))
    (answer,) = answers
    assert isinstance(answer, InferResponse)
    assert (answer.placed, cuda.copies) == ({"Y"}, ["within"])


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        (("r", b"\1" * 64, 0, 32), ErrorKind.ALREADY_EXISTS, "already in manager"),
        (("", b"\1" * 64, 0, 32), ErrorKind.INVALID_ARGUMENT, "needs a name"),
        (("x", b"\1" * 64, 0, 0), ErrorKind.INVALID_ARGUMENT, "byte_size above 0"),
        (("x", b"\1" * 63, 0, 32), ErrorKind.INTERNAL, "its raw_handle has 63 bytes"),
        (("x", b"\1" * 64, 0, 32), ErrorKind.INTERNAL, "invalid resource handle; use system shared memory"),
        (("x", b"\1" * 64, 7, 32), ErrorKind.INTERNAL, "no CUDA device 7; it has 2"),
        (("x", "HANDLE", 0, 33), ErrorKind.INTERNAL, "its memory has 32 bytes, not 33"),
    ],
)
def test_region_that_can_not_be_registered_is_refused_with_a_sentence(memory, cuda, arguments, kind, sentence):
    handle = cuda.share(EIGHT)
    memory.register_cuda("r", handle, 0, 32)
    error = refused(memory.register_cuda, *[handle if item == "HANDLE" else item for item in arguments])
    assert (error.kind, sentence in error.message) == (kind, True)
    assert len(cuda.opened) == 1


def test_places_outside_of_a_region_are_refused(memory, cuda):
    memory.register_cuda("r", cuda.share(EIGHT), 0, 32)
    assert "offset + byte size" in refused(memory.read, "X", FP32, (8,), Delivery(0, "r", 4, 32)).message
    assert "Expected 16, got 8" in refused(memory.read, "X", FP32, (4,), Delivery(0, "r", 0, 8)).message
    assert "offset + byte size" in refused(memory.check, Delivery(0, "r", 32, 1)).message
    assert "at least 32 bytes" in refused(memory.write, "Y", EIGHT, Delivery(0, "r", 0, 31)).message
    assert refused(memory.cuda_status, "x").kind is ErrorKind.NOT_FOUND


def test_machine_without_a_driver_says_so_and_names_the_way_out():
    def load(name):
        raise OSError(f"{name}: cannot open shared object file")

    error = refused(SharedMemory(lambda: LibCuda(load)).register_cuda, "r", bytes(64), 0, 8)
    assert error.kind is ErrorKind.INVALID_ARGUMENT
    assert error.message.endswith("this machine has no CUDA device; use system shared memory")


def test_the_driver_is_called_in_the_context_of_the_device_and_waits_for_its_copies():
    library = FakeLibCuda(devices=2)
    driver = LibCuda(lambda name: library)
    region = open_region(driver, "r", b"good".ljust(64), 1, 48)
    assert bytes(region.read(region.pointer + 4, 4)) == bytes([20, 21, 22, 23])
    driver.to_device(region.pointer, 1, np.full(3, 9, np.uint8))
    driver.within(region.pointer + 8, 1, region.pointer, 2)
    assert list(library.allocation)[16:28] == [9, 9, 9, 19, 20, 21, 22, 23, 9, 9, 26, 27]
    assert library.calls == [("enter", 2), *[("enter", 2), ("synchronize", 2)] * 3]
    pointer = region.pointer
    del region
    assert library.calls[-1] == ("close", pointer)


def test_the_driver_words_its_refusals():
    driver = LibCuda(lambda name: FakeLibCuda())
    with pytest.raises(CudaError, match="cuIpcOpenMemHandle_v2: invalid resource handle"):
        driver.open(bytes(64), 0)
    with pytest.raises(CudaError, match="no CUDA device 1; it has 1"):
        driver.open(bytes(64), 1)

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analyzer.runtime.delivery import classify, delivering, read_delivery
from analyzer.runtime.request import Delivery, ErrorKind, InferError, InferRequest, InferResponse
from analyzer.runtime.shared_memory import SharedMemory
from analyzer.runtime.signature import Signature

FP32 = np.dtype(np.float32)


@pytest.fixture
def key() -> Iterator[str]:
    """A shared memory object of 128 bytes: 0, 1, 2 and so on as FP32."""
    name = f"test_{uuid.uuid4().hex}"
    path = Path("/dev/shm") / name
    path.write_bytes(np.arange(32, dtype=FP32).tobytes())
    yield f"/{name}"
    path.unlink()


def refused(call, *arguments: object) -> InferError:
    with pytest.raises(InferError) as caught:
        call(*arguments)
    return caught.value


def test_view_of_a_region_with_an_offset_shows_and_changes_the_object(key):
    memory = SharedMemory()
    memory.register("r", key, 64, 64)
    view = memory.view("r", 4, 8)
    assert np.frombuffer(view, FP32).tolist() == [17.0, 18.0]
    view[:4] = np.float32(5).tobytes()
    assert np.fromfile(Path("/dev/shm") / key[1:], FP32)[17] == 5


def test_input_in_shared_memory_is_a_view_that_the_model_can_not_write(key):
    memory = SharedMemory()
    memory.register("r", key, 0, 128)
    array = memory.read("X", FP32, (2, 2), Delivery(0, "r", 16, 16))
    assert array.tolist() == [[4, 5], [6, 7]]
    assert not array.flags.writeable
    assert not array.flags.owndata


def test_tensor_outlives_the_region_it_lies_in(key):
    memory = SharedMemory()
    memory.register("r", key, 0, 128)
    array = memory.read("X", FP32, (2,), Delivery(0, "r", 0, 8))
    memory.unregister()
    assert list(memory.status()) == []
    assert array.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("r", "KEY", 0, 128), "already in manager"),
        (("", "KEY", 0, 128), "needs a name"),
        (("x", "KEY", 0, 0), "byte_size above 0"),
        (("x", "KEY", 64, 65), "Invalid shared memory region"),
        (("x", "/no_such_object_here", 0, 8), "Unable to open"),
        (("x", "../etc/passwd", 0, 8), "Unable to open"),
        (("x", "/a/b", 0, 8), "Unable to open"),
        (("x", "..", 0, 8), "Unable to open"),
        (("x", "a\0b", 0, 8), "Unable to open"),
        (("x", "y" * 300, 0, 8), "Unable to open"),
        (("x", "", 0, 8), "Unable to open"),
        (("x", "KEY", 0, 2**62), "Invalid shared memory region"),
    ],
)
def test_region_that_can_not_be_registered_is_refused_with_a_sentence(key, arguments, sentence):
    memory = SharedMemory()
    memory.register("r", key, 0, 128)
    error = refused(memory.register, *[key if item == "KEY" else item for item in arguments])
    assert sentence in error.message


def test_link_to_a_file_elsewhere_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(8))
    link = Path("/dev/shm") / f"test_{uuid.uuid4().hex}"
    link.symlink_to(tmp_path / "secret")
    try:
        assert "Unable to open" in refused(SharedMemory().register, "x", link.name, 0, 8).message
    finally:
        link.unlink()


@given(st.integers(-10, 200), st.integers(-10, 200))
def test_view_never_leaves_its_region(offset, size):
    memory = SharedMemory()
    name = f"test_{uuid.uuid4().hex}"
    path = Path("/dev/shm") / name
    path.write_bytes(bytes(128))
    try:
        memory.register("r", name, 16, 100)
        if offset < 0 or size < 0 or offset + size > 100:
            assert refused(memory.view, "r", offset, size).kind is ErrorKind.INVALID_ARGUMENT
        else:
            assert len(memory.view("r", offset, size)) == size
    finally:
        path.unlink()


def test_unknown_regions_are_not_found_and_forgetting_them_is_no_error():
    memory = SharedMemory()
    assert refused(memory.view, "r", 0, 1).kind is ErrorKind.NOT_FOUND
    assert refused(memory.status, "r").kind is ErrorKind.NOT_FOUND
    memory.unregister("r")


def test_object_made_smaller_after_its_registration_is_refused_at_its_next_use(key):
    memory = SharedMemory()
    memory.register("r", key, 64, 64)
    os.truncate(Path("/dev/shm") / key[1:], 96)
    assert "was made smaller" in refused(memory.view, "r", 0, 8).message
    assert "was made smaller" in refused(memory.read, "X", FP32, (2,), Delivery(0, "r", 0, 8)).message
    assert "was made smaller" in refused(memory.write, "Y", np.zeros(2, FP32), Delivery(0, "r", 0, 8)).message
    os.truncate(Path("/dev/shm") / key[1:], 128)
    assert len(memory.view("r", 0, 8)) == 8


def test_unregistering_closes_what_registering_opened(key):
    def opened() -> int:
        names = (str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())
        return sum(name == f"/dev/shm{key}" for name in names)

    memory = SharedMemory()
    for name in ("a", "b", "c"):
        memory.register(name, key, 0, 128)
    assert opened() >= 3
    memory.unregister("b")
    memory.unregister()
    assert opened() == 0


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, None),
        ({"binary_data": True}, None),
        ({"classification": 0}, None),
        ({"classification": 3}, Delivery(3)),
        ({"shared_memory_region": "r", "shared_memory_byte_size": 8}, Delivery(0, "r", 0, 8)),
        (
            {"shared_memory_region": "r", "shared_memory_byte_size": 8, "shared_memory_offset": 4},
            Delivery(0, "r", 4, 8),
        ),
    ],
)
def test_tensor_parameters_say_how_an_output_is_delivered(parameters, expected):
    assert read_delivery("X", parameters) == expected


@pytest.mark.parametrize(
    "parameters",
    [
        {"shared_memory_region": 1, "shared_memory_byte_size": 8},
        {"shared_memory_region": "r", "shared_memory_byte_size": "8"},
        {"shared_memory_region": "r", "shared_memory_byte_size": 8, "shared_memory_offset": -1},
        {"shared_memory_region": "r", "shared_memory_byte_size": 8, "classification": 1},
        {"classification": True},
        {"classification": -1},
    ],
)
def test_wrong_tensor_parameters_are_refused(parameters):
    assert refused(read_delivery, "X", parameters).kind is ErrorKind.INVALID_ARGUMENT


def test_classes_of_each_row_come_best_first_with_their_labels():
    array = np.array([[0.1, 0.7, 0.2], [3, 1, 2]], np.float32)
    got = classify("Y", array, 2, ("cat", "dog"), batched=True)
    assert got.tolist() == [[b"0.700000:1:dog", b"0.200000:2"], [b"3.000000:0:cat", b"2.000000:2"]]
    assert classify("Y", np.array([4, 9, 9]), 5, (), batched=False).tolist() == [b"9:1", b"9:2", b"4:0"]


@given(hnp.arrays(np.int32, st.tuples(st.integers(1, 3), st.integers(1, 6))), st.integers(1, 8))
def test_classes_are_the_highest_values(array, classes):
    for row, texts in zip(array, classify("Y", array, classes, (), batched=True), strict=True):
        pairs = [tuple(map(int, text.split(b":"))) for text in texts]
        assert (
            pairs == sorted(((int(value), at) for at, value in enumerate(row)), key=lambda p: (-p[0], p[1]))[:classes]
        )


def test_text_has_no_classes():
    assert "holds no numbers" in refused(lambda: classify("Y", np.array([b"a"], object), 1, (), batched=False)).message


def deliver(memory: SharedMemory, array: np.ndarray, delivery: Delivery) -> InferResponse | InferError:
    got: list[InferResponse | InferError] = []
    request = InferRequest("m", {}, 0, deliveries={"Y": delivery})
    reply = delivering(request, got.append, memory, lambda model, version: Signature("m", 0, [], []))
    reply(InferResponse("m", "1", "", {"Y": array}))
    return got[0]


@pytest.mark.parametrize(
    "array", [np.arange(4, dtype=FP32)[::2], np.array([7, 8], FP32), np.ones((2, 2), FP32).T, np.array([b"ab"], object)]
)
def test_output_is_written_to_its_place(key, array):
    memory = SharedMemory()
    memory.register("r", key, 0, 128)
    answer = deliver(memory, array, Delivery(0, "r", 3, 125))
    raw = b"\2\0\0\0ab" if array.dtype.hasobject else array.tobytes()
    assert bytes(memory.view("r", 3, len(raw))) == raw
    assert answer.placed == {"Y"}


def test_output_larger_than_its_place_is_an_error_and_writes_nothing(key):
    memory = SharedMemory()
    memory.register("r", key, 0, 128)
    answer = deliver(memory, np.full(4, 9, FP32), Delivery(0, "r", 0, 12))
    assert "should be at least 16 bytes" in answer.message
    assert np.frombuffer(memory.view("r", 0, 16), FP32).tolist() == [0, 1, 2, 3]


def test_place_that_does_not_exist_is_refused_before_anything_is_computed():
    request = InferRequest("m", {}, 0, deliveries={"Y": Delivery(0, "nowhere", 0, 4)})
    error = refused(delivering, request, print, SharedMemory(), lambda model, version: Signature("m", 0, [], []))
    assert error.kind is ErrorKind.NOT_FOUND

"""Shared memory of python models: places, arrays in it, and the deadlock rule of models that call models."""

import gc
import os
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.runtime import dtypes
from analyzer.runtime.backends.python_arena import Arena, Places, Window, make_memory
from analyzer.runtime.backends.python_calls import would_hang
from analyzer.runtime.backends.python_frames import INLINE_BYTES, FrameReader, encode, pack, unpack
from analyzer.runtime.backends.python_lives import Lives


@given(st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), max_size=60))
def test_places_never_overlap_and_are_used_again(steps: list[tuple[int, bool]]):
    places, taken = Places(), {}
    peak = 0
    for size, gives_back in steps:
        if gives_back and taken:
            offset = next(iter(taken))
            del taken[offset]
            places.give_back(offset)
            continue
        offset = places.take(size)
        assert offset % 4096 == 0
        assert all(offset + size <= other or other + length <= offset for other, length in taken.items())
        taken[offset] = size
        peak = max(peak, places.end)
    assert places.taken_count == len(taken)
    for offset, size in list(taken.items()):
        places.give_back(offset)
        assert places.take(size) == offset
    assert places.end == peak


def test_a_place_that_is_not_taken_cannot_be_given_back():
    places = Places()
    offset = places.take(10)
    places.give_back(offset)
    with pytest.raises(KeyError):
        places.give_back(offset)


@pytest.fixture
def memory():
    fd = make_memory("test")
    yield fd
    os.close(fd)


def test_an_array_stays_until_the_last_view_of_it_is_gone(memory: int):
    arena, window = Arena(memory), Window(memory)
    array = unpack(pack("x", np.arange(100_000, dtype=np.float32), arena), window)
    view = array[5:].reshape(1, -1)
    del array
    gc.collect()
    assert window.unread() == []
    assert view[0, 0] == 5
    del view
    (offset,) = window.unread()
    arena.give_back([offset])
    assert arena.put(np.zeros(100_000, np.float32)) == offset


def test_arrays_read_before_the_memory_grew_keep_their_values(memory: int):
    arena, window = Arena(memory), Window(memory)
    arrays = [unpack(pack("x", np.full(200_000, value, np.int64), arena), window) for value in range(8)]
    assert [set(array.tolist()) for array in arrays] == [{value} for value in range(8)]


def test_nobody_can_shrink_the_memory(memory: int):
    Arena(memory).put(np.zeros(10))
    with pytest.raises(PermissionError):
        os.ftruncate(memory, 0)


@pytest.mark.parametrize("count", [0, 1, 3, INLINE_BYTES])
@pytest.mark.parametrize("datatype", list(dtypes.NUMPY_DTYPES))
def test_tensors_of_every_type_and_size_arrive_as_they_were(memory: int, datatype: str, count: int):
    arena, window = Arena(memory), Window(memory)
    dtype = dtypes.NUMPY_DTYPES[datatype]
    numbers = np.arange(count * 2).reshape(count, 2)
    array = numbers.astype(str).astype("S").astype(object) if dtype.hasobject else numbers.astype(dtype)
    for given_array in (array, array[:, ::-1], array.T):
        (frame,) = FrameReader().feed(encode((pack("x", given_array, arena),)))
        back = unpack(frame[0], window)
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, given_array)


@given(st.lists(st.tuples(st.integers(), st.text(), st.binary(max_size=300)), max_size=8), st.integers(1, 50))
def test_frames_arrive_whole_however_they_are_cut(frames: list[tuple[int, str, bytes]], size: int):
    data, reader, found = b"".join(encode(frame) for frame in frames), FrameReader(), []
    for at in range(0, len(data), size):
        found += reader.feed(data[at : at + size])
    assert found == frames


def test_type_numbers_are_those_of_the_model_configuration():
    from tritonclient.grpc import model_config_pb2

    for name, number in model_config_pb2.DataType.items():
        if number:
            datatype = name.removeprefix("TYPE_").replace("STRING", "BYTES")
            assert (dtypes.datatype_of(number), dtypes.config_type_of(datatype)) == (datatype, number)
    for wrong in (0, -1, 99):
        with pytest.raises(ValueError, match="data_type"):
            dtypes.datatype_of(wrong)


def test_a_process_that_keeps_ending_is_left_alone_longer_each_time():
    lives, second_ns = Lives(), 10**9
    delays = []
    for number in range(7):
        lives.begin(number * second_ns)
        delays.append(lives.end((number + 1) * second_ns))
        assert lives.quick_deaths == (number + 1 if number >= 4 else 0)
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (0.0, 30.0)
    lives.begin(0)
    assert (lives.end(11 * second_ns), lives.quick_deaths) == (0.0, 0)
    assert lives.end(11 * second_ns) > 0  # it could not be started


@dataclass
class Busy:
    model: str
    waits_for: list[str] = field(default_factory=list)
    is_executing: bool = True
    callers: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("members", "waiting", "target", "hangs"),
    [
        # (model, what it waits for, the new call included)
        ([("a", "a")], ("a",), "a", True),
        ([("a", "a"), ("a", "")], ("a",), "a", False),
        ([("a", "a"), ("a", "a")], ("a",), "a", True),
        ([("a", "b"), ("b", "")], ("a",), "b", False),
        ([("a", "b"), ("b", "a")], ("a", "b"), "a", True),
        ([("a", "b"), ("b", "a")], ("b",), "a", True),
        ([("a", "b"), ("b", "c"), ("c", "")], ("b",), "c", False),
        ([("a", "b"), ("b", "c"), ("c", "a")], ("c",), "a", True),
        ([("a", "b"), ("a", ""), ("b", "c"), ("c", "a")], ("c",), "a", False),
        ([("a", "onnx")], ("a",), "onnx", False),
        ([("a", "b"), ("a", "onnx"), ("b", "a")], ("a", "b"), "a", False),
    ],
)
def test_a_call_is_refused_exactly_where_it_would_never_end(members, waiting, target, hangs):
    callers: dict[str, list[Busy]] = {}
    for model, waits_for in members:
        callers.setdefault(model, []).append(Busy(model, [waits_for] if waits_for else []))
    assert would_hang(callers, waiting, target) is hangs

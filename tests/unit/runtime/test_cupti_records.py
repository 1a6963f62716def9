"""CUPTI's buffers: handed out within a bound, kept as they come back, and read as columns at the end."""

import importlib
from importlib.util import find_spec
from itertools import count
from time import monotonic_ns

import pytest

from analyzer.runtime.cupti_library import Buffers, Library, LibraryError, open_library
from analyzer.runtime.cupti_records import KINDS, LAYOUTS, ActivityKind, Wanted, decode
from analyzer.runtime.mapped_files import mapped
from tests.fakes.cupti import LENGTHS, LENGTHS_12_6, LENGTHS_13_3, FakeCupti, call, kernel, mark, memcpy, memset, sync

BUFFER = 1024
EVERY = Wanted(3, {}, 10**9)
ALL_KINDS = (*KINDS, ActivityKind.EXTERNAL_CORRELATION)


def written(records, lengths=LENGTHS, buffer_bytes=BUFFER, most_bytes=2**20, cut=0):
    fake = FakeCupti(monotonic_ns, lengths=lengths)
    fake.enabled = [*ALL_KINDS, 9, 17]
    buffers, library = Buffers(buffer_bytes, most_bytes), Library(fake.library)
    library.register(buffers)
    fake.write(*records)
    fake.library.cut(cut)
    library.flush()
    return buffers, library, fake


def read(records, wanted=EVERY, **more):
    buffers, library, _fake = written(records, **more)
    return decode(buffers.taken(), library.stride_bytes, wanted, lambda kind, number: f"{kind.name} {number}")


def kernels(amount):
    return [kernel(1000 + 10 * number, 1003 + 10 * number, number) for number in range(1, amount + 1)]


@pytest.mark.parametrize("lengths", [LENGTHS_12_6, LENGTHS, LENGTHS_13_3])
def test_every_kind_is_read_whatever_the_length_of_its_records_in_this_version(lengths):
    records = [
        mark(1, 5), call(10, 20, 1), kernel(11, 19, 1), memcpy(30, 40, 2), memset(50, 60, 3),
        memcpy(70, 80, 4, kind=22), sync(90, 95, 5), call(96, 97, 6, 307, kind=4), (9, {}), (17, {}), kernel(98, 99, 7),
    ]  # fmt: skip
    found = read(records, lengths=lengths)
    order = [10, 10, 1, 22, 2, 5, 4, 38]
    assert [int(KINDS[place]) for place in found.columns["kind"]] == order
    assert found.columns["correlation"].tolist() == [1, 7, 2, 4, 3, 1, 6, 5]
    assert found.columns["start_ns"].tolist() == [11, 98, 30, 70, 50, 10, 96, 90]
    assert found.columns["end_ns"].tolist() == [19, 99, 40, 80, 60, 20, 97, 95]
    assert found.columns["stream"].tolist() == [7, 7, 7, 7, 7, -1, -1, -1]
    assert found.marks.tolist() == [[1, 5]]
    assert (found.cut_count, found.untimed_count, found.excess_count) == (0, 0, 0)


def test_two_hundred_thousand_records_give_the_right_sums():
    amount = 50_000
    records = []
    for number in range(1, amount + 1):
        records += [
            mark(number, number // 10), call(number, number + 3, number), kernel(number, number + number % 7, number),
            memcpy(number, number + 2, number, size=number),
        ]  # fmt: skip
    found = read(records, buffer_bytes=2**20, most_bytes=2**26)
    of = {kind: found.columns["kind"] == KINDS.index(kind) for kind in KINDS}
    took = found.columns["end_ns"] - found.columns["start_ns"]
    assert len(found) == 3 * amount
    assert len(found.marks) == amount
    assert took[of[ActivityKind.CONCURRENT_KERNEL]].sum() == sum(number % 7 for number in range(1, amount + 1))
    assert took[of[ActivityKind.RUNTIME]].sum() == 3 * amount
    assert found.columns["bytes"][of[ActivityKind.MEMCPY]].sum() == amount * (amount + 1) // 2
    assert found.marks[:, 1].sum() == sum(number // 10 for number in range(1, amount + 1))
    assert (found.columns["block_count"][of[ActivityKind.CONCURRENT_KERNEL]] == 8).all()


def test_memory_that_is_full_drops_records_and_says_how_often_it_had_none():
    buffers, library, _fake = written(kernels(40), buffer_bytes=BUFFER, most_bytes=3 * BUFFER)
    each = BUFFER // LENGTHS[10]
    found = decode(buffers.taken(), library.stride_bytes, EVERY, lambda kind, number: "")
    assert len(found) == 3 * each
    library.dropped()
    assert buffers.refused == 40 - 3 * each
    assert found.columns["correlation"].tolist() == list(range(1, 3 * each + 1))


def test_memory_that_was_taken_is_free_for_the_next_window():
    buffers, library, fake = written(kernels(40), most_bytes=3 * BUFFER)
    assert sum(1 for _ in buffers.taken()) == 3
    buffers.clear()
    fake.write(*kernels(5))
    library.flush()
    assert buffers.refused == 0
    assert sum(1 for _ in buffers.taken()) == 2


@pytest.mark.parametrize("cut", [8, 120, 216])
def test_a_buffer_that_ends_within_a_record_is_read_as_far_as_it_goes(cut):
    found = read(kernels(4), cut=cut)
    assert found.columns["correlation"].tolist() == [1, 2, 3]
    assert found.cut_count == (cut < LENGTHS[10])


def test_records_behind_one_of_an_unknown_kind_are_counted_as_lost_with_their_buffer():
    buffers, library, _fake = written([*kernels(2), (9, {}), *kernels(1)], lengths=LENGTHS)
    known = {**dict.fromkeys(LENGTHS, library.stride_bytes), 9: lambda kind: 0}
    found = decode(buffers.taken(), lambda kind: known[kind](kind), EVERY, lambda kind, number: "")
    assert (len(found), found.cut_count) == (2, 1)


@pytest.mark.parametrize("stride", [104, 44, -8])
def test_a_length_that_can_not_be_is_not_believed(stride):
    buffers, _library, _fake = written(kernels(3))
    found = decode(buffers.taken(), lambda kind: stride, EVERY, lambda kind, number: "")
    assert (len(found), found.cut_count) == (0, 1)


def test_what_never_came_back_stays_alive_and_is_taken_when_it_comes():
    fake = FakeCupti(monotonic_ns)
    fake.enabled = list(ALL_KINDS)
    buffers, library = Buffers(BUFFER), Library(fake.library)
    library.register(buffers)
    fake.write(*kernels(1))
    assert list(buffers.taken()) == []
    buffers.clear()
    fake.write(*kernels(1))
    library.flush()
    (words,) = buffers.taken()
    assert len(words) * 8 == 2 * LENGTHS[10]


def test_names_are_asked_once_for_each_pointer_and_shared_where_equal():
    asked = count()
    buffers, library, _fake = written(
        [kernel(1, 2, 1, "a"), kernel(2, 3, 2, "b"), kernel(3, 4, 3, "a"), call(4, 5, 4), call(5, 6, 5)]
    )

    def named(kind, number):
        next(asked)
        return "same" if kind == ActivityKind.CONCURRENT_KERNEL else "call"

    found = decode(buffers.taken(), library.stride_bytes, EVERY, named)
    assert next(asked) == 3
    assert found.names == ("same", "call")
    assert found.columns["name_id"].tolist() == [0, 0, 0, 1, 1]


def test_a_grid_of_more_blocks_than_the_column_holds_is_held_at_its_most():
    kind, fields = kernel(1, 2, 1)
    found = read([(kind, {**fields, "grid_x": 2**31 - 1, "grid_y": 65535})])
    assert found.columns["block_count"].tolist() == [2**31 - 1]


def test_a_window_without_records_is_empty_and_no_fault():
    found = read([])
    assert (len(found), found.names, found.marks.shape) == (0, (), (0, 2))
    assert set(map(len, found.columns.values())) == {0}


def test_what_the_library_refuses_is_told_with_its_number():
    class Refusing:
        def cuptiActivityFlushAll(self, flag):
            return 999

    with pytest.raises(LibraryError, match="cuptiActivityFlushAll failed with CUPTI's error 999") as refused:
        Library(Refusing()).flush()
    assert refused.value.status == 999


def test_without_a_loaded_libcupti_there_is_none_to_open():
    if find_spec("cupti") or mapped("libcupti"):
        pytest.skip("CUPTI is installed")
    with pytest.raises(OSError, match="loaded no libcupti"):
        open_library()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ActivityKind.CONCURRENT_KERNEL, "activity_kernel10_dtype"),
        (ActivityKind.MEMCPY, "activity_memcpy6_dtype"),
        (ActivityKind.MEMCPY2, "activity_memcpy_pto_p4_dtype"),
        (ActivityKind.MEMSET, "activity_memset4_dtype"),
        (ActivityKind.RUNTIME, "activity_api_dtype"),
        (ActivityKind.DRIVER, "activity_api_dtype"),
        (ActivityKind.SYNCHRONIZATION, "activity_synchronization2_dtype"),
        (ActivityKind.EXTERNAL_CORRELATION, "activity_external_correlation_dtype"),
    ],
)
def test_our_table_of_offsets_is_the_packages(kind, name):
    package = pytest.importorskip("cupti.cupti", reason="cupti-python is not installed", exc_type=ImportError)
    theirs = getattr(package, name, None)
    if theirs is None:
        pytest.skip("this release of cupti-python has another version of the record")
    ours = LAYOUTS[kind]
    assert theirs.itemsize >= ours.itemsize
    assert int(package.ActivityKind(int(kind))) == kind
    for field, (dtype, offset, *_) in ours.fields.items():
        assert (theirs.fields[field][0].itemsize, theirs.fields[field][1]) == (dtype.itemsize, offset), field


def test_the_real_library_knows_the_length_of_every_kind_that_is_read():
    package = pytest.importorskip("cupti.cupti", reason="cupti-python is not installed", exc_type=ImportError)
    try:
        package.get_timestamp()
    except Exception as error:
        pytest.skip(f"CUPTI can't be used here: {error}")
    library = Library(open_library())
    lengths = {kind: library.stride_bytes(int(kind)) for kind in ALL_KINDS}
    assert all(lengths[kind] >= LAYOUTS[kind].itemsize for kind in ALL_KINDS), lengths
    assert library.stride_bytes(0) == 0
    assert importlib.import_module("analyzer.runtime.cupti_calls").Calls(package, ActivityKind.RUNTIME).kept

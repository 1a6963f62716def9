"""Rows that outgrow the memory come back as they were."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_client import row_store
from perf_client.record import NEVER, Recorder
from perf_client.row_store import BLOCK_BYTES, MAPPED_BYTES, STEP, RowStore, blank, in_order

BYTES = np.dtype("u1")


def test_a_block_leaves_the_memory_and_a_part_of_one_stays():
    store = RowStore()
    recent = store.recent
    recent += bytes(BLOCK_BYTES - 1)
    store.spill()
    assert len(recent) == BLOCK_BYTES - 1
    recent += b"\x07"
    store.spill()
    assert store.recent is recent
    assert (len(recent), store.size_bytes) == (0, BLOCK_BYTES)
    recent += b"\x08"
    assert store.rows(BYTES)[-2:].tolist() == [7, 8]


@given(st.lists(st.binary(max_size=40)), st.integers(1, 60))
def test_rows_come_back_in_order_however_they_were_written(pieces, block):
    store = RowStore()
    for piece in pieces:
        store.recent.extend(piece)
        store.spill(block)
    assert store.rows(BYTES).tobytes() == b"".join(pieces)
    store.recent.extend(b"after")
    assert store.rows(BYTES).tobytes() == b"".join([*pieces, b"after"])


def test_without_room_on_disk_rows_stay_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    store = RowStore()
    store.recent.extend(b"abc")
    store.spill(1)
    assert store.rows(BYTES).tobytes() == b"abc"
    assert len(blank(MAPPED_BYTES, "u1")) == MAPPED_BYTES


@pytest.mark.parametrize("count", [0, 3, STEP, STEP + 1])
def test_order_is_that_of_an_index(count):
    column = np.arange(count, dtype=np.int64) * 3
    order = np.random.default_rng(1).permutation(count)
    assert (in_order(column, order) == column[order]).all()


def test_a_large_array_can_be_written_and_read():
    found = blank(row_store.MAPPED_BYTES // 8, np.int64)
    found[:] = 5
    assert found.sum() == 5 * len(found)


def test_a_run_longer_than_a_block_has_the_columns_of_a_short_one():
    recorder, count = Recorder(), 3 * BLOCK_BYTES // 33
    due = np.random.default_rng(2).permutation(count) + 1000
    for at in due.tolist():
        recorder.add(at, at + 1, NEVER, at + 9, 0)
        recorder.spill()
    columns = recorder.columns(1000)
    assert len(recorder) == len(columns) == count
    assert (columns.scheduled_ns == np.arange(count)).all()
    assert (columns.sent_ns - columns.scheduled_ns == 1).all()
    assert (columns.first_byte_ns == NEVER).all()
    assert (columns.last_byte_ns - columns.scheduled_ns == 9).all()

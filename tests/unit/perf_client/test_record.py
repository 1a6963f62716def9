"""The rows of a run: frozen relative to the start, ordered, saved and read back unchanged."""

from pathlib import Path

import numpy as np
import pytest

from perf_client.errors import LoadError
from perf_client.record import NEVER, OK, Columns, Recorder


def recorded() -> Recorder:
    recorder = Recorder()
    recorder.add(1_300, 1_310, 1_350, 1_360, OK)
    recorder.add(1_100, NEVER, NEVER, 1_200, recorder.code("connection refused"))
    recorder.add(1_200, 1_201, NEVER, 1_400, recorder.code("timeout"))
    recorder.drop(1_250)
    return recorder


def test_rows_become_columns_relative_to_the_start_in_schedule_order():
    columns = recorded().columns(1_000)
    assert columns.scheduled_ns.tolist() == [100, 200, 300]
    assert columns.sent_ns.tolist() == [NEVER, 201, 310]
    assert columns.first_byte_ns.tolist() == [NEVER, NEVER, 350]
    assert columns.last_byte_ns.tolist() == [200, 400, 360]
    assert [columns.failure_names[code] for code in columns.failure] == ["connection refused", "timeout", ""]
    assert columns.dropped_ns.tolist() == [250]


def test_a_run_without_requests_has_empty_columns():
    columns = Recorder().columns(5)
    assert len(columns) == 0
    assert columns.scheduled_ns.dtype == np.int64


def test_saved_columns_read_back_unchanged(tmp_path: Path):
    columns = recorded().columns(1_000)
    columns.save(tmp_path / "run.npz")
    loaded = Columns.load(tmp_path / "run.npz")
    assert loaded.failure_names == columns.failure_names
    for name in ("scheduled_ns", "sent_ns", "first_byte_ns", "last_byte_ns", "failure", "dropped_ns"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(columns, name))


def test_more_classes_than_a_byte_holds_share_one():
    recorder = Recorder()
    codes = [recorder.code(f"class {number}") for number in range(300)]
    assert codes[:3] == [1, 2, 3]
    assert max(codes) == 255
    for code in codes:
        recorder.add(1, 1, 1, 1, code)
    assert recorder.columns(0).failure_names[255] == "other"


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 torn"])
def test_a_torn_file_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / "torn.npz"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=r"torn\.npz is not a file of recorded requests") as caught:
        Columns.load(path)
    assert caught.value.exit_code == 3

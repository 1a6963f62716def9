import csv
import json

import msgspec
import numpy as np
import pytest

from perf_client.errors import LoadError
from perf_client.export import check_writable, level_name, write_requests, write_result
from perf_client.profile import Concurrency, LoadResult
from perf_client.record import NEVER, Columns
from perf_client.summarize import summarize
from perf_client.table import OURS, row, to_text, write_csv
from tests.fakes import recorded
from tests.fakes.load_results import SERVER, result

# As perf_analyzer 2.60.0 wrote them.
PLAIN = [
    "Concurrency",
    "Inferences/Second",
    "Client Send",
    "Network+Server Send/Recv",
    "Server Queue",
    "Server Compute Input",
    "Server Compute Infer",
    "Server Compute Output",
    "Client Recv",
    "p50 latency",
    "p90 latency",
    "p95 latency",
    "p99 latency",
]


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_has_the_known_headers_and_ours_after_them(tmp_path):
    write_csv(tmp_path / "out.csv", [result()])
    (line,) = read(tmp_path / "out.csv")
    assert list(line) == [*PLAIN, *OURS]
    assert [line[name] for name in PLAIN] == ["4", "100", "0", "208", "15", "18", "109", "36", "1", *["387"] * 4]
    assert (line["Verdict"], line["Failures"], line["p99.9 latency"]) == ("steady", "0", "")


def test_parts_add_up_to_the_mean(tmp_path):
    cells = row(result(recorded.OPEN, lag_ns=40_000), SERVER)
    parts = PLAIN[2:9]
    assert sum(int(cells[name]) for name in parts) == pytest.approx(387, abs=len(parts))
    assert cells["Client Send"] == "40"


def test_verbose_and_percentile_columns_stand_where_they_are_expected():
    header = list(row(result(), SERVER, percent=97.0, verbose=True))
    assert header[9:14] == ["p50 latency", "p90 latency", "p95 latency", "p97 latency", "p99 latency"]
    assert header[14:16] == ["request/response", "response wait"]
    assert list(row(result(), SERVER, verbose=True))[13:16] == ["Avg latency", "request/response", "response wait"]


def test_request_rate_heads_its_column_so():
    assert next(iter(row(result(recorded.OPEN), SERVER))) == "Request Rate"


def test_rows_with_and_without_server_times_share_a_header():
    with_server, without = row(result(), SERVER), row(result(server=()), None)
    lines = to_text([without, with_server]).splitlines()
    assert lines[0] == ",".join([*PLAIN, *OURS])
    assert ",,,,," in lines[1]


def test_an_ensemble_writes_a_file_for_each_composing_model(tmp_path):
    child = msgspec.structs.replace(SERVER, model="child", version="3", queue_ns=500 * 99_000)
    write_csv(tmp_path / "out.csv", [result(server=(SERVER, child))])
    assert read(tmp_path / "out.csv")[0]["Server Queue"] == "99"
    assert read(tmp_path / "child_v3.out.csv")[0]["Server Queue"] == "99"


def test_nothing_answered_still_makes_a_row():
    cells = row(result(failures=dict.fromkeys(range(500), "timeout")), SERVER)
    assert (cells["p99 latency"], cells["Failures"], cells["Requests"]) == ("", "500", "500")


def test_requests_are_written_in_the_known_form_with_schedule_and_error_beside_it(tmp_path):
    due = np.arange(2500, dtype=np.int64) * 1_000_000
    columns = recorded.columns((due, due + 500_000), lag_ns=10_000, failures={1: "http 500", 2: "connection refused"})
    columns.sent_ns[2] = NEVER
    facts = recorded.facts(2_500_000_000)
    made = summarize(recorded.OPEN, columns, facts)
    write_requests(tmp_path / "p.json", [(made, columns), (made, columns)])
    document = json.loads((tmp_path / "p.json").read_text())
    assert (document["service_kind"], document["endpoint"], len(document["experiments"])) == ("triton", "", 2)
    experiment = document["experiments"][0]
    assert experiment["experiment"] == {"mode": "request_rate", "value": 100.0}
    assert len(experiment["requests"]) == 2500
    zero = facts.started_unix_ns
    assert experiment["window_boundaries"] == [zero, zero + 2_500_000_000]
    assert experiment["requests"][0] == {
        "timestamp": zero + 10_000,
        "request_inputs": {},
        "response_timestamps": [zero + 500_000],
        "response_outputs": [{}],
        "scheduled_timestamp": zero,
    }
    assert experiment["requests"][1]["error"] == "http 500"
    assert experiment["requests"][2]["timestamp"] == experiment["requests"][2]["scheduled_timestamp"]


def test_result_files_can_be_read_back(tmp_path):
    due = np.arange(100, dtype=np.int64) * 1_000_000
    columns = recorded.columns((due, due + 500_000), failures={1: "timeout"})
    made = summarize(recorded.CLOSED, columns, recorded.facts(100_000_000))
    path = write_result(tmp_path, made, columns)
    assert path.name == "concurrency_4.json"
    assert msgspec.json.decode(path.read_bytes(), type=LoadResult) == made
    assert (Columns.load(path.with_suffix(".npz")).last_byte_ns == columns.last_byte_ns).all()


def test_levels_have_distinct_file_names():
    levels = [msgspec.structs.replace(recorded.CLOSED, load=Concurrency(in_flight=n)) for n in (1, 10)]
    assert [level_name(result(profile)) for profile in levels] == ["concurrency_1", "concurrency_10"]
    assert level_name(result(recorded.OPEN)) == "request_rate_100"


def test_an_unwritable_place_is_refused_before_anything_is_measured(tmp_path):
    check_writable(None, tmp_path / "new.csv", folder=tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    for bad in (tmp_path, tmp_path / "none" / "x.csv"):
        with pytest.raises(LoadError, match="can't be written"):
            check_writable(bad)
    (tmp_path / "file").write_text("")
    with pytest.raises(LoadError, match="can't be made"):
        check_writable(folder=tmp_path / "file" / "under")

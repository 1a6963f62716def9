"""Captures of a real server: started and stopped over HTTP, read as a timeline."""

import subprocess

import numpy as np
import pytest

from analyzer.collect.spans import add_spans, read_spans
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kinds import Kind, Relation
from analyzer.timeline.table import Meta
from tests.fakes import repositories
from tests.fakes.json_calls import request_json
from tests.fakes.running_server import running_server, server_command


def infer(address, count):
    body = {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 2.0, 3.0, 4.0]}]}
    for _ in range(count):
        status, answer = request_json(address, "POST", "/v2/models/simulated/infer", body)
        assert status == 200, answer


def timeline_of(path):
    build = TimelineBuilder()
    tracks = add_spans(build, read_spans(path), process=7)
    return build.build(Meta(producer="test"), tracks)


def test_a_capture_holds_what_was_served_between_its_start_and_its_stop(tmp_path):
    repositories.write_simulated(tmp_path / "models")
    folder = tmp_path / "captures"
    folder.mkdir()
    with running_server(tmp_path / "models", "--spans", "64", "--capture-dir", str(folder)) as server:
        infer(server.http, 2)
        assert request_json(server.http, "GET", "/v2/analyzer/capture")[1]["spans"]["state"] == "on"
        assert request_json(server.http, "POST", "/v2/analyzer/capture/start", {"collect": ["spans"]})[0] == 200
        assert request_json(server.http, "POST", "/v2/analyzer/capture/start", {"collect": ["spans"]})[0] == 503
        infer(server.http, 3)
        status, stats = request_json(server.http, "POST", "/v2/analyzer/capture/stop")
        assert (status, stats["spans"]["records"], stats["spans"]["dropped"]) == (200, 6, 0)
        infer(server.http, 1)
        assert request_json(server.http, "POST", "/v2/analyzer/capture/stop") == (200, {})
    timeline = timeline_of(folder / "spans.npz")
    requests, batches = timeline.rows(Kind.REQUEST), timeline.rows(Kind.BATCH)
    assert (len(requests), len(batches)) == (3, 3)
    assert {timeline.model(row) for row in requests} == {"simulated"}
    sources, targets = timeline.edges.of(Relation.REQUEST_BATCH)
    np.testing.assert_array_equal(np.sort(sources), np.sort(timeline.events.request[requests]))
    np.testing.assert_array_equal(np.sort(targets), np.sort(timeline.events.batch[batches]))
    names = {timeline.name(row) for row in timeline.rows(Kind.STAGE)}
    assert names == {"queue", "compute_input", "compute_infer", "compute_output"}


def test_without_a_folder_nothing_is_written_and_the_answer_says_how_to_mend_it(tmp_path):
    repositories.write_simulated(tmp_path)
    with running_server(tmp_path, "--spans", "on") as server:
        status, answer = request_json(server.http, "POST", "/v2/analyzer/capture/start", {})
        assert status == 400
        assert "--capture-dir" in answer["error"]


def test_what_is_not_known_or_not_kept_is_said(tmp_path):
    repositories.write_simulated(tmp_path)
    with running_server(tmp_path, "--capture-dir", str(tmp_path)) as server:
        status, answer = request_json(server.http, "POST", "/v2/analyzer/capture/start", {"collect": ["rays"]})
        assert (status, "'rays' can't be captured" in answer["error"]) == (400, True)
        status, answer = request_json(server.http, "POST", "/v2/analyzer/capture/start", {"collect": ["spans"]})
        assert (status, answer["spans"]["state"]) == (200, "absent")
        assert "--spans on" in answer["spans"]["reason"]


@pytest.mark.parametrize("flags", [("--spans", "many"), ("--spans", "-1"), ("--capture-dir", "missing")])
def test_bad_flags_end_the_start_with_a_sentence(tmp_path, flags):
    repositories.write_simulated(tmp_path)
    ended = subprocess.run(server_command(tmp_path, *flags), check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr

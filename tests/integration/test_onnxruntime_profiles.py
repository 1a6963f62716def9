"""ONNX Runtime's own profile of a window of a running server, on the CPU: nodes know their batch, windows are apart."""

import numpy as np
import pytest

from analyzer.collect.readings import Sampled
from analyzer.collect.watch import Watching
from analyzer.collect.window import timeline_of
from analyzer.runtime.onnxruntime_trace import INDEX
from analyzer.timeline import archive
from analyzer.timeline.kinds import Kind
from analyzer.zoo.catalogue import add
from tests.fakes.json_calls import post_json
from tests.fakes.running_server import running_server

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
ROUNDS = 3


def infer(address):
    image = np.random.default_rng(0).random(3 * 64 * 64, np.float32).tolist()
    body = {"inputs": [{"name": "INPUT", "datatype": "FP32", "shape": [1, 3, 64, 64], "data": image}]}
    return post_json(address, "/v2/models/conv_chain/infer", body)["outputs"][0]["data"]


def test_nodes_of_a_window_know_their_batch_and_model_and_those_of_another_window_are_not_there(tmp_path):
    add("conv_chain", tmp_path / "models")
    folder = tmp_path / "captures"
    folder.mkdir()
    counts = []
    with running_server(tmp_path / "models", "--spans", "4096", "--capture-dir", str(folder)) as server:
        before = infer(server.http)
        for _ in range(2):
            states = post_json(server.http, "/v2/analyzer/capture/start", {"collect": ["spans", "onnxruntime"]})
            assert states["onnxruntime"]["state"] == "on"
            during = [infer(server.http) for _ in range(ROUNDS)]
            stats = post_json(server.http, "/v2/analyzer/capture/stop")
            after = infer(server.http)
            assert all(answer == before for answer in (*during, after))
            assert stats["onnxruntime"]["files"] == [INDEX]
            timeline = timeline_of(folder, server.process.pid, [], [folder / INDEX])
            counts.append(len(timeline.rows(Kind.OPERATOR)))
    assert timeline.meta.warnings == ()
    table, nodes, batches = timeline.events, timeline.rows(Kind.OPERATOR), timeline.rows(Kind.BATCH)
    runs = [row for row in timeline.rows(Kind.RANGE) if timeline.name(row) == "model_run"]
    assert len(runs) == len(batches) == 3 * ROUNDS
    assert counts[0] == counts[1] > 0
    assert not {"session_initialization", "model_loading_uri"} & {timeline.name(row) for row in range(len(timeline))}
    assert (table.batch[nodes] > 0).all()
    assert {timeline.model(row) for row in nodes} == {"conv_1", "conv_2", "conv_3"}
    assert set(table.batch[nodes].tolist()) == set(table.batch[batches].tolist())
    assert any("conv" in timeline.name(row).lower() for row in nodes)


def test_a_watched_point_keeps_the_profile_in_its_timeline(tmp_path):
    add("conv_chain", tmp_path / "models")
    watching = Watching(("spans", "onnxruntime"))
    with watching.opened() as watch, running_server(tmp_path / "models", *watch.flags) as server:
        watch.attach(server.http, server.process.pid)
        assert watch.wants_window()
        watch.start()
        infer(server.http)
        watch.stop()
        watch.keep(tmp_path / "timelines" / "a.timeline", [], Sampled((), [], 0, frozenset()))
        assert [(each.collector, each.state) for each in watch.collected] == [("spans", "on"), ("onnxruntime", "on")]
    kept = archive.load(tmp_path / "timelines" / "a.timeline")
    assert {kept.model(row) for row in kept.rows(Kind.OPERATOR)} == {"conv_1", "conv_2", "conv_3"}


def test_without_an_onnx_model_there_is_none_and_the_reason_is_said(tmp_path):
    add("add_sub", tmp_path / "models")
    folder = tmp_path / "captures"
    folder.mkdir()
    with running_server(tmp_path / "models", "--spans", "64", "--capture-dir", str(folder)) as server:
        states = post_json(server.http, "/v2/analyzer/capture/start", {"collect": ["spans", "onnxruntime"]})
        post_json(server.http, "/v2/analyzer/capture/stop")
    assert states["onnxruntime"]["state"] == "absent"
    assert "no ONNX model is loaded" in states["onnxruntime"]["reason"]

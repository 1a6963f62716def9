"""The runtime's span files to events, the client's requests beside them, and several timelines to one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.collect.merge import merged
from analyzer.collect.spans import Sent, _matched, add_sent, add_spans, read_spans
from analyzer.collect.window import timeline_of
from analyzer.errors import ChildError, InputError
from analyzer.runtime.spans import Row, Spans, save
from analyzer.timeline.analyses import serving
from analyzer.timeline.builder import TimelineBuilder
from analyzer.timeline.kinds import Kind, Relation
from analyzer.timeline.table import Anchor, Meta

PID = 77


def written(path, rows, models=("m",), workers=(("m_0", 5),)):
    ring = Spans(256)
    for name in models:
        ring.model_id(name, "1")
    for worker in workers:
        ring.worker_id(worker)
    ring.start()
    for row in rows:
        ring.write(*row)
    ring.stop()
    save(path, ring.rows(), ring.header())
    return path


def request(number, batch, times, model=0, step=0, rows=1, failed=0):
    return (Row.REQUEST, model, number, batch, step, -1, *times, rows, failed)


def batch(number, times, model=0, worker=0, rows=1):
    return (Row.BATCH, model, number, 1, 0, worker, *times, rows, 0)


def events(path):
    build = TimelineBuilder()
    tracks = add_spans(build, read_spans(path), PID)
    return build.build(Meta(producer="test"), tracks)


def test_a_request_has_its_queueing_and_its_batch_has_three_stages(tmp_path):
    rows = [batch(1, (120, 130, 180, 190), rows=3), request(2, 1, (100, 105, 120, 200), rows=3)]
    timeline = events(written(tmp_path / "spans.npz", rows))
    table = timeline.events
    found = {
        (Kind(table.kind[row]).name, timeline.name(row)): (int(table.start_ns[row]), int(table.end_ns[row]))
        for row in range(len(timeline))
    }
    assert found == {
        ("REQUEST", "request"): (100, 200),
        ("STAGE", "queue"): (105, 120),
        ("BATCH", "batch"): (120, 190),
        ("STAGE", "compute_input"): (120, 130),
        ("STAGE", "compute_infer"): (130, 180),
        ("STAGE", "compute_output"): (180, 190),
    }
    (row,) = timeline.rows(Kind.BATCH)
    assert (table.thread[row], table.instance[row], table.size[row], timeline.model(row)) == (5, 0, 3, "m")
    assert [track.name for track in timeline.tracks] == ["m_0"]


def test_instances_are_numbered_within_their_model_in_the_order_of_their_names(tmp_path):
    workers = (("m_10", 1), ("other_0", 2), ("m_2", 3))
    rows = [batch(n + 1, (n, n, n, n + 1), model=int(n == 1), worker=n) for n in range(3)]
    timeline = events(written(tmp_path / "s", rows, ("m", "other"), workers))
    rows = timeline.rows(Kind.BATCH)
    by_thread = dict(zip(timeline.events.thread[rows].tolist(), timeline.events.instance[rows].tolist()))
    assert by_thread == {3: 0, 1: 1, 2: 0}


def test_a_refused_request_waits_until_it_is_answered_and_has_no_batch(tmp_path):
    timeline = events(written(tmp_path / "s", [request(1, 0, (10, 12, 0, 50), failed=1)]))
    (row,) = timeline.rows(Kind.STAGE)
    assert (timeline.events.start_ns[row], timeline.events.end_ns[row]) == (12, 50)
    assert not len(timeline.edges.of(Relation.REQUEST_BATCH)[0])


def test_steps_of_an_ensemble_are_joined_to_their_request_and_to_those_they_make(tmp_path):
    rows = [
        batch(3, (20, 21, 28, 29), model=1),
        request(4, 3, (15, 16, 20, 30), model=1, step=2),
        (Row.STEP, 1, 2, 1, 0, -1, 14, 0, 0, 31, 1, 0),
        request(1, 0, (10, 0, 0, 40)),
    ]
    timeline = events(written(tmp_path / "s", rows, ("chain", "part")))
    (row,) = timeline.rows(Kind.STEP)
    assert (timeline.name(row), timeline.model(row), timeline.events.request[row]) == ("part", "part", 1)
    assert [ends[0] for ends in timeline.edges.of(Relation.REQUEST_CHILD)] == [1, 4]
    assert [ends[0] for ends in timeline.edges.of(Relation.REQUEST_STEP)] == [1, 2]
    assert [ends[0] for ends in timeline.edges.of(Relation.BATCH_STEP)] == [3, 2]
    assert [each.model for each in serving.stage_times(timeline)]


def test_an_empty_window_is_an_empty_timeline(tmp_path):
    assert len(events(written(tmp_path / "s", []))) == 0


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04torn"])
def test_a_torn_file_is_told_in_a_sentence(tmp_path, content):
    (tmp_path / "s").write_bytes(content)
    with pytest.raises(ChildError, match="can't be read"):
        read_spans(tmp_path / "s")


def test_client_requests_get_the_server_request_that_lies_within(tmp_path):
    rows = [request(1, 0, (100, 0, 0, 150)), request(2, 0, (300, 0, 0, 350))]
    spans = read_spans(written(tmp_path / "s", rows))
    build = TimelineBuilder()
    sent, answered = np.array([90, 290, 5000]), np.array([160, 360, 6000])
    add_sent(build, spans, Sent("m", sent, answered))
    timeline = build.build(Meta(producer="test"))
    rows = timeline.rows(Kind.CLIENT_REQUEST)
    assert timeline.events.request[rows].tolist() == [1, 2]


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 60), st.integers(1, 20)), max_size=30))
def test_every_match_lies_within_and_none_is_used_twice(drawn):
    sent = np.array(sorted(start for start, _, _ in drawn), np.int64)
    widths = np.array([width + 2 * margin for _, width, margin in drawn], np.int64)
    answered = sent + widths
    arrived = sent + np.array([margin for _, _, margin in drawn], np.int64)
    left = answered - np.array([margin for _, _, margin in drawn], np.int64)
    order = np.argsort(arrived, kind="stable")
    ids = np.arange(1, len(drawn) + 1)
    found = _matched(sent, answered, arrived[order], left[order], ids[order])
    used = found[found > 0]
    assert len(set(used.tolist())) == len(used)
    for client, number in enumerate(found.tolist()):
        if number > 0:
            assert sent[client] <= arrived[number - 1]
            assert left[number - 1] <= answered[client]


def small(producer, start_ns, anchors, parent=False):
    build = TimelineBuilder()
    build.add(Kind.RANGE, start_ns, start_ns + 10, build.name_id(producer), process=1, thread=1)
    if parent:
        build.add(Kind.RANGE, start_ns + 1, start_ns + 5, build.name_id("inner"), process=1, thread=1, parent=0)
    return build.build(Meta(producer=producer, collected=("range",)), anchors=anchors)


def test_timelines_are_laid_on_each_other_by_a_common_clock():
    first = small("ours", 1000, (Anchor("monotonic", 0), Anchor("utc", 50_000)))
    other = small("theirs", 7, (Anchor("utc", 51_000),), parent=True)
    whole = merged([first, other])
    assert [whole.name(row) for row in range(3)] == ["ours", "theirs", "inner"]
    assert whole.events.start_ns.tolist() == [1000, 1007, 1008]
    assert whole.events.parent.tolist() == [-1, -1, 1]
    assert whole.meta.producer == "ours + theirs"
    assert whole.anchors == first.anchors


def test_timelines_without_a_common_clock_are_refused_with_a_way_out():
    with pytest.raises(InputError, match="analyze it by itself"):
        merged([small("ours", 0, (Anchor("utc", 5),)), small("theirs", 0, ())])


def test_a_capture_beside_the_spans_that_cannot_be_read_is_a_warning(tmp_path):
    written(tmp_path / "spans.npz", [request(1, 0, (10, 0, 0, 50))])
    (tmp_path / "torch.json").write_text("{")
    timeline = timeline_of(tmp_path, PID, [], [tmp_path / "torch.json"])
    assert len(timeline) == 1
    assert any("torch.json" in text for text in timeline.meta.warnings)


def test_dropped_rows_make_the_timeline_partial(tmp_path):
    ring = Spans(2)
    ring.model_id("m", "1")
    ring.start()
    for number in range(1, 6):
        ring.write(*request(number, 0, (number, 0, 0, number + 1)))
    ring.stop()
    save(tmp_path / "spans.npz", ring.rows(), ring.header())
    meta = timeline_of(tmp_path, PID, []).meta
    assert (meta.partial, meta.dropped) == (True, {"spans": 3})

"""Trace files of a real Triton 2.51 and of our runtime: an ensemble, a batch of two, a stream, both protocols."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from analyzer.errors import InputError
from analyzer.timeline import export_chrome, import_any
from analyzer.timeline.kinds import Kind, Relation
from analyzer.timeline.table import Timeline

FOLDER = Path(__file__).parents[2] / "data" / "triton_trace"
FILES = ("triton_2.51.json", "own_runtime.json")


@pytest.fixture(params=FILES)
def path(request) -> Path:
    return FOLDER / request.param


def named(timeline: Timeline, kind: Kind, model: str) -> list[int]:
    events = timeline.events
    return [row for row in timeline.rows(kind).tolist() if timeline.names[events.model_id[row]] == model]


def linked(timeline: Timeline, relation: Relation) -> set[tuple[int, int]]:
    source, target = timeline.edges.of(relation)
    return set(zip(source.tolist(), target.tolist()))


def test_every_request_has_its_span_and_its_stay_in_the_queue(path):
    timeline = import_any.read(path)
    events = timeline.events
    assert timeline.meta.producer == "Triton trace"
    assert not timeline.meta.partial
    requests = {model: len(named(timeline, Kind.REQUEST, model)) for model in ("chain", "add_sub", "doubled", "dyn")}
    assert requests == {"chain": 1, "add_sub": 2, "doubled": 1, "dyn": 3}
    (chain,) = named(timeline, Kind.REQUEST, "chain")
    raw = json.loads(path.read_text())
    stamps = {stamp["name"]: stamp["ns"] for entry in raw if entry["id"] == 1 for stamp in entry.get("timestamps", ())}
    assert (events.start_ns[chain], events.end_ns[chain]) == (stamps["HTTP_RECV_START"], stamps["HTTP_SEND_END"])
    queues = [row for row in named(timeline, Kind.STAGE, "dyn") if timeline.names[events.name_id[row]] == "queue"]
    assert len(queues) == 3
    assert (events.duration_ns[queues] > 0).all()


def test_a_request_over_grpc_does_not_begin_before_it_was_there(path):
    timeline = import_any.read(path)
    (stream,) = named(timeline, Kind.REQUEST, "repeat")
    raw = json.loads(path.read_text())
    (number,) = [entry["id"] for entry in raw if entry.get("model_name") == "repeat"]
    told = [(stamp["name"], stamp["ns"]) for e in raw if e["id"] == number for stamp in e.get("timestamps", ())]
    assert timeline.events.start_ns[stream] == dict(told)["GRPC_WAITREAD_END"]
    assert timeline.events.end_ns[stream] == max(ns for name, ns in told if name == "GRPC_SEND_END")


def test_requests_that_were_executed_together_are_one_batch(path):
    timeline = import_any.read(path)
    events = timeline.events
    batches = named(timeline, Kind.BATCH, "dyn")
    assert events.size[batches].tolist() == [2, 1]
    members = linked(timeline, Relation.REQUEST_BATCH)
    assert {sum(batch == events.batch[row] for _, batch in members) for row in batches} == {1, 2}
    stages = np.array(named(timeline, Kind.STAGE, "dyn"))
    of_first = stages[events.batch[stages] == events.batch[batches[0]]]
    names = [timeline.names[events.name_id[row]] for row in of_first]
    assert names == ["compute_input", "compute_infer", "compute_output"]
    assert events.start_ns[of_first[0]] == events.start_ns[batches[0]]
    assert events.end_ns[of_first[-1]] == events.end_ns[batches[0]]


def test_what_an_ensemble_asked_for_are_its_steps(path):
    timeline = import_any.read(path)
    events = timeline.events
    assert linked(timeline, Relation.REQUEST_CHILD) == linked(timeline, Relation.REQUEST_STEP) == {(1, 2), (1, 3)}
    steps = timeline.rows(Kind.STEP).tolist()
    assert [(timeline.names[events.name_id[row]], int(events.request[row])) for row in steps] == [
        ("add_sub", 1),
        ("doubled", 1),
    ]
    assert {step for _, step in linked(timeline, Relation.BATCH_STEP)} == {2, 3}


def test_it_can_be_zipped_and_drawn(path, tmp_path):
    zipped = tmp_path / "trace.json.0"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    timeline = import_any.read(zipped)
    export_chrome.write(timeline, tmp_path / "chrome.json")
    assert "traceEvents" in json.loads((tmp_path / "chrome.json").read_text())


def entry(number: int, **more: object) -> dict[str, object]:
    return {"id": number, **more}


def trace(number: int, begin_ns: int, end_ns: int, model: str = "m") -> list[dict[str, object]]:
    """Computed from a tenth of its time on."""
    at_ns = {"REQUEST_START": begin_ns, "QUEUE_START": begin_ns, "COMPUTE_START": begin_ns + (end_ns - begin_ns) // 10}
    at_ns |= {"COMPUTE_END": end_ns, "REQUEST_END": end_ns}
    stamps = [{"name": name, "ns": ns} for name, ns in at_ns.items()]
    return [entry(number, model_name=model, model_version=1), entry(number, timestamps=stamps)]


def written(tmp_path: Path, entries: list[object]) -> Path:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(entries))
    return path


def test_batches_that_overlap_ran_on_different_instances(tmp_path):
    spans = [(0, 1000), (500, 1500), (1200, 2000), (1300, 2100)]
    entries = [item for number, span in enumerate(spans, 1) for item in trace(number, *span)]
    timeline = import_any.read(written(tmp_path, entries))
    assert timeline.events.instance[timeline.rows(Kind.BATCH)].tolist() == [0, 1, 0, 2]


def test_traces_that_are_not_whole_are_counted(tmp_path):
    path = written(tmp_path, [*trace(1, 0, 100), entry(2, model_name="m", model_version=1)])
    timeline = import_any.read(path)
    assert len(timeline.rows(Kind.REQUEST)) == 1
    assert (timeline.meta.partial, timeline.meta.dropped) == (True, {"request": 1})


def test_entries_of_another_kind_are_told_and_left_out(tmp_path):
    timeline = import_any.read(written(tmp_path, [*trace(1, 0, 100), entry(-5), "text", entry(2, timestamps=3)]))
    assert len(timeline.rows(Kind.REQUEST)) == 1
    assert any(warning.startswith("3 entries") for warning in timeline.meta.warnings)


def test_a_file_that_is_cut_gives_what_is_before_the_cut(tmp_path):
    path = written(tmp_path, [item for number in range(1, 20) for item in trace(number, number, number + 100)])
    path.write_bytes(path.read_bytes()[:-200])
    timeline = import_any.read(path)
    assert 10 < len(timeline.rows(Kind.REQUEST)) < 19
    assert timeline.meta.partial


def test_a_file_without_stamps_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(InputError, match="level=TIMESTAMPS"):
        import_any.read(written(tmp_path, [entry(1, model_name="m", model_version=1)]))

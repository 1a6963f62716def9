"""Spans: what a request leaves in the ring, in which order, and what a listening tool is told."""

import asyncio
import threading
from collections import Counter
from time import monotonic_ns

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.runtime.backends.base import Execution
from analyzer.runtime.batcher import BatchPolicy
from analyzer.runtime.instance import InlineCrew, ThreadCrew
from analyzer.runtime.nvtx_ranges import BatchWatch, Ranges, open_ranges
from analyzer.runtime.request import ErrorKind, InferError, InferRequest
from analyzer.runtime.scheduler import ScheduledModel
from analyzer.runtime.signature import InputSpec, OutputSpec, Signature
from analyzer.runtime.spans import COLUMNS, ModelSpans, Row, Spans, save
from analyzer.runtime.statistics import Statistics
from tests.fakes import repositories
from tests.fakes.opened_store import infer, opened_store

DYNAMIC = BatchPolicy(4, dynamic=True)
DTYPE = np.dtype(np.float32)
SIGNATURE = Signature("m", 4, [InputSpec("A", "FP32", (-1, 1), DTYPE)], [OutputSpec("B", "FP32", (-1, 1), DTYPE)])


class Echo:
    """An instance that tells its stages; a request with a negative value fails."""

    def execute(self, execution):
        execution.input_ended()
        values = [request.inputs["A"] for request in execution.requests]
        execution.infer_ended()
        if any((value < 0).any() for value in values):
            raise InferError(ErrorKind.INTERNAL, "negative")
        return [{"B": value} for value in values]

    def close(self):
        pass


class RecordingDomain:
    """Stands in for ``nvtx.Domain``: what was called, and on which thread."""

    def __init__(self):
        self.calls = []
        self._open = 0

    def get_event_attributes(self, message, *, category, payload):
        return message, category, payload

    def push_range(self, attributes):
        self.calls.append(("push", attributes[0], threading.get_ident()))

    def pop_range(self):
        self.calls.append(("pop", "", threading.get_ident()))

    def start_range(self, attributes):
        self._open += 1
        self.calls.append(("start", attributes[0], self._open))
        return self._open

    def end_range(self, number):
        self.calls.append(("end", "", number))


class RecordingCorrelator:
    def __init__(self):
        self.pushed, self.popped = [], 0

    def push(self, number):
        self.pushed.append(number)

    def pop(self):
        self.popped += 1


def request(value=1.0, rows=1):
    return InferRequest("m", {"A": np.full((rows, 1), value, np.float32)}, monotonic_ns())


def by_kind(ring):
    rows = [dict(zip(COLUMNS, row)) for row in ring.rows().tolist()]
    return {kind: [row for row in rows if row["kind"] == kind] for kind in Row}


async def served(ring, requests, policy=DYNAMIC, ranges=None):
    loop = asyncio.get_running_loop()
    spans = ModelSpans(ring, ring.model_id("m", "1"), ranges)
    crew = ThreadCrew({"m_0": Echo}, loop)
    await crew.load()
    model = ScheduledModel(SIGNATURE, Statistics("m", "1"), policy, crew, loop, spans=spans)
    answers = []
    for one in requests:
        model.submit(one, answers.append)
    await model.drain()
    await model.close()
    return answers


def test_a_batch_leaves_its_row_and_one_for_each_request_in_the_order_of_time():
    ring = Spans(64)
    ring.start()
    asyncio.run(served(ring, [request(), request(rows=2)]))
    rows = by_kind(ring)
    (batch,) = rows[Row.BATCH]
    assert (batch["rows"], batch["link"], batch["failed"]) == (3, 2, 0)
    assert [row["rows"] for row in rows[Row.REQUEST]] == [1, 2]
    assert all(row["link"] == batch["id"] for row in rows[Row.REQUEST])
    for row in rows[Row.REQUEST]:
        assert row["t0_ns"] <= row["t1_ns"] <= row["t2_ns"] == batch["t0_ns"] <= row["t3_ns"]
    assert batch["t0_ns"] <= batch["t1_ns"] <= batch["t2_ns"] <= batch["t3_ns"]
    ((name, thread),) = ring.header()["workers"]
    assert name == "m_0"
    assert thread > 0


def test_failed_requests_are_marked():
    ring = Spans(64)
    ring.start()
    answers = asyncio.run(served(ring, [request(-1.0)]))
    assert isinstance(answers[0], InferError)
    rows = by_kind(ring)
    assert [row["failed"] for row in rows[Row.REQUEST]] == [1]
    assert [row["failed"] for row in rows[Row.BATCH]] == [1]


def test_a_request_that_is_cancelled_in_the_queue_has_a_row_without_a_batch():
    async def run():
        loop = asyncio.get_running_loop()
        model = ScheduledModel(
            SIGNATURE, Statistics("m", "1"), BatchPolicy(4, dynamic=True, max_delay_ns=10**12),
            InlineCrew("m_0", Echo()), loop, spans=ModelSpans(ring, 0, None),
        )  # fmt: skip
        one = request()
        model.submit(one, lambda answer: None)
        one.cancel()
        await model.drain()
        await model.close()

    ring = Spans(8)
    ring.start()
    asyncio.run(run())
    rows = by_kind(ring)
    assert not rows[Row.BATCH]
    assert [(row["link"], row["t2_ns"], row["failed"]) for row in rows[Row.REQUEST]] == [(0, 0, 1)]


def test_nothing_is_written_while_off():
    ring = Spans(64)
    asyncio.run(served(ring, [request()]))
    assert ring.written == 0


@given(size=st.integers(1, 20), count=st.integers(0, 50))
def test_a_full_ring_keeps_the_newest_and_counts_what_it_lost(size, count):
    ring = Spans(size)
    ring.start()
    for number in range(count):
        ring.write(Row.REQUEST, number, *[0] * 10)
    kept = ring.rows()[:, 1].tolist()
    assert kept == list(range(max(0, count - size), count))
    assert ring.dropped == count - len(kept)


def test_a_new_window_forgets_the_old_one():
    ring = Spans(4)
    for count in (7, 2):
        ring.start()
        for number in range(count):
            ring.write(Row.BATCH, number, *[0] * 10)
        ring.stop()
    assert ring.rows()[:, 1].tolist() == [0, 1]
    assert ring.dropped == 0


def test_an_ensemble_leaves_its_request_a_row_a_step_and_the_requests_of_its_steps(tmp_path):
    async def run():
        async with opened_store(tmp_path, spans=ring) as store:
            await infer(store, "chain", {"IN": np.ones((1, 4), np.float32)})

    chain_of_two(tmp_path)
    ring = Spans(64)
    ring.start()
    asyncio.run(run())
    rows = by_kind(ring)
    (whole,) = [row for row in rows[Row.REQUEST] if not row["link"]]
    children = [row for row in rows[Row.REQUEST] if row["link"]]
    steps = rows[Row.STEP]
    assert [step["link"] for step in steps] == [whole["id"]] * 2
    assert [child["step"] for child in children] == [step["id"] for step in steps]
    assert {step["model"] for step in steps} == {child["model"] for child in children}
    for child, step in zip(children, steps):
        assert whole["t0_ns"] <= step["t0_ns"] <= child["t3_ns"] <= step["t3_ns"] <= whole["t3_ns"]
    assert max(Counter(ring.rows()[:, 2].tolist()).values()) == 1


STEPS = """
platform: "ensemble"
ensemble_scheduling {
  step { model_name: "first" input_map { key: "INPUT0" value: "IN" } output_map { key: "OUTPUT0" value: "mid" } }
  step { model_name: "second" input_map { key: "INPUT0" value: "mid" } output_map { key: "OUTPUT0" value: "OUT" } }
}
"""


def chain_of_two(folder):
    for name in ("first", "second"):
        repositories.write_simulated(folder, name)
    repositories.write_model(
        folder,
        "chain",
        backend="",
        inputs=[("IN", "TYPE_FP32", (4,))],
        outputs=[("OUT", "TYPE_FP32", (4,))],
        max_batch_size=8,
        extra=STEPS,
    )


def test_a_tool_that_listens_sees_balanced_ranges_on_the_launching_thread():
    ring, domain, correlator = Spans(64), RecordingDomain(), RecordingCorrelator()
    ring.correlator = correlator
    ring.start()
    asyncio.run(served(ring, [request(), request(-1.0)], BatchPolicy(1, dynamic=False), Ranges(domain)))
    kinds = Counter(kind for kind, *_ in domain.calls)
    assert kinds["push"] == kinds["pop"] == 8
    assert kinds["start"] == kinds["end"] == 4
    assert sorted(at for kind, _, at in domain.calls if kind == "end") == [1, 2, 3, 4]
    threads = {thread for kind, _, thread in domain.calls if kind in ("push", "pop")}
    assert threads.isdisjoint({threading.get_ident()})
    assert len(threads) == 1
    stages = [name for kind, name, _ in domain.calls if kind == "push"]
    assert stages == ["batch", "compute_input", "compute_infer", "compute_output"] * 2
    assert correlator.pushed == [row["id"] for row in by_kind(ring)[Row.BATCH]]
    assert correlator.popped == 2


def test_stages_beyond_the_last_are_not_opened():
    domain = RecordingDomain()
    watch = BatchWatch(Ranges(domain), None, 1, 1, waiting=())
    execution = Execution([], [], watch=watch)
    watch.begin()
    for _ in range(3):
        execution.infer_ended()
    watch.end()
    kinds = Counter(kind for kind, *_ in domain.calls)
    assert kinds["push"] == kinds["pop"]


def test_without_a_tool_there_are_no_ranges():
    assert open_ranges("m") is None


def test_a_window_is_saved_without_pickled_objects(tmp_path):
    ring = Spans(4)
    ring.start()
    ring.write(Row.BATCH, *range(11))
    ring.stop()
    save(tmp_path / "spans.npz", ring.rows(), ring.header())
    with np.load(tmp_path / "spans.npz", allow_pickle=False) as file:
        assert file["rows"].shape == (1, len(COLUMNS))


@pytest.mark.parametrize("rows", [1, 3])
def test_attributes_are_made_once_for_a_stage_and_a_number_of_rows(rows):
    domain = RecordingDomain()
    ranges = Ranges(domain)
    made = []
    domain.get_event_attributes = lambda message, **more: made.append((message, more)) or message
    for _ in range(2):
        ranges.push("batch", rows)
    assert made == [("batch", {"category": "batch", "payload": rows})]

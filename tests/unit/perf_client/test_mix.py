"""Several models on one load: shares, and rows that know their model."""

from dataclasses import replace
from itertools import islice

import msgspec
import numpy as np
import pytest

from perf_client.mix import MixLane, MixRecorder, draws
from perf_client.profile import ModelShare
from perf_client.record import Columns
from perf_client.summarize import summarize
from tests.fakes import recorded

SHARES = (ModelShare(model="a", weight=3.0), ModelShare(model="b", version="2", weight=1.0))


def test_draws_keep_the_shares_and_repeat_with_their_seed():
    found = list(islice(draws(SHARES, 5), 20_000))
    assert np.mean(found) == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 20_000) ** 0.5)
    assert found == list(islice(draws(SHARES, 5), 20_000))
    assert found != list(islice(draws(SHARES, 6), 20_000))


def test_each_row_is_about_the_model_that_its_lane_drew_last(tmp_path):
    whole = MixRecorder(iter([1, 0, 1]))
    drawn = iter([0, 1, 1, 0])
    lanes = [MixLane([iter("aaaa"), iter("bbbb")], drawn) for _ in range(2)]
    recorders = [lane.recorder(whole) for lane in lanes]
    assert [next(lanes[0]), next(lanes[1])] == ["a", "b"]
    recorders[1].add(20, 20, 21, 22, recorders[1].code("timeout"))
    recorders[0].add(10, 10, 11, 12, 0)
    whole.add(5, -1, -1, 6, whole.code("connection refused"))
    whole.drop(30)
    columns = whole.columns(0)
    assert columns.scheduled_ns.tolist() == [5, 10, 20]
    assert columns.model.tolist() == [1, 0, 1]
    assert columns.dropped_model.tolist() == [0]
    columns.save(tmp_path / "rows.npz")
    again = Columns.load(tmp_path / "rows.npz")
    assert (again.model.tolist(), again.dropped_model.tolist()) == ([1, 0, 1], [0])


def test_the_result_is_taken_apart_by_model():
    profile = msgspec.structs.replace(recorded.OPEN, model="a", mix=SHARES)
    due = np.arange(400, dtype=np.int64) * 10_000_000
    model = (np.arange(400) % 4 == 3).astype(np.uint8)
    seen = due, due + 1_000_000 + 4_000_000 * model.astype(np.int64)
    columns = recorded.columns(seen, failures={3: "timeout"}, dropped_ns=np.array([5, 6, 7]))
    columns = replace(columns, model=model, dropped_model=np.array([1, 0, 1], dtype=np.uint8))
    result = summarize(profile, columns, recorded.facts(4 * 10**9))
    first, second = result.by_model
    assert (first.model, second.model, second.version) == ("a", "b", "2")
    assert (first.request_count, second.request_count) == (300, 100)
    assert first.request_count + second.request_count == result.request_count
    assert (first.throughput.per_second, second.throughput.per_second) == (pytest.approx(75), pytest.approx(24.75))
    assert (first.response.max_ns, second.response.min_ns) == (1_000_000, 5_000_000)
    assert (first.failures, second.failures) == ({}, {"timeout": 1})
    assert (first.dropped_count, second.dropped_count) == (1, 2)

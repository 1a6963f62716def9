"""A load cut into shares, and their rows put together again."""

from array import array
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_client.errors import LoadError
from perf_client.loads import Concurrency, PeriodicConcurrency, RequestRate
from perf_client.profile import LoadProfile
from perf_client.record import NEVER, OK, Columns, Recorder, RunFacts
from perf_client.share import WHOLE, Share, check_workers, joined_columns, joined_facts

COUNTS = st.integers(1, 7)


def shares(count: int) -> list[Share]:
    return [Share(index, count) for index in range(count)]


@given(st.lists(st.integers()), COUNTS)
def test_a_row_is_dealt_out_without_loss(row: list[int], count: int):
    parts = [list(share.of(row)) for share in shares(count)]
    assert [parts[place % count][place // count] for place in range(len(row))] == row


@given(st.integers(0, 10**6), COUNTS)
def test_a_number_is_dealt_out_evenly(number: int, count: int):
    parts = [share.of_number(number) for share in shares(count)]
    assert sum(parts) == number
    assert max(parts) - min(parts) <= 1


@given(st.integers(1, 12), COUNTS, st.integers(1, 40))
def test_together_they_go_round_the_pool_as_one_would(size: int, count: int, requests: int):
    pool = list(range(size))
    parts = [share.of_pool(pool) for share in shares(count)]
    sent = [parts[turn % count][turn // count % len(parts[turn % count])] for turn in range(requests)]
    assert sent == [turn % size for turn in range(requests)]


def closed(in_flight: int, **changes) -> LoadProfile:
    return LoadProfile(model="m", load=Concurrency(in_flight=in_flight), **changes)


def test_a_closed_loop_shares_slots_and_count():
    profile = closed(5, request_count=11, workers=2)
    parts = [share.of_profile(profile) for share in shares(2)]
    assert [(part.load.in_flight, part.request_count, part.workers) for part in parts] == [(3, 6, 1), (2, 5, 1)]


def test_an_open_loop_shares_its_cap_and_keeps_its_schedule_whole():
    profile = LoadProfile(model="m", load=RequestRate(per_second=9.0, max_in_flight=5), request_count=7, workers=2)
    parts = [share.of_profile(profile) for share in shares(2)]
    assert [(part.load.max_in_flight, part.load.per_second, part.request_count) for part in parts] == [
        (3, 9.0, 7),
        (2, 9.0, 7),
    ]


def test_the_whole_is_the_profile_itself():
    profile = closed(5, request_count=11)
    assert WHOLE.of_profile(profile) == profile


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        (closed(2, workers=3), "3 workers can't share a load of 2; use --workers 2"),
        (closed(4, request_count=1, workers=2), "can't share a load of 1; use --workers 1"),
        (
            LoadProfile(model="m", load=RequestRate(per_second=9.0, max_in_flight=1), workers=2),
            "can't share a load of 1",
        ),
        (
            LoadProfile(model="m", load=PeriodicConcurrency(start=1, end=2, step=1, period=10), workers=2),
            "neither sequences nor",
        ),
    ],
)
def test_what_cant_be_shared_is_a_sentence(profile: LoadProfile, sentence: str):
    with pytest.raises(LoadError, match=sentence) as caught:
        check_workers(profile)
    assert caught.value.exit_code == 2


Row = tuple[int, int, str]
ROWS = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 3), st.sampled_from(["", "timeout", "http 500"])))


def recorded(rows: list[Row]) -> Columns:
    recorder = Recorder()
    for due_ns, answers, failure in rows:
        recorder.add_answers(array("q", [due_ns + number for number in range(answers)]), tokens=answers)
        recorder.add(
            due_ns, NEVER if failure else due_ns, due_ns, due_ns + 1, recorder.code(failure) if failure else OK
        )
        if failure == "timeout":
            recorder.drop(due_ns)
    return recorder.columns(0)


def as_rows(columns: Columns) -> list[tuple]:
    assert columns.answers is not None
    ends = columns.answers.count.cumsum()
    return [
        (
            int(columns.scheduled_ns[row]),
            int(columns.sent_ns[row]),
            columns.failure_names[columns.failure[row]],
            tuple(columns.answers.at_ns[ends[row] - columns.answers.count[row] : ends[row]].tolist()),
            int(columns.answers.tokens[row]),
        )
        for row in range(len(columns))
    ]


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_joined_rows_are_those_that_one_process_would_have(parts: list[list[Row]]):
    parts = [part or [(0, 1, "")] for part in parts]
    joined = joined_columns([recorded(part) for part in parts])
    alone = recorded([row for part in parts for row in part])
    assert sorted(as_rows(joined)) == sorted(as_rows(alone))
    assert (np.diff(joined.scheduled_ns) >= 0).all()
    assert sorted(joined.dropped_ns) == sorted(alone.dropped_ns)


def test_parts_without_answers_of_their_own_have_none_together():
    recorder = Recorder()
    recorder.add(1, 1, 2, 3, OK)
    assert joined_columns([recorder.columns(0)] * 2).answers is None


FACTS = RunFacts(start_ns=5, started_unix_ns=7, ended_ns=100, cpu_s=1.0, wall_s=2.0, loop_stall_max_ns=10)


def test_facts_are_summed_or_the_worst():
    other = replace(
        FACTS,
        ended_ns=120,
        cpu_s=1.8,
        loop_stall_max_ns=30,
        incomplete=True,
        incomplete_reason="why",
        failure_examples={"a": "second", "b": "only"},
        waited_for_slot=3,
    )
    joined = joined_facts([replace(FACTS, failure_examples={"a": "first"}), other])
    assert (joined.start_ns, joined.ended_ns, joined.cpu_s, joined.wall_s) == (5, 120, pytest.approx(2.8), 2.0)
    assert (joined.busiest_cpu_ratio, joined.loop_stall_max_ns) == (pytest.approx(0.9), 30)
    assert (joined.incomplete, joined.incomplete_reason, joined.waited_for_slot) == (True, "why", 3)
    assert joined.failure_examples == {"a": "first", "b": "only"}


def test_a_share_is_a_line_of_json():
    assert msgspec.json.decode(msgspec.json.encode(Share(1, 3)), type=Share) == Share(1, 3)

"""Times of several answers a request: kept, put in order, cut, summarized, written and read."""

from array import array
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_client.answer_summary import answer_summary
from perf_client.answer_times import NOT_SAID, AnswerLog, AnswerTimes
from perf_client.estimate import PERCENTS
from perf_client.parts import Counted
from perf_client.record import OK, Columns, Recorder

LISTS = st.lists(st.lists(st.integers(0, 10**6), max_size=4).map(sorted), max_size=8)


def frozen(lists: list[list[int]]) -> AnswerTimes:
    log = AnswerLog()
    for row, times in enumerate(lists):
        log.add(row, array("q", times), len(times))
    return log.frozen(len(lists), 0)


def thawed(answers: AnswerTimes) -> list[list[int]]:
    ends = answers.count.cumsum()
    return [answers.at_ns[end - count : end].tolist() for end, count in zip(ends, answers.count)]


@given(LISTS, st.randoms(use_true_random=False))
def test_any_order_keeps_each_requests_answers_together(lists: list[list[int]], chance):
    order = list(range(len(lists)))
    chance.shuffle(order)
    moved = frozen(lists).reordered(np.array(order, dtype=np.intp))
    assert thawed(moved) == [lists[row] for row in order]


@given(LISTS, st.data())
def test_a_choice_keeps_the_answers_of_the_chosen(lists: list[list[int]], data):
    chosen = data.draw(st.lists(st.booleans(), min_size=len(lists), max_size=len(lists)))
    kept = frozen(lists).of(np.array(chosen, dtype=bool))
    assert thawed(kept) == [times for times, keep in zip(lists, chosen) if keep]


@given(LISTS)
def test_first_last_and_gaps_are_those_of_each_request(lists: list[list[int]]):
    answers = frozen(lists)
    answered = [times for times in lists if times]
    assert answers.first_ns().tolist() == [times[0] for times in answered]
    assert answers.last_ns().tolist() == [times[-1] for times in answered]
    assert answers.gaps_ns().tolist() == [int(gap) for times in answered for gap in np.diff(times)]


@given(LISTS, LISTS)
def test_parts_are_joined_in_their_order(left: list[list[int]], right: list[list[int]]):
    assert thawed(AnswerTimes.joined([frozen(left), frozen(right)])) == left + right


def recorded() -> Columns:
    """Rows out of order: due at 200, 100 and 300, the last one failed."""
    recorder = Recorder()
    recorder.add_answers(array("q", [1250, 1270, 1280]), tokens=7)
    recorder.add(1200, 1210, 1250, 1280, OK)
    recorder.add_answers(array("q", [1150]), tokens=2)
    recorder.add(1100, 1110, 1150, 1160, OK)
    recorder.add(1300, 1310, 1320, 1330, recorder.code("timeout"))
    return recorder.columns(1000)


def test_answers_follow_their_rows():
    answers = recorded().answers
    assert answers is not None
    assert thawed(answers) == [[150], [250, 270, 280], []]
    assert answers.tokens.tolist() == [2, 7, NOT_SAID]


def test_they_are_written_and_read(tmp_path: Path):
    recorded().save(tmp_path / "rows.npz")
    answers = Columns.load(tmp_path / "rows.npz").answers
    assert answers is not None
    assert thawed(answers) == [[150], [250, 270, 280], []]


def test_rows_with_one_answer_each_have_none_of_their_own(tmp_path: Path):
    recorder = Recorder()
    recorder.add(1, 1, 2, 3, OK)
    recorder.columns(0).save(tmp_path / "rows.npz")
    assert Columns.load(tmp_path / "rows.npz").answers is None


def test_a_summary_counts_what_the_window_counts():
    columns = recorded()
    all_rows = Counted(0, 1000, np.ones(3, dtype=bool))
    whole = answer_summary(columns, all_rows, PERCENTS)
    assert whole is not None
    assert (whole.answer_count, whole.output_token_count) == (4, 9)
    assert whole.first_answer.mean_ns == pytest.approx((40 + 40) / 2)
    assert whole.last_answer.max_ns == 70
    assert (whole.between_answers.count, whole.between_answers.max_ns) == (2, 20)
    assert whole.answers_per_second.per_second == pytest.approx(4 / 1e-6)
    assert whole.output_tokens_per_second.per_second == pytest.approx(9 / 1e-6)
    first = answer_summary(columns, Counted(0, 200, columns.scheduled_ns < 200), PERCENTS)
    assert (first.answer_count, first.output_token_count, first.between_answers) == (1, 2, None)

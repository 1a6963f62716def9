from collections import deque
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.runtime.batcher import NOTHING, Batch, BatchPolicy, Decision, Wait, decide


@dataclass
class Queued:
    rows: int
    queued_ns: int = 0
    shape_key: object = None


def queue_of(*rows: int) -> list[Queued]:
    return [Queued(size) for size in rows]


DELAYED = BatchPolicy(max_batch_size=16, dynamic=True, preferred_sizes=(4, 8), max_delay_ns=100)
EAGER = BatchPolicy(max_batch_size=16, dynamic=True, preferred_sizes=(4, 8))
PLAIN = BatchPolicy(max_batch_size=8, dynamic=True)
PLAIN_DELAYED = BatchPolicy(max_batch_size=8, dynamic=True, max_delay_ns=100)
OFF = BatchPolicy(max_batch_size=8, dynamic=False)


@pytest.mark.parametrize(
    ("policy", "rows", "now_ns", "expected"),
    [
        pytest.param(DELAYED, (), 0, NOTHING, id="empty queue"),
        pytest.param(OFF, (2, 2), 0, Batch(1), id="without dynamic batching each goes alone"),
        pytest.param(PLAIN, (1, 1, 1), 0, Batch(3), id="without delay all that waits goes"),
        pytest.param(PLAIN, (1,) * 9, 0, Batch(8), id="never over the maximum"),
        pytest.param(PLAIN, (5, 4), 0, Batch(1), id="the next does not fit"),
        pytest.param(PLAIN_DELAYED, (1, 1), 99, Wait(100, 8), id="partial batch waits for its delay"),
        pytest.param(PLAIN_DELAYED, (1, 1), 100, Batch(2), id="partial batch leaves when the delay expires"),
        pytest.param(PLAIN_DELAYED, (4, 4), 0, Batch(2), id="a full batch leaves at once"),
        pytest.param(PLAIN_DELAYED, (5, 4), 0, Batch(1), id="a batch that cannot grow leaves at once"),
        pytest.param(DELAYED, (1,) * 3, 10, Wait(100, 4), id="below the first preferred size"),
        pytest.param(DELAYED, (1,) * 4, 10, Batch(4), id="preferred size reached"),
        pytest.param(DELAYED, (1,) * 6, 10, Batch(4), id="largest preferred size met"),
        pytest.param(DELAYED, (1,) * 9, 10, Batch(8), id="the larger preferred size wins"),
        pytest.param(DELAYED, (1,) * 9, 100, Batch(9), id="expired: all that fits"),
        pytest.param(DELAYED, (3, 2), 10, Wait(100, 8), id="stepped over the smaller one"),
        pytest.param(DELAYED, (7, 2), 10, Batch(1), id="stepped over the largest: just below it"),
        pytest.param(EAGER, (1,) * 3, 0, Batch(3), id="without delay preferred sizes hold nothing back"),
        pytest.param(EAGER, (1,) * 6, 0, Batch(4), id="without delay the preferred part goes first"),
        pytest.param(DELAYED, (12,), 0, Batch(1), id="a request larger than preferred goes alone"),
        pytest.param(DELAYED, (20,), 0, Batch(1), id="an oversized request is not stuck"),
    ],
)
def test_decision_table(policy: BatchPolicy, rows: tuple[int, ...], now_ns: int, expected: Decision):
    assert decide(policy, queue_of(*rows), now_ns, 1) == expected


def test_nothing_is_decided_while_all_instances_are_busy():
    assert decide(PLAIN, queue_of(1, 1), 0, 0) == NOTHING


def test_requests_of_another_shape_close_the_batch():
    queue = [Queued(1, shape_key=(3,)), Queued(1, shape_key=(3,)), Queued(1, shape_key=(5,))]
    assert decide(PLAIN_DELAYED, queue, 0, 1) == Batch(2)


policies = st.builds(
    lambda maximum, dynamic, preferred, delay: BatchPolicy(
        max_batch_size=maximum,
        dynamic=dynamic,
        preferred_sizes=tuple(sorted({size for size in preferred if size <= maximum})),
        max_delay_ns=delay,
    ),
    st.integers(1, 12),
    st.booleans(),
    st.lists(st.integers(1, 12), max_size=3),
    st.sampled_from([0, 1, 50, 400]),
)
arrivals = st.lists(st.tuples(st.integers(0, 120), st.integers(1, 12), st.sampled_from("ab")), max_size=30)


@given(policies, arrivals, st.integers(1, 3), st.integers(0, 200))
def test_nothing_is_lost_reordered_oversized_or_late(policy, arrivals, instance_count, service_ns):
    """Simulates a server on a fake clock that jumps from event to event."""
    coming: deque[Queued] = deque()
    now_ns = 0
    for gap_ns, rows, key in arrivals:
        now_ns += gap_ns
        coming.append(Queued(min(rows, policy.max_batch_size), now_ns, key))
    wanted = list(coming)
    queue: deque[Queued] = deque()
    busy_until_ns: list[int] = []
    sent: list[Queued] = []
    now_ns = 0
    while coming or queue:
        busy_until_ns = [end for end in busy_until_ns if end > now_ns]
        while coming and coming[0].queued_ns <= now_ns:
            queue.append(coming.popleft())
        idle = instance_count - len(busy_until_ns)
        decision = decide(policy, queue, now_ns, idle)
        if isinstance(decision, Batch):
            batch = [queue.popleft() for _ in range(decision.count)]
            assert batch
            assert len(batch) == 1 or policy.dynamic
            assert sum(item.rows for item in batch) <= policy.max_batch_size
            assert len({item.shape_key for item in batch}) == 1
            sent += batch
            busy_until_ns.append(now_ns + service_ns)
            continue
        if queue and idle:
            assert isinstance(decision, Wait)
            assert now_ns < decision.until_ns <= queue[0].queued_ns + policy.max_delay_ns
            assert decision.until_rows > sum(item.rows for item in queue)
        events = [*busy_until_ns, *(item.queued_ns for item in list(coming)[:1])]
        if isinstance(decision, Wait):
            events.append(decision.until_ns)
        now_ns = min(events)
    assert [id(item) for item in sent] == [id(item) for item in wanted]


@given(policies, st.lists(st.tuples(st.integers(1, 12), st.sampled_from("ab")), min_size=1, max_size=12))
def test_waiting_holds_until_the_rows_it_names(policy, items):
    """While a Wait stands, more requests of the same shape change nothing before ``until_rows`` are queued."""
    queue = [Queued(min(rows, policy.max_batch_size), 0, "a") for rows, _ in items]
    decision = decide(policy, queue[:1], 0, 1)
    rows = queue[0].rows
    for count in range(2, len(queue) + 1):
        if not isinstance(decision, Wait):
            return
        rows += queue[count - 1].rows
        later = decide(policy, queue[:count], 0, 1)
        if rows < decision.until_rows:
            assert isinstance(later, Wait)
        decision = later

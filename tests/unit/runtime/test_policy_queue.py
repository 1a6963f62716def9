from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.runtime.in_order import InOrder
from analyzer.runtime.policy_queue import PolicyQueue, QueueFull, QueuePolicies, QueuePolicy, WrongParameter
from analyzer.runtime.request import ErrorKind, InferError, InferResponse


@dataclass
class Item:
    name: int
    queued_ns: int = 0
    parameters: dict[str, object] = field(default_factory=dict)


def names(queue: PolicyQueue[Item]) -> list[int]:
    return [item.name for item in queue]


def test_higher_levels_go_first_and_unknown_ones_count_as_the_default():
    queue: PolicyQueue[Item] = PolicyQueue(QueuePolicies((QueuePolicy(),) * 3, default_level=2))
    for name, priority in enumerate([3, 0, 1, 2, 9, 1]):
        queue.append(Item(name, parameters={"priority": priority}))
    assert names(queue) == [2, 5, 1, 3, 4, 0]
    assert queue[0].name == 2
    assert [queue.popleft().name for _ in range(6)] == [2, 5, 1, 3, 4, 0]
    with pytest.raises(IndexError):
        queue.popleft()


@pytest.mark.parametrize(
    ("policy", "wanted_us", "expected"),
    [
        (QueuePolicy(), 0, 0),
        (QueuePolicy(), 5, 0),
        (QueuePolicy(may_override=True), 5, 5_100),
        (QueuePolicy(9_000), 0, 9_100),
        (QueuePolicy(9_000), 5, 9_100),
        (QueuePolicy(9_000, may_override=True), 5, 5_100),
        (QueuePolicy(9_000, may_override=True), 50, 9_100),
    ],
)
def test_request_can_only_shorten_its_timeout(policy, wanted_us, expected):
    assert policy.expires_ns(100, wanted_us) == expected


def test_late_request_is_rejected_or_served_after_the_rest_of_its_level():
    policies = QueuePolicies((QueuePolicy(10), QueuePolicy(10, delays=True)), default_level=2)
    queue: PolicyQueue[Item] = PolicyQueue(policies)
    queue.append(Item(1, 0, {"priority": 1}))
    queue.append(Item(2, 0))
    queue.append(Item(3, 5))
    assert queue.expire(9) == ([], 10)
    rejected, next_ns = queue.expire(10)
    assert ([item.name for item in rejected], next_ns) == ([1], 15)
    assert names(queue) == [3, 2]


def test_level_that_is_full_takes_no_more():
    queue: PolicyQueue[Item] = PolicyQueue(QueuePolicies((QueuePolicy(max_size=1), QueuePolicy()), default_level=1))
    queue.append(Item(1))
    queue.append(Item(2, parameters={"priority": 2}))
    with pytest.raises(QueueFull):
        queue.append(Item(3))
    queue.popleft()
    queue.append(Item(4))


@pytest.mark.parametrize("parameters", [{"priority": -1}, {"priority": "1"}, {"timeout": 1.5}, {"timeout": True}])
def test_priority_and_timeout_are_whole_numbers(parameters):
    queue: PolicyQueue[Item] = PolicyQueue(QueuePolicies((QueuePolicy(),)))
    with pytest.raises(WrongParameter):
        queue.append(Item(1, parameters=parameters))


LEVELS = st.lists(
    st.builds(QueuePolicy, st.sampled_from([0, 3, 9]), st.booleans(), st.booleans(), st.integers(0, 4)),
    min_size=1,
    max_size=3,
)


@given(LEVELS, st.lists(st.tuples(st.sampled_from(["add", "pop", "expire"]), st.integers(0, 4)), max_size=40))
def test_nothing_is_lost_and_the_head_is_what_pops(levels, moves):
    queue: PolicyQueue[Item] = PolicyQueue(QueuePolicies(tuple(levels)))
    waiting: set[int] = set()
    for now, (move, priority) in enumerate(moves):
        if move == "add":
            try:
                queue.append(Item(now, now, {"priority": priority, "timeout": 0}))
                waiting.add(now)
            except QueueFull:
                pass
        elif move == "pop" and waiting:
            head = queue[0]
            assert queue.popleft() is head
            waiting.remove(head.name)
        elif move == "expire":
            rejected, next_ns = queue.expire(now)
            waiting -= {item.name for item in rejected}
            assert next_ns is None or next_ns > now
        assert len(queue) == len(waiting)
        assert set(names(queue)) == waiting


@given(st.permutations(range(6)))
def test_answers_leave_in_the_order_of_their_requests(finished):
    order, got = InOrder(), []
    replies = [order.ticket(got.append) for _ in range(6)]
    for number in finished:
        replies[number](InferResponse("m", "1", str(number), {}))
    assert [answer.id for answer in got] == [str(number) for number in range(6)]


def test_stream_of_answers_keeps_its_turn():
    order, got = InOrder(), []
    first, second = order.ticket(got.append), order.ticket(got.append)
    second(InferError(ErrorKind.INTERNAL, "second"))
    first(InferResponse("m", "1", "a", {}, final=False))
    assert [answer.id for answer in got] == ["a"]
    first(InferResponse("m", "1", "b", {}))
    assert [getattr(answer, "id", "error") for answer in got] == ["a", "b", "error"]

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.runtime.seats import DirectPolicy, Seat, Seats, SequenceFault

IDLE_NS = 1_000


def seats(instances: int = 1, each: int = 2) -> Seats[str]:
    return Seats("m", instances, each, IDLE_NS)


def test_sequences_take_the_lowest_rows_of_all_instances_first():
    table = seats(instances=2, each=2)
    found = [table.arrive(number, "r", 0, start=True, end=False).seat for number in range(1, 6)]
    assert found == [Seat(0, 0), Seat(0, 1), Seat(1, 0), Seat(1, 1), None]


@pytest.mark.parametrize(
    ("identity", "start", "words"), [(0, True, "non-zero"), ("", True, "non-zero"), (7, False, "START")]
)
def test_request_without_id_or_start_is_refused(identity, start, words):
    with pytest.raises(SequenceFault, match=words):
        seats().arrive(identity, "r", 0, start=start, end=False)


def test_requests_of_one_sequence_are_ready_one_at_a_time():
    table = seats()
    sequence = table.arrive("a", "first", 0, start=True, end=False)
    table.arrive("a", "second", 0, start=False, end=True)
    assert table.take(sequence) == "first"
    assert list(table.ready(0)) == []
    table.executed(sequence, 1)
    assert list(table.ready(0)) == [sequence]
    assert table.take(sequence) == "second"
    table.executed(sequence, 2)
    assert table.seated(0) == {}


def test_sequence_in_line_takes_the_seat_of_one_that_ended():
    table = seats(each=1)
    first = table.arrive(1, "r", 0, start=True, end=True)
    second = table.arrive(2, "s", 0, start=True, end=False)
    assert second.seat is None
    table.take(first)
    table.executed(first, 1)
    assert second.seat == Seat(0, 0)
    assert first.seat is None


def test_idle_sequence_is_ended_and_a_busy_one_is_not():
    table = seats()
    idle = table.arrive(1, "r", 0, start=True, end=False)
    busy = table.arrive(2, "r", 0, start=True, end=False)
    for sequence in (idle, busy):
        table.take(sequence)
    table.executed(idle, 100)
    assert table.expire(100) == 100 + IDLE_NS
    assert table.expire(100 + IDLE_NS) is None
    assert table.seated(0) == {1: busy}
    with pytest.raises(SequenceFault, match="START"):
        table.arrive(1, "r", 101 + IDLE_NS, start=False, end=False)


def test_start_on_an_open_sequence_keeps_its_seat():
    table = seats()
    first = table.arrive(1, "r", 0, start=True, end=False)
    assert table.arrive(1, "s", 1, start=True, end=False) is first


def test_id_can_be_used_again_while_the_old_sequence_finishes():
    table = seats()
    first = table.arrive(1, "r", 0, start=True, end=True)
    second = table.arrive(1, "s", 0, start=True, end=True)
    assert first is not second
    assert {first.seat, second.seat} == {Seat(0, 0), Seat(1, 0)}


def test_what_waits_is_given_up():
    table = seats(each=1)
    table.arrive(1, "r", 0, start=True, end=False)
    table.arrive(2, "s", 0, start=True, end=False)
    assert sorted(table.abandon()) == ["r", "s"]


def starts(request: str) -> bool:
    return request == "start"


def test_sequences_of_a_lost_instance_need_a_start():
    table = seats(instances=2, each=1)
    lost = table.arrive("lost", "start", 0, start=True, end=False)
    kept = table.arrive("kept", "start", 0, start=True, end=False)
    for sequence in (lost, kept):
        table.take(sequence)
        table.executed(sequence, 1)
    table.arrive("lost", "second", 2, start=False, end=False)
    ((request, reason),) = table.lose(lost.seat.instance, starts)
    assert (request, table.seated(0)) == ("second", {})
    assert "must specify the START flag" in reason
    with pytest.raises(SequenceFault, match=r"START flag .*was lost with the process of its instance"):
        table.arrive("lost", "third", 3, start=False, end=False)
    table.arrive("kept", "second", 3, start=False, end=False)
    again = table.arrive("lost", "start", 4, start=True, end=False)
    assert (again.seat, list(table.lose(0, starts))) == (Seat(0, 0), [])  # it has not begun


def test_a_lost_sequence_goes_on_from_a_start_that_waits():
    table = seats(each=1)
    sequence = table.arrive("a", "start", 0, start=True, end=False)
    table.take(sequence)
    for request in ("second", "start", "fourth"):
        table.arrive("a", request, 1, start=request == "start", end=request == "fourth")
    assert [request for request, _ in table.lose(0, starts)] == ["second"]
    table.executed(sequence, 2)
    assert [table.take(sequence), list(sequence.requests)] == ["start", ["fourth"]]


def test_a_lost_sequence_that_has_ended_leaves_its_seat():
    table = seats(each=1)
    sequence = table.arrive("a", "start", 0, start=True, end=False)
    table.take(sequence)
    table.arrive("a", "end", 1, start=False, end=True)
    waiting = table.arrive("b", "start", 1, start=True, end=False)
    table.executed(sequence, 2)
    assert [request for request, _ in table.lose(0, starts)] == ["end"]
    assert table.seated(0) == {0: waiting}


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "take", "executed", "expire"]), st.integers(1, 5), st.booleans(), st.booleans()
    ),
    max_size=60,
)


@given(MOVES, st.integers(1, 2), st.integers(1, 3))
def test_every_request_is_executed_once_in_the_order_of_its_sequence(moves, instances, each):
    table: Seats[tuple[int, int]] = Seats("m", instances, each, IDLE_NS)
    accepted: list[tuple[int, int]] = []
    executed: list[tuple[int, int]] = []
    kept: list = []  # so that no two sequences have the same identity
    executing: list = []
    of_sequence: dict[int, list[int]] = {}  # the moves at which a sequence got its requests

    def step() -> None:
        for instance in range(instances):
            assert len(table.seated(instance)) <= each
            for index, sequence in table.seated(instance).items():
                assert sequence.seat == Seat(index, instance)

    for now, (move, number, start, end) in enumerate(moves):
        if move == "arrive":
            try:
                sequence = table.arrive(number, (number, now), now * 100, start=start, end=end)
                of_sequence.setdefault(id(sequence), []).append(now)
                kept.append(sequence)
                accepted.append((number, now))
            except SequenceFault:
                assert not start
        elif move == "take":
            for sequence in [item for instance in range(instances) for item in table.ready(instance)][:1]:
                executed.append(table.take(sequence))
                executing.append(sequence)
        elif move == "executed" and executing:
            table.executed(executing.pop(0), now * 100)
        elif move == "expire":
            table.expire(now * 100)
        step()
    late = 10**9
    while True:
        for sequence in executing:
            table.executed(sequence, late)
        ready = [item for instance in range(instances) for item in table.ready(instance)]
        executed += [table.take(sequence) for sequence in ready]
        executing = ready
        if not ready:
            late += 2 * IDLE_NS
            table.expire(late)
            if not any(list(table.ready(instance)) for instance in range(instances)):
                break
    assert sorted(executed) == sorted(accepted)
    order = {at: place for place, (_, at) in enumerate(executed)}
    for arrived in of_sequence.values():
        assert [order[at] for at in arrived] == sorted(order[at] for at in arrived)


@pytest.mark.parametrize(
    ("delay", "utilization", "ready", "now", "expected"),
    [
        (0, 1.0, 1, 0, None),
        (100, 0.0, 1, 0, None),
        (100, 0.5, 1, 0, 110),
        (100, 0.5, 2, 0, None),
        (100, 0.5, 1, 110, None),
    ],
)
def test_direct_batch_waits_for_its_seats_no_longer_than_its_delay(delay, utilization, ready, now, expected):
    assert DirectPolicy(4, delay, utilization).wait_until_ns(ready, 10, now) == expected

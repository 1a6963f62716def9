import asyncio
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.runtime.backends.base import Execution
from analyzer.runtime.instance import UNLOADED
from analyzer.runtime.options import parse_options
from analyzer.runtime.rate_limiter import LimitedCrew, RateLimiter
from analyzer.runtime.rate_policy import GLOBAL, Demand, RatePolicy, Ticket, UnmetDemand
from analyzer.runtime.request import InferRequest, InferResponse
from tests.fakes import repositories
from tests.fakes.opened_store import asked, opened_store

POOLS = [("memory", 0), ("memory", 1), ("slots", GLOBAL)]
_DEMANDS = st.builds(
    Demand, st.dictionaries(st.sampled_from(POOLS), st.integers(0, 5)), st.integers(min_value=1, max_value=4)
)


@given(st.lists(_DEMANDS, min_size=1, max_size=6), st.data())
def test_never_more_is_in_use_than_there_is(demands, data):
    limits = {("memory", None): 5, ("slots", None): data.draw(st.integers(5, 9))}
    policy = RatePolicy(limits)
    tickets = policy.add(demands)
    running: list[Ticket] = []
    for _ in range(data.draw(st.integers(0, 40))):
        if running and data.draw(st.booleans()):
            policy.release(running.pop(data.draw(st.integers(0, len(running) - 1))))
        else:
            policy.ask(data.draw(st.sampled_from(tickets)))
        running += policy.let_go()
        assert len(set(running)) == len(running)
        for pool in POOLS:
            held = sum(ticket.demand.resources.get(pool, 0) for ticket in running)
            assert held == policy.in_use(pool) <= policy.limit(pool)
    for ticket in running:
        policy.release(ticket)
    assert all(policy.in_use(pool) == 0 for pool in POOLS)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=2, max_size=6), st.randoms())
def test_turns_are_shared_by_priority_and_nobody_starves(wanted, random):
    """All ask all the time, of a resource that may only suffice for one; they end in any order."""
    policy = RatePolicy()
    tickets = policy.add([Demand({("slots", GLOBAL): amount}, priority) for amount, priority in wanted])
    turns: Counter[Ticket] = Counter()
    running: list[Ticket] = []
    for _ in range(400):
        for ticket in tickets:
            policy.ask(ticket)
        for ticket in policy.let_go():
            turns[ticket] += 1
            running.append(ticket)
            waiting = [other.account for other in tickets if not other.is_running]
            assert ticket.account - ticket.demand.priority <= min(waiting, default=ticket.account)
        policy.release(running.pop(random.randrange(len(running))))
    assert all(turns[ticket] > 0 for ticket in tickets)


@pytest.mark.parametrize(("priorities", "shares"), [((1, 1), (60, 60)), ((1, 2), (80, 40)), ((1, 2, 3), (66, 33, 22))])
def test_a_priority_of_two_gets_half_the_turns_of_one(priorities, shares):
    policy = RatePolicy()
    tickets = policy.add([Demand({("slots", GLOBAL): 1}, priority) for priority in priorities])
    turns: Counter[Ticket] = Counter()
    for _ in range(sum(shares)):
        for ticket in tickets:
            policy.ask(ticket)
        (ticket,) = policy.let_go()
        turns[ticket] += 1
        policy.release(ticket)
    assert [turns[ticket] for ticket in tickets] == pytest.approx(shares, abs=1)


def test_the_one_that_needs_much_is_not_overtaken_while_it_waits_for_it():
    policy = RatePolicy({("slots", None): 4})
    small, large, other = policy.add([Demand({("slots", GLOBAL): amount}) for amount in (1, 4, 1)])
    policy.ask(small)
    assert list(policy.let_go()) == [small]
    policy.ask(large)
    policy.ask(other)
    assert list(policy.let_go()) == []
    policy.release(small)
    assert list(policy.let_go()) == [large]
    policy.release(large)
    assert list(policy.let_go()) == [other]


def test_an_instance_that_comes_late_does_not_make_up_for_what_it_missed():
    policy = RatePolicy({("slots", None): 1})
    (early,) = policy.add([Demand({("slots", GLOBAL): 1})])
    for _ in range(1000):
        policy.ask(early)
        list(policy.let_go())
        policy.release(early)
    (late,) = policy.add([Demand({("slots", GLOBAL): 1})])
    order = []
    for _ in range(6):
        policy.ask(early)
        policy.ask(late)
        (ticket,) = policy.let_go()
        order.append(ticket)
        policy.release(ticket)
    assert order.count(early) == order.count(late) == 3


@pytest.mark.parametrize(
    ("stated", "pool", "limit"),
    [
        ({}, ("memory", 0), 3),
        ({}, ("memory", 1), 2),
        ({("memory", None): 7}, ("memory", 1), 7),
        ({("memory", None): 7, ("memory", 1): 5}, ("memory", 1), 5),
        ({("memory", None): 7, ("memory", 1): 5}, ("memory", 0), 7),
        ({("slots", 3): 6}, ("slots", GLOBAL), 6),
        ({}, ("slots", GLOBAL), 1),
        ({}, ("nobody", 0), 0),
    ],
)
def test_what_is_not_stated_is_the_most_that_anybody_asks_for(stated, pool, limit):
    policy = RatePolicy(stated)
    policy.add([Demand({("memory", 0): 3, ("slots", GLOBAL): 1}), Demand({("memory", 0): 1, ("memory", 1): 2})])
    assert policy.limit(pool) == limit


def test_demands_that_can_never_be_met_are_refused():
    policy = RatePolicy({("memory", None): 2})
    with pytest.raises(UnmetDemand, match="needs 3 of the resource 'memory', of which there are 2"):
        policy.add([Demand({("memory", 0): 3})])
    policy.add([Demand({("slots", GLOBAL): 1})])
    with pytest.raises(UnmetDemand, match="'slots' is global for one instance and of a device for another"):
        policy.add([Demand({("slots", 0): 1})])


def test_an_instance_that_goes_gives_back_what_it_holds():
    policy = RatePolicy({("slots", None): 1})
    first, second = policy.add([Demand({("slots", GLOBAL): 1})] * 2)
    policy.ask(first)
    policy.ask(second)
    assert list(policy.let_go()) == [first]
    policy.remove(first)
    assert list(policy.let_go()) == [second]
    policy.ask(first)
    assert list(policy.let_go()) == []


class ManualCrew:
    """One instance that executes until the test says it is done."""

    size = 1
    takes_device_tensors = False

    def __init__(self):
        self.running = []
        self.is_stopped = False

    def start(self, execution, on_done):
        self.running.append((execution, on_done))

    def finish(self):
        execution, on_done = self.running.pop()
        on_done(execution, [{} for _ in execution.requests])

    async def stop(self):
        self.is_stopped = True


def execution() -> Execution:
    return Execution([InferRequest("m", {}, 0)], [1])


def limited(limiter: RateLimiter, *demands: Demand) -> tuple[LimitedCrew, list[ManualCrew]]:
    crews = [ManualCrew() for _ in demands]
    return LimitedCrew(list(zip(limiter.admit(demands), crews)), limiter), crews


def test_models_that_share_a_resource_take_turns():
    limiter = RateLimiter(RatePolicy())
    one, (first,) = limited(limiter, Demand({("slots", GLOBAL): 1}))
    two, (second,) = limited(limiter, Demand({("slots", GLOBAL): 1}))
    done: list[str] = []
    for _ in range(2):
        one.start(execution(), lambda *_: done.append("one"))
        two.start(execution(), lambda *_: done.append("two"))
    for _ in range(4):
        assert len(first.running) + len(second.running) == 1
        (first if first.running else second).finish()
    assert done == ["one", "two", "one", "two"]


def test_instances_without_resources_run_at_the_same_time():
    limiter = RateLimiter(RatePolicy())
    crew, members = limited(limiter, Demand(), Demand())
    for _ in range(3):
        crew.start(execution(), lambda *_: None)
    assert [len(member.running) for member in members] == [1, 1]
    members[0].finish()
    assert [len(member.running) for member in members] == [1, 1]


def test_stopping_a_crew_fails_what_waits_and_lets_others_go():
    limiter = RateLimiter(RatePolicy())
    one, (first,) = limited(limiter, Demand({("slots", GLOBAL): 1}))
    two, (second,) = limited(limiter, Demand({("slots", GLOBAL): 1}))
    answers: list[object] = []
    for _ in range(2):
        one.start(execution(), lambda _, given: answers.append(given))
    two.start(execution(), lambda *_: None)
    assert (len(first.running), len(second.running)) == (1, 0)
    asyncio.run(one.stop())
    assert (answers, first.is_stopped, len(second.running)) == ([[UNLOADED]], True, 1)
    first.finish()
    second.finish()


GROUP = """
instance_group {{ count: 2 rate_limiter {{ priority: 2 resources {{ name: "slots" global: true count: {count} }} }} }}
"""


def test_a_server_with_a_rate_limiter_answers_every_request(tmp_path: Path):
    for name, parameters in (("quick", {}), ("slow", {"service_us": 200})):
        repositories.write_simulated(tmp_path, name, parameters=parameters, extra=GROUP.format(count=1))
    repositories.write_simulated(tmp_path, "greedy", extra=GROUP.format(count=3))
    array = np.zeros((1, 4), np.float32)

    async def run() -> None:
        policy = RatePolicy({("slots", None): 2})
        async with opened_store(tmp_path, limiter=RateLimiter(policy)) as store:
            reasons = {entry.name: entry.reason for entry in store.index() if entry.state != "READY"}
            assert list(reasons) == ["greedy"]
            assert "needs 3 of the resource 'slots', of which there are 2" in reasons["greedy"]
            answers = [asked(store, ("quick", "slow")[number % 2], {"INPUT0": array}) for number in range(60)]
            assert all(isinstance(answer, InferResponse) for answer in await asyncio.gather(*answers))
            assert policy.in_use(("slots", GLOBAL)) == 0
            await store.load("slow")
            await store.unload("quick")

    asyncio.run(run())


@pytest.mark.parametrize(
    ("flags", "limits"),
    [
        ([], {}),
        (["--rate-limit-resource", "a:3", "--rate-limit-resource", "b:4:1"], {("a", None): 3, ("b", 1): 4}),
    ],
)
def test_limits_are_read_from_the_command_line(flags, limits):
    options = parse_options(["--model-repository", "m", "--rate-limit", "execution_count", *flags])
    assert (options.rate_limit, options.resource_limits) == ("execution_count", limits)


@pytest.mark.parametrize("text", ["a", "a:", ":3", "a:x", "a:1:2:3", "a:-1"])
def test_limits_that_are_none_are_refused(text, capsys):
    with pytest.raises(SystemExit):
        parse_options(["--model-repository", "m", "--rate-limit-resource", text])
    assert "give NAME:COUNT or NAME:COUNT:DEVICE" in capsys.readouterr().err

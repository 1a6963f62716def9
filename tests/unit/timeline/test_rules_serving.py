"""Rules that the runtime's own spans are enough for: steps, queues, batches, instances. And blame that moves."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.domain.finding import Abstained, Finding, Quiet
from analyzer.domain.thresholds import DEFAULTS, names, thresholds
from analyzer.timeline.kinds import Kind
from analyzer.timeline.rules.case import Alone, Case, ModelFacts
from analyzer.timeline.rules.diagnose import diagnose
from analyzer.timeline.rules.instances import serialised
from analyzer.timeline.rules.queueing import queue_bound, underfilled
from analyzer.timeline.rules.steps import step_gap
from analyzer.timeline.table import Meta
from tests.fakes.outcomes import measurement, run_config, server_config
from tests.fakes.timelines import Scene, ensemble_scene, instances_scene

MS = 1_000_000
ONE = {"m": ModelFacts(instance_count=1, max_batch_size=1)}


def queued(wait: int, *, count: int = 50, busy: bool = True, size: int = 1) -> Scene:
    """Requests that wait so long for an execution of 1 ms. ``busy``: because the instance is at work all the time."""
    scene = Scene()
    period = MS if busy else wait + 10 * MS
    for number in range(count):
        begin = number * period + wait
        for member in range(size):
            request = number * size + member
            scene.request(request, begin - wait, begin + MS).queue(request, begin - wait, begin)
        scene.batch(number, [number * size + member for member in range(size)], begin, begin + MS)
    return scene


def of(scene: Scene, **facts: object) -> Case:
    return Case(timeline=scene.timeline(), models={"m": ModelFacts(**facts)})


def test_a_gap_between_steps_is_blamed_with_the_time_it_costs():
    found = step_gap(Case(timeline=ensemble_scene(450_000).timeline()), DEFAULTS)
    assert isinstance(found, Finding)
    assert found.recoverable_ms == pytest.approx(0.45)
    assert found.share_ratio == pytest.approx(0.45 / 2.55, rel=1e-3)
    assert found.numbers["median_gap_us"] == 450
    assert "first" in found.evidence
    assert "second" in found.evidence


@pytest.mark.parametrize("gap", [0, 20_000, 100_000])
def test_a_gap_below_the_limit_is_not_blamed(gap: int):
    assert isinstance(step_gap(Case(timeline=ensemble_scene(gap).timeline()), DEFAULTS), Quiet)


def test_a_long_gap_that_is_a_small_part_of_the_request_is_not_blamed():
    slow = ensemble_scene(450_000, step_ns=20 * MS).timeline()
    assert isinstance(step_gap(Case(timeline=slow), DEFAULTS), Quiet)


def test_gaps_between_ranges_are_judged_where_there_are_no_steps():
    scene = Scene()
    for number in range(20):
        at = number * 10 * MS
        scene.add(Kind.RANGE, "request", at, at + 4 * MS, thread=1)
        scene.add(Kind.RANGE, "decode", at, at + MS, thread=1)
        scene.add(Kind.RANGE, "infer", at + 2 * MS, at + 4 * MS, thread=1)
    found = step_gap(Case(timeline=scene.timeline()), DEFAULTS)
    assert isinstance(found, Finding)
    assert found.basis == "capture"
    assert found.numbers["gap_share_ratio"] == pytest.approx(0.25)


def test_a_full_queue_behind_a_busy_instance_wants_capacity():
    found = queue_bound(of(queued(5 * MS), instance_count=1), DEFAULTS)
    assert isinstance(found, Finding)
    assert found.change == "instance_group [ { count: 2 } ]"
    assert found.numbers["instances_busy_ratio"] > 0.8
    assert "busy" in found.evidence


def test_a_queue_before_a_free_instance_wants_a_shorter_delay():
    found = queue_bound(of(queued(5 * MS, busy=False), instance_count=1, queue_delay_us=5000), DEFAULTS)
    assert isinstance(found, Finding)
    assert found.change == "dynamic_batching { max_queue_delay_microseconds: 1250 }"
    assert found.recoverable_ms == pytest.approx(5.0)
    assert "although an instance is free" in found.evidence


def test_without_a_delay_nobody_is_told_to_shorten_one():
    found = queue_bound(of(queued(5 * MS, busy=False), instance_count=1, queue_delay_us=0), DEFAULTS)
    assert isinstance(found, Finding)
    assert "No delay holds them back" in found.action
    assert found.change == ""
    assert "delay" not in found.check
    unknown = queue_bound(of(queued(5 * MS, busy=False), instance_count=1), DEFAULTS)
    assert isinstance(unknown, Finding)
    assert "a delay, or preferred sizes" in unknown.action


def test_a_short_queue_is_not_blamed():
    assert isinstance(queue_bound(of(queued(MS // 2), instance_count=1), DEFAULTS), Quiet)


def test_a_queue_is_judged_by_the_servers_statistics_alone():
    asked = run_config(server_config(1, 8, False), 32)
    found = queue_bound(Case(measurement=measurement(asked), models={"synthetic": ModelFacts(1)}), DEFAULTS)
    assert isinstance(found, Finding)
    assert found.model == "synthetic"
    assert found.numbers["mean_queue_depth"] > 8


def test_single_requests_out_of_a_deep_queue_want_a_batcher():
    facts = {"instance_count": 1, "max_batch_size": 8, "dynamic_batching": False}
    found = underfilled(of(queued(20 * MS), **facts), DEFAULTS)
    assert isinstance(found, Finding)
    assert found.change == "dynamic_batching { }"
    assert found.numbers["fill_ratio"] == pytest.approx(1 / 8)


def test_batches_whose_time_was_up_want_a_shorter_delay():
    facts = {"instance_count": 1, "max_batch_size": 8, "dynamic_batching": True, "queue_delay_us": 3000}
    found = underfilled(of(queued(3 * MS, busy=False, size=2), **facts), DEFAULTS)
    assert isinstance(found, Finding)
    assert found.numbers["timer_ratio"] == 1.0
    assert found.recoverable_ms == pytest.approx(3.0)
    assert found.change == "dynamic_batching { max_queue_delay_microseconds: 750 }"


@pytest.mark.parametrize(
    ("size", "facts"),
    [
        (4, {"max_batch_size": 8, "queue_delay_us": 3000}),
        (1, {"max_batch_size": 8}),
        (1, {"max_batch_size": 1}),
        (2, {"max_batch_size": 64, "preferred_batch_sizes": (4,), "queue_delay_us": 3000}),
    ],
)
def test_batches_that_are_full_enough_or_could_not_be_fuller_are_not_blamed(size: int, facts: dict[str, object]):
    scene = queued(3 * MS, busy=False, size=size)
    assert isinstance(underfilled(of(scene, instance_count=1, **facts), DEFAULTS), Quiet)


@pytest.mark.parametrize("kernels", [False, True])
def test_instances_that_take_turns_are_blamed(kernels: bool):
    found = serialised(Case(timeline=instances_scene(2.0, kernels=kernels).timeline()), DEFAULTS)
    assert isinstance(found, Finding)
    assert found.numbers["slowdown"] == pytest.approx(2.0)
    assert found.change == "instance_group [ { count: 1 } ]"


@pytest.mark.parametrize("kernels", [False, True])
def test_instances_that_run_side_by_side_are_not_blamed(kernels: bool):
    found = serialised(Case(timeline=instances_scene(1.05, kernels=kernels).timeline()), DEFAULTS)
    assert isinstance(found, Quiet)


def test_instances_are_compared_with_another_measurement_where_none_ran_alone():
    asked = run_config(server_config(2, 8, True), 16)
    case = Case(measurement=measurement(asked), models={"synthetic": ModelFacts(2)})
    assert isinstance(serialised(case, DEFAULTS), Abstained)
    (load,) = case.loads
    like = {"synthetic": (Alone(load.mean_size or 0.0, load.execute_ns / 2e6),)}
    found = serialised(Case(measurement=case.measurement, models=case.models, alone=like), DEFAULTS)
    assert isinstance(found, Finding)
    assert found.numbers["slowdown"] == pytest.approx(2.0, rel=0.01)


def test_without_any_input_every_rule_abstains_and_says_what_it_would_need():
    found = diagnose(Case())
    assert [each.id for each in found.abstained] == [f"R{number}" for number in range(1, 13)]
    assert all(each.missing for each in found.abstained)
    assert (found.findings, found.quiet) == ((), ())


def test_nothing_is_called_well_on_a_device_that_was_not_watched():
    found = diagnose(Case(timeline=ensemble_scene(0).timeline()))
    assert {"R4", "R5", "R6", "R7", "R8", "R10", "R11", "R12"} <= {each.id for each in found.abstained}


def test_blame_follows_the_cause():
    gaps = diagnose(Case(timeline=ensemble_scene(900_000).timeline()))
    turns = diagnose(Case(timeline=instances_scene(2.0).timeline()))
    neither = diagnose(Case(timeline=ensemble_scene(10_000).timeline()))
    assert gaps.top is not None
    assert gaps.top.id == "R1"
    assert turns.top is not None
    assert turns.top.id == "R9"
    assert neither.top is None
    assert diagnose(Case(timeline=instances_scene(1.0).timeline())).top is None


def test_blame_moves_from_the_gap_to_the_queue_as_the_wait_grows():
    short = diagnose(Case(timeline=ensemble_scene(900_000, wait_ns=50_000).timeline()))
    long = diagnose(Case(timeline=ensemble_scene(900_000, wait_ns=9 * MS).timeline()))
    assert [each.id for each in short.findings] == ["R1"]
    assert long.findings[0].id == "R2"


@settings(deadline=None)
@given(st.integers(0, 4 * MS), st.integers(0, 4 * MS))
def test_a_longer_gap_never_costs_less(one: int, other: int):
    costs = [
        found.recoverable_ms if isinstance(found, Finding) else 0.0
        for gap in sorted((one, other))
        for found in [step_gap(Case(timeline=ensemble_scene(gap, requests=4).timeline()), DEFAULTS)]
    ]
    assert costs[0] <= costs[1]


@settings(deadline=None)
@given(st.floats(1.0, 4.0), st.floats(1.0, 4.0))
def test_instances_that_hinder_each_other_more_never_cost_less(one: float, other: float):
    costs = [
        found.recoverable_ms if isinstance(found, Finding) else 0.0
        for slowdown in sorted((one, other))
        for found in [serialised(Case(timeline=instances_scene(slowdown, requests=40).timeline()), DEFAULTS)]
    ]
    assert costs[0] <= costs[1]


@settings(deadline=None)
@given(st.integers(0, 3 * MS), st.floats(1, 5000), st.floats(1, 5000))
def test_a_higher_limit_never_finds_more(gap: int, one: float, other: float):
    case = Case(timeline=ensemble_scene(gap, requests=4).timeline())
    low, high = sorted((one, other))
    fires = [isinstance(step_gap(case, thresholds({"R1.gap_us": limit})), Finding) for limit in (low, high)]
    assert fires[0] >= fires[1]


def test_every_limit_has_a_name_and_can_be_changed():
    assert len(names()) >= 20
    for name in names():
        rule, _, field = name.partition(".")
        assert getattr(getattr(thresholds({name: 0.125}), rule), field) == 0.125


def test_a_share_of_time_is_never_above_one():
    found = diagnose(Case(timeline=queued(50 * MS).timeline(), models=ONE))
    assert found.findings
    assert all(0 < each.share_ratio <= 1 for each in found.findings)


def test_a_server_without_ensembles_has_no_gaps_between_steps():
    builder = queued(MS).build
    watched = builder.build(Meta(producer="test", collected=("request", "batch", "step", "stage")))
    assert isinstance(step_gap(Case(timeline=watched), DEFAULTS), Quiet)
    assert isinstance(step_gap(Case(timeline=queued(MS).timeline()), DEFAULTS), Abstained)

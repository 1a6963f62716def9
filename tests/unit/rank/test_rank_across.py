"""The best over several models is the one ranking of all their points."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.measurement import Outcome
from analyzer.rank.across import Across, OwnAnswer, rank_across
from analyzer.rank.rank import rank
from tests.fakes.outcomes import QueueModel, sweep

WANTED = (Objective(metric="throughput"),)
P99_20 = (Budget(metric="p99_latency_ms", limit=20.0),)
SLOW = QueueModel(fixed_ms=30, per_item_ms=4)


def own(model: str, outcomes: Sequence[Outcome], budgets: Sequence[Budget] = P99_20) -> OwnAnswer:
    return OwnAnswer(model=model, outcomes=tuple(outcomes), ranking=rank(outcomes, WANTED, budgets))


def across(*answers: OwnAnswer, budgets: Sequence[Budget] = P99_20) -> Across:
    return rank_across(answers, WANTED, budgets)


@settings(max_examples=25, deadline=None)
@given(fixed=st.floats(0.5, 8), per_item=st.floats(0.1, 3), noise=st.sampled_from([0.0, 0.03]), limit=st.floats(5, 60))
def test_the_order_of_all_holds_each_models_own(fixed: float, per_item: float, noise: float, limit: float):
    budgets = (Budget(metric="p99_latency_ms", limit=limit),)
    one = own("a", sweep(QueueModel(noise_ratio=noise), model="a"), budgets)
    two = own("b", sweep(QueueModel(fixed_ms=fixed, per_item_ms=per_item), model="b"), budgets)
    found = across(one, two, budgets=budgets)
    for answer in (one, two):
        of_model = [place.measurement for place in found.ordered if place.model == answer.model]
        assert of_model == list(answer.ranking.ordered)
    assert across(two, one, budgets=budgets).ordered == found.ordered


def test_a_model_without_an_answer_is_named_and_has_no_place():
    found = across(own("a", sweep(model="a")), own("slow", sweep(SLOW, model="slow")))
    assert [answer.model for answer in found.without] == ["slow"]
    assert {place.model for place in found.ordered} == {"a"}


def test_models_that_are_alike_tie_and_each_has_its_own_choice():
    found = across(own("a", sweep(model="a")), own("b", sweep(model="b")))
    assert {place.model for place in found.ordered if place.is_tied} == {"a", "b"}
    assert sorted(place.model for place in found.ordered if place.is_chosen) == ["a", "b"]


def test_a_best_that_stands_alone_is_tied_with_nobody():
    found = across(own("a", sweep(model="a")), own("slow", sweep(SLOW, model="slow")))
    assert not any(place.is_tied for place in found.ordered)


def test_limits_are_those_for_all_and_not_those_of_a_models_own_run():
    wide = (Budget(metric="p99_latency_ms", limit=500.0),)
    assert across(own("a", sweep(SLOW, model="a"), wide), budgets=wide).ordered
    assert not across(own("a", sweep(SLOW, model="a")), budgets=P99_20).ordered

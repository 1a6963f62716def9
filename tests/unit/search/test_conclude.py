"""Why a search has ended."""

from analyzer.domain.ledger import Candidate, LedgerEntry
from analyzer.domain.run import ModelVariant, ServerConfig
from analyzer.search.conclude import conclusion


def entry(state, instances: int, rule: str = "x", points: int = 1) -> LedgerEntry:
    server = ServerConfig(variants=(ModelVariant(model="m", instance_count=instances),))
    return LedgerEntry(candidate=Candidate(server=server), state=state, rule=rule, point_count=points)


def test_the_planner_s_own_reason_where_something_was_found():
    assert conclusion([entry("measured", 1)], True, "the whole grid is measured") == "the whole grid is measured"


def test_a_bound_on_points_is_told():
    assert conclusion([entry("measured", 1)], True, "x", 4) == "as many points as were allowed, 4, were measured"


def test_failures_of_all_that_was_tried_are_told_with_a_reason():
    entries = [entry("failed", 1, "out of memory"), entry("failed", 2, "died"), entry("skipped", 3, points=0)]
    expected = "each of the 2 configurations that was tried failed, such as: out of memory"
    assert conclusion(entries, False, "x") == expected
    assert conclusion(entries[:1], False, "x").startswith("the only configuration that was tried failed")


def test_limits_that_nothing_keeps_are_told():
    expected = "nothing that was measured keeps every limit, and the whole grid is measured"
    assert conclusion([entry("measured", 1)], False, "the whole grid is measured") == expected

"""Two captures compared per request: also of two servers, one of which was seen by another profiler."""

import pytest

from analyzer.errors import InputError
from analyzer.timeline.analyses.diff import diff
from analyzer.timeline.kinds import Kind
from analyzer.timeline.text import diff_lines
from tests.fakes.timelines import Scene


def served(requests: int, *, copies: int = 0) -> Scene:
    """Requests of 1,000, each a batch with one kernel of 300 and so many copies of 50."""
    scene = Scene()
    for number in range(requests):
        at = 2000 * number
        scene.request(number, at, at + 1000).queue(number, at, at + 100).batch(number, [number], at + 100, at + 900)
        scene.work(at + 100, at + 400, batch=number)
        for place in range(copies):
            scene.work(at + 500 + 60 * place, at + 550 + 60 * place, kind=Kind.MEMCPY, name="DtoH", batch=number)
    return scene


def captured(requests: int) -> Scene:
    """The same server as a profiler sees its NVTX ranges."""
    scene = Scene()
    for number in range(requests):
        at = 2000 * number
        scene.add(Kind.SPAN, "m:request", at, at + 1100).add(Kind.RANGE, "m:batch", at + 100, at + 900, thread=4)
        scene.work(at + 100, at + 400)
    return scene


def test_totals_are_of_one_request_so_that_captures_of_any_length_compare():
    found = diff(served(10).timeline(), served(40, copies=2).timeline())
    assert (found.per, found.count_a, found.count_b) == ("request", 10, 40)
    (kernel,) = found.kernels
    assert (kernel.totals, kernel.total_ratio) == ((300, 300), 1.0)
    (copy,) = found.copies
    assert (copy.a, copy.totals, copy.total_change) == (None, (0, 100), 100), "a copy that only one of them makes"
    names = {each.name for each in found.ranges}
    assert names == {"m:request", "m:batch", "m:queue", "m:compute_infer"}
    lines = [" ".join(line.split()) for line in diff_lines(found, "a", "b", 5)]
    assert "totals and counts are of one request: 10 in a, 40 in b" in lines
    assert "- 100 ns - - - 2 DtoH" in lines


def test_spans_of_the_runtime_are_compared_with_a_capture_of_its_ranges_by_name():
    found = diff(captured(5).timeline(), served(50).timeline(), ("m:request", "m:request"))
    ratios = {each.name: each.total_ratio for each in found.ranges if each.a and each.b}
    assert ratios == {"m:request": pytest.approx(1000 / 1100), "m:batch": 1.0}
    assert [each.total_ratio for each in found.kernels] == [1.0]


def test_ranges_that_stand_for_a_request_may_have_another_name_on_each_side():
    other = Scene()
    for number in range(4):
        other.add(Kind.RANGE, "infer", 1000 * number, 1000 * number + 900).work(1000 * number, 1000 * number + 150)
    found = diff(served(8).timeline(), other.timeline(), ("m:request", "infer"))
    assert (found.count_a, found.count_b, found.kernels[0].total_ratio) == (8, 4, 0.5)


def test_without_requests_on_both_sides_totals_are_of_the_captures():
    found = diff(captured(5).timeline(), served(50).timeline())
    assert (found.per, found.kernels[0].total_ratio) == ("", 10.0)


def test_a_range_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(InputError, match="no range 'nope' to divide by; it has m:batch"):
        diff(served(2).timeline(), served(2).timeline(), ("nope", "nope"))


def test_a_step_is_named_by_its_ensemble_as_its_range_is():
    scene = Scene().request(1, 0, 100, "chain")
    scene.add(Kind.STEP, "conv", 0, 50, "conv", request=1, step=1)
    assert "chain:conv" in {each.name for each in diff(scene.timeline(), scene.timeline()).ranges}

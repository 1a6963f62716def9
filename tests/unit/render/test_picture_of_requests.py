"""The picture of requests over time: one that takes far longer than the others does not hide them."""

from analyzer.render.timeline import picture
from tests.fakes.timelines import Scene

MS = 1_000_000


def served(longest: int, *, others: int = 19) -> str:
    scene = Scene()
    for number in range(others + 1):
        took = longest if number == 10 else MS
        at = number * MS // 2
        scene.request(number, at, at + took).batch(number, [number], at, at + took)
    return picture(scene.timeline())


def test_a_request_that_takes_far_longer_goes_beyond_the_edge_and_that_is_said():
    assert "Request 11 goes on beyond the right edge, until 105.0 ms" in served(100 * MS)


def test_the_axis_reaches_the_end_of_requests_that_are_a_little_longer():
    assert "beyond the right edge" not in served(2 * MS)
    assert "beyond the right edge" not in served(7 * MS), "it ends while others are expected to"

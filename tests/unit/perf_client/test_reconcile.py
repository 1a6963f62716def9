"""Our count of requests beside the server's."""

import msgspec
import numpy as np
import pytest

from perf_client.metrics_lines import count_lines
from perf_client.profile import CountCheck
from perf_client.reconcile import SLOP_NS, check_counts
from perf_client.record import ServerSample
from tests.fakes import recorded
from tests.fakes.load_results import SERVER

EACH_NS = 10_000_000
DUE = np.arange(100, dtype=np.int64) * EACH_NS
"""A request every 10 ms that takes 5 ms."""

ENDS_NS = 1_000_000_000


def samples(count: int, *, failed: int = 0, from_ns: int = 0, to_ns: int = ENDS_NS, model: str = "m"):
    grown = msgspec.structs.replace(SERVER, model=model, success_count=count - failed, fail_count=failed)
    none = msgspec.structs.replace(grown, success_count=0, fail_count=0)
    return [ServerSample(from_ns, (none,)), ServerSample(to_ns, (grown,))]


def check(server, failures=None, driven=frozenset({"m"})):
    columns = recorded.columns((DUE, DUE + EACH_NS // 2), failures=failures)
    return check_counts(columns, server, driven, 0, ENDS_NS)


def test_equal_counts_need_no_explanation():
    found = check(samples(100, from_ns=-EACH_NS))
    assert found == CountCheck(server_count=100, server_failed_count=0, surely_count=100, at_most_count=100)
    assert found.unexplained_count == 0
    assert list(count_lines(found)) == ["Server's count: 100 requests; ours over the same time: 100"]


def test_requests_under_way_at_a_sample_may_be_on_either_side_of_it():
    at_ns = 50 * EACH_NS + EACH_NS // 4
    for counted in (49, 50):
        found = check(samples(counted, from_ns=at_ns))
        assert (found.surely_count, found.at_most_count, found.unexplained_count) == (49, 50, 0)
    assert check(samples(51, from_ns=at_ns)).unexplained_count == 1
    assert check(samples(48, from_ns=at_ns)).unexplained_count == -1


def test_the_time_that_the_question_took_widens_the_edge():
    at_ns = 50 * EACH_NS - EACH_NS // 4
    first, last = samples(50, from_ns=at_ns)
    assert check([first, last]).surely_count == check([first, last]).at_most_count == 50
    slow = ServerSample(first.at_ns, first.times, spread_ns=EACH_NS)
    assert (check([slow, last]).surely_count, check([slow, last]).at_most_count) == (49, 51)
    assert SLOP_NS < EACH_NS // 4


def test_a_failed_request_may_not_have_reached_the_server():
    failures = {3: "timeout", 4: "http 500"}
    for counted, unexplained in ((97, -1), (98, 0), (100, 0), (101, 1)):
        found = check(samples(counted, failed=1, from_ns=-EACH_NS), failures)
        assert found.unexplained_count == unexplained
    assert "100 requests, 1 of them failed;" in "".join(count_lines(check(samples(100, failed=1), failures)))


@pytest.mark.parametrize(("counted", "says"), [(130, "30 came from somewhere else"), (90, "10 were answered without")])
def test_what_the_edges_do_not_explain_is_a_warning(counted, says):
    (line,) = count_lines(check(samples(counted, from_ns=-EACH_NS)))
    assert line.startswith("[WARNING] Server's count: ")
    assert says in line


def test_only_the_driven_models_count():
    assert check(samples(100, model="composing")) is None
    assert check([]) is None

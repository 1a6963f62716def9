import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_client.profile import LoadResult
from perf_client.record import NEVER, NOT_SENT
from perf_client.summarize import summarize
from tests.fakes import queues, recorded

SECOND_NS = 1_000_000_000


def even(count, *, gap_ns=10_000_000, takes_ns=2_000_000):
    due = np.arange(count, dtype=np.int64) * gap_ns
    return due, due + takes_ns


def p(latency, percent):
    return next(found.value_ns for found in latency.percentiles if found.percent == percent)


def test_a_plain_run_gives_its_own_figures_back():
    result = summarize(recorded.OPEN, recorded.columns(even(500), lag_ns=50_000), recorded.facts(5 * SECOND_NS))
    assert result.request_count == 500
    assert result.throughput.per_second == pytest.approx(100)
    assert (p(result.response, 99), p(result.service, 99)) == (2_000_000, 1_950_000)
    assert p(result.first_byte, 50) == 1_949_000
    assert result.offered_per_second == pytest.approx(100)
    assert (result.schedule_lag.p50_ns, result.schedule_lag.max_ns) == (50_000, 50_000)
    assert (result.verdict, result.client.bound, result.failures) == ("steady", False, {})
    assert result.server_unmeasured == "the server keeps no statistics"


def test_a_result_survives_being_written():
    result = summarize(recorded.OPEN, recorded.columns(even(100), failures={3: "timeout"}), recorded.facts(SECOND_NS))
    assert msgspec.json.decode(msgspec.json.encode(result), type=LoadResult) == result


def test_asked_warm_up_is_cut_by_due_time_and_nothing_else_is():
    profile = msgspec.structs.replace(recorded.OPEN, warmup_s=1.0)
    result = summarize(profile, recorded.columns(even(500)), recorded.facts(5 * SECOND_NS))
    assert (result.counted_from_ns, result.request_count) == (SECOND_NS, 400)


def test_a_slow_start_is_found_and_cut_once():
    profile = msgspec.structs.replace(recorded.OPEN, warmup_s=None)
    seen = queues.starting_up(np.random.default_rng(1), 0.1, 5.0, 2000, 200.0)
    result = summarize(profile, recorded.columns(seen), recorded.facts(10 * SECOND_NS))
    assert 0.9 * SECOND_NS <= result.counted_from_ns <= 1.8 * SECOND_NS


def test_an_overload_is_not_cut_down_to_a_steady_part():
    profile = msgspec.structs.replace(recorded.OPEN, warmup_s=None)
    for seed in range(10):
        due, done = queues.mm1(np.random.default_rng(seed), 1.2, 1500)
        result = summarize(profile, recorded.columns((due, done)), recorded.facts(int(due[-1]) + 1))
        assert (result.verdict, result.counted_from_ns) == ("overloaded", 0)


@pytest.mark.parametrize("profile", [recorded.OPEN, recorded.CLOSED])
def test_answers_after_the_end_count_with_their_whole_time(profile):
    due, done = even(500)
    done[-50:] = 8 * SECOND_NS
    result = summarize(profile, recorded.columns((due, done)), recorded.facts(5 * SECOND_NS))
    assert result.request_count == 500
    assert p(result.response, 99) > 3 * SECOND_NS
    assert result.throughput.per_second == pytest.approx(90)


def test_stalls_show_in_response_time_even_if_requests_left_late():
    due, done = even(500)
    lag = np.zeros(500, dtype=np.int64)
    lag[100:200] = np.arange(100, 0, -1) * 10_000_000
    result = summarize(recorded.OPEN, recorded.columns((due, done + lag), lag_ns=lag), recorded.facts(5 * SECOND_NS))
    assert p(result.service, 99) == 2_000_000
    assert p(result.response, 95) > 700_000_000
    assert result.client.bound
    assert "behind their schedule" in result.client.reason


def test_failures_are_counted_by_class_and_kept_out_of_latencies():
    failures = {**dict.fromkeys(range(0, 500, 50), "http 500"), **dict.fromkeys(range(5, 500, 100), "timeout")}
    due, done = even(500)
    done[5::100] = due[5::100] + SECOND_NS
    result = summarize(recorded.OPEN, recorded.columns((due, done), failures=failures), recorded.facts(5 * SECOND_NS))
    assert result.failures == {"http 500": 10, "timeout": 5}
    assert (result.request_count, result.response.count, result.response.max_ns) == (500, 485, 2_000_000)
    assert result.throughput.per_second == pytest.approx(97)


def test_failed_and_dropped_requests_are_endless_waits_in_the_adjusted_percentiles():
    result = summarize(
        recorded.OPEN,
        recorded.columns(even(480), failures=dict.fromkeys(range(10), "http 500"), dropped_ns=np.arange(20)),
        recorded.facts(5 * SECOND_NS),
    )
    assert result.dropped_count == 20
    assert result.failure_adjusted_ns["p90"] == 2_000_000
    assert result.failure_adjusted_ns["p95"] is None
    assert result.failure_adjusted_ns["p99"] is None


def test_requests_that_never_left_have_no_lag():
    seen = even(100)
    columns = recorded.columns(seen, failures={7: "connection refused"})
    columns.sent_ns[7] = columns.first_byte_ns[7] = NEVER
    result = summarize(recorded.OPEN, columns, recorded.facts(SECOND_NS))
    assert result.schedule_lag.max_ns == 0
    assert result.service.min_ns == 2_000_000


def test_nothing_answered_is_a_result_too():
    failures = dict.fromkeys(range(200), "connection refused")
    result = summarize(recorded.OPEN, recorded.columns(even(200), failures=failures), recorded.facts(2 * SECOND_NS))
    assert (result.response, result.service, result.first_byte) == (None, None, None)
    assert result.failure_adjusted_ns["p50"] is None
    assert result.throughput.per_second == 0


def test_no_request_at_all_is_too_short():
    empty = np.empty(0, dtype=np.int64)
    result = summarize(recorded.OPEN, recorded.columns((empty, empty)), recorded.facts(SECOND_NS, incomplete=True))
    assert (result.verdict, result.request_count, result.incomplete) == ("too short", 0, True)


@pytest.mark.parametrize(("cpu_ratio", "bound"), [(0.5, False), (0.89, False), (0.95, True)])
def test_a_closed_loop_near_one_core_is_client_bound(cpu_ratio, bound):
    result = summarize(recorded.CLOSED, recorded.columns(even(500)), recorded.facts(5 * SECOND_NS, cpu_ratio=cpu_ratio))
    assert result.client.bound is bound
    assert bool(result.client.reason) is bound
    assert result.schedule_lag is None
    assert result.offered_per_second is None


def test_an_open_loop_that_spins_to_be_punctual_is_not_client_bound():
    result = summarize(
        recorded.OPEN, recorded.columns(even(500), lag_ns=20_000), recorded.facts(5 * SECOND_NS, cpu_ratio=1.0)
    )
    assert not result.client.bound


def test_inferences_are_requests_times_batch():
    profile = msgspec.structs.replace(recorded.OPEN, batch_size=8)
    result = summarize(profile, recorded.columns(even(500)), recorded.facts(5 * SECOND_NS))
    assert result.throughput.per_second == pytest.approx(800)


def test_extra_percentiles_can_be_asked_for():
    result = summarize(recorded.OPEN, recorded.columns(even(500)), recorded.facts(5 * SECOND_NS), (50.0, 97.0))
    assert [found.percent for found in result.response.percentiles] == [50.0, 97.0]


@given(cut_s=st.floats(0, 6), count=st.integers(0, 300))
def test_every_request_due_in_the_window_is_counted_once(cut_s, count):
    profile = msgspec.structs.replace(recorded.OPEN, warmup_s=cut_s)
    seen = even(count)
    failures = dict.fromkeys(range(0, count, 3), "timeout")
    result = summarize(profile, recorded.columns(seen, failures=failures), recorded.facts(5 * SECOND_NS))
    due = int(np.count_nonzero((seen[0] >= result.counted_from_ns) & (seen[0] < 5 * SECOND_NS)))
    answered = result.response.count if result.response else 0
    assert result.request_count == due == answered + sum(result.failures.values())


def test_requests_that_the_load_generator_did_not_send_in_time_make_it_the_limit():
    due = np.arange(1000, dtype=np.int64) * 1_000_000
    columns = recorded.columns((due, due + 500_000), failures={998: NOT_SENT, 999: NOT_SENT})
    result = summarize(recorded.OPEN, columns, recorded.facts(10**9))
    assert result.client.bound
    assert result.client.reason.startswith("2 requests were due and not sent in time")
    assert result.failures == {NOT_SENT: 2}

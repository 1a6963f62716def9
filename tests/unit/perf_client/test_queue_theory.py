"""What is reported of simulated queues against what queueing theory says of them."""

import math

import numpy as np
import pytest

from perf_client.profile import LoadProfile, RequestRate
from perf_client.summarize import summarize
from tests.fakes import queues, recorded

SERVICE_S = 0.005
COUNT = 200_000


def report(seen):
    due_ns, _ = seen
    asked = LoadProfile(model="m", load=RequestRate(per_second=100.0), warmup_s=0.0)
    return summarize(asked, recorded.columns(seen), recorded.facts(int(due_ns[-1]) + 1))


def percentile(result, percent):
    return next(found for found in result.response.percentiles if found.percent == percent)


def poisson_queue(seed, load, service_s):
    rng = np.random.default_rng(seed)
    drawn = service_s(rng, COUNT)
    due_s = queues.poisson_due(rng, load / SERVICE_S, COUNT)
    return queues.first_in_first_out(due_s, drawn)


LAWS = {
    "exponential": (lambda rng, n: rng.exponential(SERVICE_S, n), 1.0),
    "fixed": (lambda rng, n: np.full(n, SERVICE_S), 0.0),
    # Nine in ten take half of the mean, one in ten takes 5.5 times the mean: variance 2.25 of the mean squared.
    "bimodal": (lambda rng, n: np.where(rng.random(n) < 0.9, 0.5, 5.5) * SERVICE_S, 2.25),
    # Of mean 1 and sigma 0.8: squared variation exp(sigma^2) - 1.
    "log-normal": (lambda rng, n: rng.lognormal(-0.32, 0.8, n) * SERVICE_S, math.exp(0.64) - 1),
}
"""How to draw service times of that mean, and their squared coefficient of variation."""


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_mean_response_is_that_of_pollaczek_and_khinchine(law, load):
    draw, variation = LAWS[law]
    result = report(poisson_queue(1, load, draw))
    mean_s = SERVICE_S * (1 + load / (1 - load) * (1 + variation) / 2)
    assert result.response.mean_ns / 1e9 == pytest.approx(mean_s, rel=0.06)
    assert result.verdict == "steady"
    assert not result.client.bound


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_percentiles_of_an_mm1_queue_are_those_of_its_exponential_law(load):
    """Response times of M/M/1 are exponential with mean s / (1 - load)."""
    result = report(poisson_queue(2, load, LAWS["exponential"][0]))
    for percent in (50.0, 90.0, 99.0, 99.9):
        true_s = -math.log(1 - percent / 100) * SERVICE_S / (1 - load)
        assert percentile(result, percent).value_ns / 1e9 == pytest.approx(true_s, rel=0.1)


def test_intervals_of_a_queue_hold_the_percentile_of_theory_nearly_always():
    load, held = 0.5, []
    true_ns = -math.log(0.01) * SERVICE_S / (1 - load) * 1e9
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found = percentile(report(queues.mm1(rng, load, 20_000, SERVICE_S)), 99.0)
        held.append(found.low_ns <= true_ns <= found.high_ns)
    assert sum(held) >= 34


@pytest.mark.parametrize("law", LAWS)
def test_littles_law_holds_between_throughput_response_time_and_requests_in_the_system(law):
    due_ns, done_ns = seen = poisson_queue(3, 0.7, LAWS[law][0])
    result = report(seen)
    moments = np.linspace(due_ns[0], due_ns[-1], 200_000)
    in_system = np.searchsorted(due_ns, moments) - np.searchsorted(done_ns, moments)
    seen_in_system = result.throughput.per_second * result.response.mean_ns / 1e9
    assert seen_in_system == pytest.approx(in_system.mean(), rel=0.02)


def test_a_freeze_makes_everybody_wait_who_came_meanwhile():
    """50 requests a second, one freeze of 3 s in 20 s: each later one waits 15 ms less, so a fifth of all wait."""
    due_s = np.arange(1000) / 50
    service_s = np.full(1000, SERVICE_S)
    service_s[250] += 3.0
    result = report(queues.first_in_first_out(due_s, service_s))
    for percent in (90.0, 95.0, 99.0):
        true_s = 3.0 - 0.015 * 10 * (100 - percent)
        assert percentile(result, percent).value_ns / 1e9 == pytest.approx(true_s, abs=0.02)
    assert percentile(result, 50.0).value_ns / 1e9 == pytest.approx(SERVICE_S)


def test_a_fifth_more_than_the_capacity_leaves_a_sixth_of_it_waiting():
    due_ns, done_ns = seen = queues.dd1(1.2, 1200, 0.02)
    result = report(seen)
    assert result.verdict == "overloaded"
    assert result.throughput.per_second == pytest.approx(50.0, rel=0.02)
    assert result.offered_per_second == pytest.approx(60.0, rel=0.01)
    assert percentile(result, 99.0).value_ns == pytest.approx((done_ns - due_ns).max(), rel=0.02)

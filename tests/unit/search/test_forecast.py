"""The queueing model, the process over its residuals, and the forecast made of both."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.domain.ledger import Candidate
from analyzer.search import gaussian, queueing, surrogate
from analyzer.search.candidates import run_config, slots_of, template_for
from analyzer.search.evidence import gather
from analyzer.search.queueing import Points
from tests.fakes.landscapes import BASE, load_template, random_landscape, space

SPACE = space()
CANDIDATES = [Candidate(server=server) for server in SPACE.server_configs()]


def points(rows: list[tuple[int, int, int]]) -> Points:
    n, limit, c = (np.array(column, dtype=float) for column in zip(*rows))
    return Points(n, limit, c, np.ones(len(rows)))


SEEN = points([(1, 1, 1), (1, 64, 40), (5, 1, 5), (5, 64, 200), (3, 8, 24), (2, 16, 9)])


def test_a_batch_holds_what_is_waiting_up_to_its_limit():
    assert list(points([(2, 8, 1), (2, 8, 5), (2, 8, 99)]).batch()) == [1, 3, 8]


@given(st.floats(0.2, 10), st.floats(0.02, 5), st.floats(0, 1.2))
def test_the_fit_finds_the_model_that_made_the_figures(t0: float, t1: float, a: float):
    truth = queueing.ServiceModel(t0, t1, a).service_ms(SEEN)
    fitted = queueing.fit(SEEN, truth).service_ms(SEEN)
    assert fitted == pytest.approx(truth, rel=0.05)


def test_one_wild_measurement_does_not_bend_the_fit():
    truth = queueing.ServiceModel(3.0, 0.6, 0.25)
    seen = truth.service_ms(SEEN)
    seen[3] *= 3
    others = [0, 1, 2, 4, 5]
    assert queueing.fit(SEEN, seen).service_ms(SEEN)[others] == pytest.approx(truth.service_ms(SEEN)[others], rel=0.12)


def test_a_single_measurement_is_met_and_the_rest_left_to_the_prior():
    one = points([(1, 1, 1)])
    model = queueing.fit(one, np.array([8.0]))
    assert model.service_ms(one) == pytest.approx([8.0], rel=0.05)
    assert model.contention == pytest.approx(0.3, abs=0.05)


def delayed(rows: list[tuple[int, int, int, float]], gathered: bool) -> Points:
    n, limit, c, delay_ms = (np.array(column, dtype=float) for column in zip(*rows))
    return Points(n, limit, c, np.ones(len(rows)), delay_ms, gathered)


DELAYED = [(1, 8, 2, 0.0), (2, 8, 4, 0.0), (2, 8, 4, 2.0), (4, 8, 4, 1.0), (1, 4, 4, 2.0), (2, 8, 40, 1.0)]


def test_a_delay_is_waited_for_by_batches_that_are_not_full_and_may_gather_all_in_one():
    assert list(delayed(DELAYED, gathered=False).batch()) == [2, 2, 2, 1, 4, 8]
    assert list(delayed(DELAYED, gathered=True).batch()) == [2, 2, 4, 4, 4, 8]
    assert list(delayed(DELAYED, gathered=True).waited_ms()) == [0, 0, 2, 1, 0, 0]


@pytest.mark.parametrize("gathers", [True, False])
def test_what_was_measured_says_whether_a_delay_gathers(gathers: bool):
    truth = queueing.ServiceModel(3.0, 1.0, 0.6).service_ms(delayed(DELAYED, gathers))
    fitted = queueing.fit(delayed(DELAYED, gathered=True), truth)
    assert fitted.gathers is gathers
    assert fitted.service_ms(delayed(DELAYED, fitted.gathers)) == pytest.approx(truth, rel=0.05)


def test_where_no_delay_was_seen_one_is_taken_to_gather_but_not_in_an_open_loop():
    seen = queueing.ServiceModel(3.0, 1.0, 0.6).service_ms(delayed(DELAYED[:2], gathered=True))
    assert queueing.fit(delayed(DELAYED[:2], gathered=True), seen).gathers
    assert not queueing.fit(delayed(DELAYED[:2], gathered=False), seen).gathers


def test_answers_faster_than_the_delay_make_no_time_negative():
    model = queueing.fit(delayed([(1, 8, 2, 50.0)], gathered=True), np.array([1.0]))
    assert model.fixed_ms >= 0
    assert model.per_item_ms >= 0


@given(st.lists(st.floats(0.01, 1e4), min_size=6, max_size=6))
def test_no_measurements_make_times_negative(measured: list[float]):
    model = queueing.fit(SEEN, np.array(measured))
    assert model.fixed_ms >= 0
    assert model.per_item_ms >= 0
    assert (model.service_ms(SEEN) > 0).all()


def test_the_process_meets_its_points_and_doubts_what_is_far_from_them():
    seen = np.array([[0.0], [1.0], [2.0], [3.0], [4.0]])
    values = np.array([0.1, -0.2, 0.15, -0.1, 0.2])
    process = gaussian.fit(seen, values, np.full(5, 0.005))
    at = np.array([[1.0], [12.0]])
    mean, sd = process.predict(gaussian.kernel(at, seen), gaussian.prior_variance(at))
    assert mean[0] == pytest.approx(-0.2, abs=0.02)
    assert sd[0] < 0.02 < sd[1]


def test_residuals_that_vanish_make_the_process_sure_but_few_points_do_not():
    seen = np.linspace(0, 3, 12)[:, None]
    sure = gaussian.fit(seen, np.zeros(12), np.full(12, 0.004), explained=3)
    unsure = gaussian.fit(seen[:3], np.zeros(3), np.full(3, 0.004), explained=3)
    assert sure.spread < 0.02 < unsure.spread


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_after_six_points_the_forecast_is_near_the_truth_everywhere(seed: int):
    land = random_landscape(seed)
    template = template_for(SPACE.load, load_template())
    slots = {c: slots_of(c, (BASE,)) for c in CANDIDATES}
    wanted = [(1, 1, 1), (1, 128, 100), (5, 1, 5), (5, 128, 600), (3, 16, 48), (2, 64, 40)]
    asked = [
        run_config(
            next(c for c in CANDIDATES if slots[c].instances == n and slots[c].batch_limit == limit), load, template, ""
        )
        for n, limit, load in wanted
    ]
    free = type(land)(land.name, land.t0, land.t1, land.a)
    evidence = gather([free.measure(config) for config in asked], ("throughput", "p99_latency_ms"))
    known = [slots[level.candidate] for level in evidence.levels]
    fitted = surrogate.fit(evidence.levels, known, ("throughput", "p99_latency_ms"), open_loop=False)
    loads = np.array([1.0, 7.0, 30.0, 120.0, 700.0])
    figures = fitted.forecast([slots[c] for c in CANDIDATES], loads)
    for row, candidate in enumerate(CANDIDATES):
        own = slots[candidate]
        for column, load in enumerate(loads):
            throughput, mean = free.exact(own.instances, own.batch_limit, int(load))
            assert np.exp(figures["throughput"].mean[row, column]) == pytest.approx(throughput, rel=0.08)
            assert np.exp(figures["p99_latency_ms"].mean[row, column]) == pytest.approx(1.25 * mean + 0.3, rel=0.12)

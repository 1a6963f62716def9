"""What one more measurement of a candidate is worth."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.domain.ledger import Candidate
from analyzer.domain.run import ModelVariant, ServerConfig
from analyzer.search.prospect import Prospect, boldest
from analyzer.stats import below

CANDIDATE = Candidate(server=ServerConfig(variants=(ModelVariant(model="m"),)))


def prospect(score: float, sd: float, noise: float = 0.0) -> Prospect:
    return Prospect(0, CANDIDATE, 8.0, score, sd, p_kept=1.0, p_loads=1.0, fresh=True, noise=noise)


@given(st.floats(-0.3, 0.3), st.floats(0.001, 0.5))
def test_without_noise_the_gain_is_the_expected_improvement(score: float, sd: float):
    z = score / sd
    expected = score * below(z) + sd * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    assert prospect(score, sd).gain(0.0) == pytest.approx(expected, abs=1e-9)


@given(st.floats(-0.3, 0.3), st.floats(0.001, 0.5), st.floats(0, 1), st.floats(0, 1))
def test_the_noisier_a_measurement_the_less_it_is_worth(score: float, sd: float, a: float, b: float):
    low, high = sorted((a, b))
    assert prospect(score, sd, high).gain(0.0) <= prospect(score, sd, low).gain(0.0) + 1e-12


def test_a_small_doubt_is_not_worth_a_measurement_with_more_noise():
    assert prospect(0.0, 0.01).gain(0.0) > 0.003
    assert prospect(0.0, 0.01, noise=0.06).gain(0.0) < 0.001


LOADS = [1.0, 2.0, 4.0, 8.0]


def test_with_much_doubt_the_load_with_most_to_hope_for_is_tried_though_the_limit_is_forecast_to_break():
    above = np.array([[-0.6, -0.4, 0.5, 0.9]])
    kept_z = np.array([[3.0, 2.0, -0.4, -0.6]])
    allowed = np.ones((1, 4), dtype=bool)
    assert boldest(above, np.full((1, 4), 0.5), kept_z, allowed, 0.05) == [3]
    sure = np.array([[-0.02, 0.01, 0.5, 0.9]]), np.full((1, 4), 0.01), np.array([[30.0, 20.0, -40.0, -60.0]])
    assert boldest(*sure, allowed, 0.05) == [1]
    assert boldest(above, np.full((1, 4), 0.5), kept_z, allowed & (np.array(LOADS) < 4), 0.05) == [1]

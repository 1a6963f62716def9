"""What one more measurement of a candidate is worth."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.domain.ledger import Candidate
from analyzer.domain.run import ModelVariant, ServerConfig
from analyzer.search.prospect import Prospect, below

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

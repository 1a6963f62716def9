"""Gaussian process regression on what a parametric model leaves unexplained (Rasmussen and Williams 2006, 2.2, 5.4)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SPREADS = np.array([0.004, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32])
_TYPICAL_SPREAD = 0.06
"""Before anything is known a model is taken to be off by so much, relative, within a factor e."""


@dataclass(frozen=True, slots=True)
class Residual:
    """A fitted process: predictions come with standard deviations."""

    features: Array
    weights: Array
    factor: Array
    spread: float

    def predict(self, features: Array) -> tuple[Array, Array]:
        if self.features.size == 0:
            return np.zeros(len(features)), np.full(len(features), self.spread * _prior_sd(features))
        cross = self.spread**2 * _kernel(features, self.features)
        mean: Array = cross @ self.weights
        solved = self.factor @ cross.T
        own = (self.spread * _prior_sd(features)) ** 2
        return mean, np.sqrt(np.maximum(own - np.sum(solved**2, axis=0), 1e-10))


def fit(features: Array, values: Array, noise: Array, explained: int = 0, typical: float = _TYPICAL_SPREAD) -> Residual:
    """``noise`` holds standard deviations; ``explained`` counts the parameters that the model before it has used up.

    The spread maximizes the marginal likelihood, discounted for those parameters: residuals of few points are small
    because the model was bent to them, not because it is right.
    """
    if len(values) == 0:
        return Residual(np.empty((0, 0)), np.empty(0), np.empty((0, 0)), 2 * typical)
    base = _kernel(features, features)
    share = max(len(values) - explained, 0) / len(values)
    best: tuple[float, float, Array] | None = None
    for spread in _SPREADS * typical / _TYPICAL_SPREAD:
        lower = _lower(spread**2 * base + np.diag(noise**2))
        solved = np.linalg.solve(lower, values)
        likelihood = -float(np.sum(solved**2)) / 2 - float(np.sum(np.log(np.diag(lower))))
        score = share * likelihood - np.log(spread / typical) ** 2 / 2
        if best is None or score > best[0]:
            best = (score, float(spread), lower)
    assert best is not None  # _SPREADS is not empty
    _, spread, lower = best
    inverse = np.asarray(np.linalg.solve(lower, np.eye(len(values))), dtype=np.float64)
    return Residual(features, inverse.T @ (inverse @ values), inverse, spread)


def _kernel(a: Array, b: Array) -> Array:
    """Matern 3/2 for local shape, a plane for what the model got wrong as a trend, a constant for its level."""
    distance = np.sqrt(np.maximum(np.sum(a**2, 1)[:, None] + np.sum(b**2, 1)[None, :] - 2 * a @ b.T, 0.0))
    scaled = np.sqrt(3.0) * distance
    result: Array = (1 + scaled) * np.exp(-scaled) + 0.1 * (a @ b.T) + 0.25
    return result


def _lower(matrix: Array) -> Array:
    return np.asarray(np.linalg.cholesky(matrix), dtype=np.float64)


def _prior_sd(features: Array) -> Array:
    result: Array = np.sqrt(1.25 + 0.1 * np.sum(features**2, 1))
    return result

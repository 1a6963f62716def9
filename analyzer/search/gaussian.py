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
    """A fitted process. It predicts from kernels, so that several processes over the same points share them."""

    weights: Array
    factor: Array
    spread: float

    def predict(self, cross: Array, own: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, from ``kernel(asked, seen)`` and ``prior_variance(asked)``."""
        if self.weights.size == 0:
            return np.zeros(len(own)), self.spread * np.sqrt(own)
        variance = self.spread**2
        solved = cross @ self.factor.T
        left = variance * own - variance**2 * np.einsum("ij,ij->i", solved, solved)
        return variance * (cross @ self.weights), np.sqrt(np.maximum(left, 1e-10))


def fit(features: Array, values: Array, noise: Array, explained: int = 0, typical: float = _TYPICAL_SPREAD) -> Residual:
    """``noise`` holds standard deviations; ``explained`` counts the parameters that the model before it has used up.

    The spread maximizes the marginal likelihood, discounted for those parameters: residuals of few points are small
    because the model was bent to them, not because it is right.
    """
    if len(values) == 0:
        return Residual(np.empty(0), np.empty((0, 0)), 2 * typical)
    base = kernel(features, features)
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
    return Residual(inverse.T @ (inverse @ values), inverse, spread)


def kernel(a: Array, b: Array) -> Array:
    """Matern 3/2 for local shape, a plane for what the model got wrong as a trend, a constant for its level."""
    product = a @ b.T
    scaled = np.einsum("ij,ij->i", a, a)[:, None] + np.einsum("ij,ij->i", b, b)[None, :] - 2 * product
    np.maximum(scaled, 0.0, out=scaled)
    scaled *= 3.0
    np.sqrt(scaled, out=scaled)
    result: Array = (1 + scaled) * np.exp(-scaled) + 0.1 * product + 0.25
    return result


def prior_variance(features: Array) -> Array:
    """The kernel of each point with itself."""
    result: Array = 1.25 + 0.1 * np.einsum("ij,ij->i", features, features)
    return result


def _lower(matrix: Array) -> Array:
    return np.asarray(np.linalg.cholesky(matrix), dtype=np.float64)

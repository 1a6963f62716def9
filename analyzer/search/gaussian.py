"""Gaussian process regression on what a parametric model leaves unexplained (Rasmussen and Williams 2006, 2.2, 5.4)."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SPREADS = np.array([0.004, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56])
TYPICAL_SPREAD = 0.06
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


def fit(features: Array, values: Array, noise: Array, explained: int = 0, typical: float = TYPICAL_SPREAD) -> Residual:
    """``noise`` holds standard deviations; ``explained`` counts the parameters that the model before it has used up.

    The spread maximizes the marginal likelihood, discounted for those parameters: residuals of few points are small
    because the model was bent to them, not because it is right.
    """
    if len(values) == 0:
        return Residual(np.empty(0), np.empty((0, 0)), 2 * typical)
    # With K = D (s^2 C + I) D, D the noise, one decomposition of C serves every spread s.
    decomposed = np.linalg.eigh(kernel(features, features) / np.outer(noise, noise))
    spectrum: Array = np.maximum(decomposed.eigenvalues, 0.0)
    turned: Array = decomposed.eigenvectors.T / noise
    projected = turned @ values
    share = max(len(values) - explained, 0) / len(values)
    spreads = _SPREADS * typical / TYPICAL_SPREAD
    grown = 1 + spreads[:, None] ** 2 * spectrum[None, :]
    likelihood = -np.sum(projected**2 / grown, axis=1) / 2 - np.sum(np.log(grown), axis=1) / 2
    best = int(np.argmax(share * likelihood - np.log(spreads / typical) ** 2 / 2))
    factor = turned / np.sqrt(grown[best])[:, None]
    return Residual(factor.T @ (factor @ values), factor, float(spreads[best]))


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

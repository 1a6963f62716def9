"""A queueing model of a batching server, fitted to what was measured.

A batch of k requests of b inferences takes ``(t0 + t1 * k * b) * (1 + a * (n - 1))`` ms on each of n instances. A
closed loop of c requests fills batches of ``k = clamp(ceil(c / n), 1, limit)``; by Little's law the mean time of a
request is c over the throughput. An open loop is the closed loop with as many in flight as Little's law counts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MISFIT = 0.03
"""How far a real server is taken to be from this model: it sets the weight of a measurement against the prior."""

_HUBER = 2.0
_CONTENTION_PRIOR = (0.3, 0.6)
_CONTENTIONS = np.concatenate([np.arange(-0.05, 1.3, 0.05), np.arange(1.3, 3.01, 0.2)])


@dataclass(frozen=True, slots=True)
class Points:
    """Where a server was, or could be, seen: one row each."""

    instances: Array
    limit: Array
    in_flight: Array
    client_batch: Array

    def batch(self) -> Array:
        """Requests per execution."""
        return np.clip(np.ceil(self.in_flight / self.instances - 1e-9), 1, self.limit)

    def running(self) -> Array:
        """Requests being executed at a time."""
        return np.minimum(self.in_flight, self.instances * self.batch())


@dataclass(frozen=True, slots=True)
class ServiceModel:
    fixed_ms: float
    per_item_ms: float
    contention: float

    def service_ms(self, points: Points) -> Array:
        shared: Array = 1 + self.contention * (points.instances - 1)
        return (self.fixed_ms + self.per_item_ms * points.batch() * points.client_batch) * np.maximum(shared, 0.05)


def service_ms(points: Points, requests_per_s: Array) -> Array:
    """The time of one execution that explains a throughput."""
    return 1000 * points.running() / requests_per_s


def fit(points: Points, measured_ms: Array) -> ServiceModel:
    """Robust least squares on relative errors, with a weak prior that decides where nothing was measured."""
    if measured_ms.size == 0:
        return ServiceModel(1.0, 1.0, _CONTENTION_PRIOR[0])
    coarse = [(_solve(points, measured_ms, a), a) for a in _CONTENTIONS]
    best = min(coarse, key=lambda item: item[0][2])[1]
    for step in (0.01, 0.002):
        fine = [(_solve(points, measured_ms, a), a) for a in best + step * np.arange(-5, 6)]
        best = min(fine, key=lambda item: item[0][2])[1]
    t0, t1, _ = _solve(points, measured_ms, best)
    return ServiceModel(t0, t1, float(best))


def _solve(points: Points, measured_ms: Array, contention: float) -> tuple[float, float, float]:
    """t0, t1 and the loss for one contention: linear in both, so two unknowns and Huber weights are all there is."""
    shared = np.maximum(1 + contention * (points.instances - 1), 0.05)
    items = points.batch() * points.client_batch
    typical = float(np.median(measured_ms / shared / (1 + items)))
    rows = np.stack([shared / measured_ms, shared * items / measured_ms], axis=1) / _MISFIT
    target = np.full(measured_ms.size, 1 / _MISFIT)
    prior = np.eye(2) / typical
    weights = np.ones(measured_ms.size)
    for _ in range(3):
        a = np.concatenate([rows * weights[:, None], prior])
        b = np.concatenate([target * weights, np.ones(2)])
        t0, t1 = _nonnegative(a, b)
        errors = np.abs(rows @ np.array([t0, t1]) - target)
        weights = np.sqrt(np.minimum(1.0, _HUBER / np.maximum(errors, 1e-12)))
    huber = np.where(errors < _HUBER, errors**2 / 2, _HUBER * (errors - _HUBER / 2))
    pull = ((contention - _CONTENTION_PRIOR[0]) / _CONTENTION_PRIOR[1]) ** 2 / 2
    prior_loss = float(np.sum((prior @ np.array([t0, t1]) - 1) ** 2)) / 2
    return t0, t1, float(np.sum(huber)) + pull + prior_loss


def _nonnegative(a: Array, b: Array) -> tuple[float, float]:
    """Least squares for two unknowns, neither below zero."""
    gram, right = a.T @ a, a.T @ b
    determinant = gram[0, 0] * gram[1, 1] - gram[0, 1] ** 2
    if determinant > 1e-9 * gram[0, 0] * gram[1, 1]:
        t0 = (gram[1, 1] * right[0] - gram[0, 1] * right[1]) / determinant
        t1 = (gram[0, 0] * right[1] - gram[0, 1] * right[0]) / determinant
        if t0 >= 0 and t1 >= 0:
            return float(t0), float(t1)
    only_fixed, only_items = right[0] / gram[0, 0], right[1] / gram[1, 1]
    if right[0] * only_fixed >= right[1] * only_items:
        return float(only_fixed), 0.0
    return 0.0, float(only_items)

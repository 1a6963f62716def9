"""A queueing model of a batching server, fitted to what was measured.

A batch of k requests of b inferences takes ``(t0 + t1 * k * b) * (1 + a * (n - 1))`` ms on each of n instances. A
closed loop of c requests fills batches of ``k = clamp(ceil(c / n), 1, limit)``; by Little's law the mean time of a
request is c over the throughput. An open loop is the closed loop with as many in flight as Little's law counts.

A queue delay is waited for before a batch that is not full. In a closed loop it also draws the requests together: those
answered at once come back at once, wait for each other and stay one batch, ``k = clamp(c, 1, limit)``, beside which
other instances idle. Some servers share them out all the same; what was measured decides between both.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MISFIT = 0.03
"""How far a real server is taken to be from this model: it sets the weight of a measurement against the prior."""

_HUBER = 2.0
_CONTENTION_PRIOR = (0.3, 0.6)
_CONTENTIONS = np.concatenate([np.arange(-0.05, 1.3, 0.05), np.arange(1.3, 3.01, 0.2)])


@dataclass(frozen=True)
class Points:
    """Where a server was, or could be, seen: one row each. ``gathered``: a queue delay makes one batch of all."""

    instances: Array
    limit: Array
    in_flight: Array
    client_batch: Array
    delay_ms: Array | float = 0.0
    gathered: bool = False

    def batch(self) -> Array:
        """Requests per execution."""
        return self._batch

    @cached_property
    def _batch(self) -> Array:
        shared_by = self.instances
        if self.gathered and np.any(self.delay_ms):
            shared_by = np.where(np.greater(self.delay_ms, 0), 1.0, self.instances)
        return np.minimum(np.maximum(np.ceil(self.in_flight / shared_by - 1e-9), 1), self.limit)

    def waited_ms(self) -> Array | float:
        """Of the queue delay, by a batch."""
        return np.where(self.batch() < self.limit, self.delay_ms, 0.0) if np.any(self.delay_ms) else 0.0

    def running(self) -> Array:
        """Requests being executed at a time."""
        return np.minimum(self.in_flight, self.instances * self.batch())


@dataclass(frozen=True, slots=True)
class ServiceModel:
    fixed_ms: float
    per_item_ms: float
    contention: float
    gathers: bool = False

    def service_ms(self, points: Points) -> Array:
        """From the moment when a batch could be executed to its end."""
        shared: Array = 1 + self.contention * (points.instances - 1)
        own = (self.fixed_ms + self.per_item_ms * points.batch() * points.client_batch) * np.maximum(shared, 0.05)
        return own + points.waited_ms()


def service_ms(points: Points, requests_per_s: Array) -> Array:
    """The time of one execution that explains a throughput."""
    return 1000 * points.running() / requests_per_s


def fit(points: Points, measured_ms: Array) -> ServiceModel:
    """Robust least squares on relative errors, with a weak prior that decides where nothing was measured."""
    if measured_ms.size == 0:
        return ServiceModel(1.0, 1.0, _CONTENTION_PRIOR[0], points.gathered)
    apart, apart_loss = _fitted(replace(points, gathered=False), measured_ms)
    if not points.gathered or not np.any(np.greater(points.delay_ms, 0)):
        return replace(apart, gathers=points.gathered)
    together, together_loss = _fitted(points, measured_ms)
    return together if together_loss <= apart_loss else apart


def _fitted(points: Points, measured_ms: Array) -> tuple[ServiceModel, float]:
    # A measurement that is shorter than the delay it should have waited for did not wait: batches filled all the same.
    own_ms = np.maximum(measured_ms - points.waited_ms(), measured_ms / 2)
    tried = _CONTENTIONS
    for step in (0.01, 0.002, 0.0):
        t0, t1, loss = _solve(points, own_ms, tried)
        best = int(np.argmin(loss))
        if step:
            tried = tried[best] + step * np.arange(-5, 6)
    return ServiceModel(float(t0[best]), float(t1[best]), float(tried[best]), points.gathered), float(loss[best])


def _solve(points: Points, measured_ms: Array, contentions: Array) -> tuple[Array, Array, Array]:
    """t0, t1 and the loss for each contention: linear in both, so two unknowns and Huber weights are all there is."""
    shared = np.maximum(1 + contentions[:, None] * (points.instances - 1), 0.05)
    items = points.batch() * points.client_batch
    typical = np.median(measured_ms / shared / (1 + items), axis=1)
    fixed, per_item = shared / measured_ms / _MISFIT, shared * items / measured_ms / _MISFIT
    target, prior = 1 / _MISFIT, 1 / typical
    weights = np.ones_like(shared)
    for _ in range(3):
        t0, t1 = _nonnegative(fixed * weights, per_item * weights, target * weights, prior)
        errors = np.abs(fixed * t0[:, None] + per_item * t1[:, None] - target)
        weights = np.sqrt(np.minimum(1.0, _HUBER / np.maximum(errors, 1e-12)))
    huber = np.where(errors < _HUBER, errors**2 / 2, _HUBER * (errors - _HUBER / 2))
    pull = ((contentions - _CONTENTION_PRIOR[0]) / _CONTENTION_PRIOR[1]) ** 2 / 2
    prior_loss = ((prior * t0 - 1) ** 2 + (prior * t1 - 1) ** 2) / 2
    return t0, t1, huber.sum(axis=1) + pull + prior_loss


def _nonnegative(x: Array, y: Array, target: Array, prior: Array) -> tuple[Array, Array]:
    """Least squares for two unknowns, neither below zero, one problem a row; ``prior`` draws both to its inverse."""
    xx, yy, xy = (x * x).sum(axis=1) + prior**2, (y * y).sum(axis=1) + prior**2, (x * y).sum(axis=1)
    right_x, right_y = (x * target).sum(axis=1) + prior, (y * target).sum(axis=1) + prior
    determinant = xx * yy - xy**2
    sound = determinant > 1e-9 * xx * yy
    safe = np.where(sound, determinant, 1.0)
    both_x, both_y = (yy * right_x - xy * right_y) / safe, (xx * right_y - xy * right_x) / safe
    inside = sound & (both_x >= 0) & (both_y >= 0)
    only_x, only_y = right_x / xx, right_y / yy
    x_alone = right_x * only_x >= right_y * only_y
    return (
        np.where(inside, both_x, np.where(x_alone, only_x, 0.0)),
        np.where(inside, both_y, np.where(x_alone, 0.0, only_y)),
    )

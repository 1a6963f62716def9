"""Several models on one device: what was seen so far to a forecast of each model's figures at any joint load.

Each model follows its own queueing model, slowed down by what the others do: by the share of their instances that is
busy, and by their throughput relative to the most that was seen of them. What that leaves unexplained is learnt by a
Gaussian process over the slots and loads of all models. Loads are counted in flight here; an open loop's follow from
Little's law.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analyzer.search import gaussian, queueing
from analyzer.search.evidence import Level
from analyzer.search.joint_ground import Ground, Rows
from analyzer.search.queueing import Array, Points, ServiceModel
from analyzer.search.surrogate import fit_line, line_at, noise_of

_ROUNDS = 4
_COUPLING_PRIOR = 0.5
_MISFIT = 0.05
_TYPICAL_SPREAD = 0.12
"""Twice that of a model alone: how they slow each other down is only guessed."""


@dataclass(frozen=True, slots=True)
class Alone:
    """One model as if it had the device for itself. ``busy`` and ``rate`` are what slows the others down: the share
    of instances that is busy, of the most there are, and the throughput relative to the most that was seen.
    """

    in_flight: Array
    running: Array
    service_ms: Array
    busy: Array
    rate: Array

    def spread(self, rows: Rows, columns: Rows) -> "Alone":
        """From a table of its own slots and loads to one of joint cells."""
        each = (self.in_flight, self.running, self.service_ms, self.busy, self.rate)
        return Alone(*(table[rows][:, columns] for table in each))


def _alone(service: ServiceModel, points: Points, most_instances: float, scale: float) -> Alone:
    if points.gathered != service.gathers:
        points = replace(points, gathered=service.gathers)
    running, service_ms = points.running(), service.service_ms(points)
    busy = np.minimum(points.in_flight, points.instances)
    if points.gathered and np.any(points.delay_ms):
        # One batch of all leaves the other instances idle.
        busy = np.where(np.greater(points.delay_ms, 0), np.ceil(running / points.batch()), busy)
    return Alone(points.in_flight, running, service_ms, busy / most_instances, 1000 * running / service_ms / scale)


def _all_alone(
    ground: Ground, services: Sequence[ServiceModel], points: Sequence[Points], scales: Array
) -> list[Alone]:
    return [_alone(*each) for each in zip(services, points, ground.most_instances, scales)]


def _factor(model: int, alone: Sequence[Alone], coupling: Array) -> Array:
    """How much longer one model takes beside the others."""
    factor: Array = np.ones(1)
    for other, active in enumerate(alone):
        if other != model:
            busy, rate = coupling[model, other]
            factor = factor + (busy * active.busy + rate * active.rate)
    return factor


@dataclass(frozen=True, slots=True)
class SharedDevice:
    """A fit. ``coupling[m, o]`` holds what o's busy share and its relative throughput add to m's service time.

    ``seen`` has the features of the seen points for each model.
    """

    ground: Ground
    services: tuple[ServiceModel, ...]
    coupling: Array
    scales: Array
    seen: tuple[Array, ...]
    residuals: tuple[gaussian.Residual, ...]
    lines: dict[tuple[int, str], tuple[float, float]]
    others: dict[str, tuple[float, gaussian.Residual, Rows]]

    def points(self, model: int, rows: Rows, in_flight: Array) -> Points:
        return self.ground.points(model, rows, in_flight, self.services[model].gathers)

    def alone(self, model: int, rows: Rows, in_flight: Array) -> Alone:
        points = self.points(model, rows, in_flight)
        return _alone(self.services[model], points, self.ground.most_instances[model], self.scales[model])

    def together(self, alone: Sequence[Alone], offsets: Array | None = None) -> tuple[list[Array], list[Array]]:
        """Requests a second and mean latency in ms of each model, by the queueing models and their coupling alone."""
        rates, means = [], []
        for model, own in enumerate(alone):
            ms = own.service_ms * _factor(model, alone, self.coupling)
            rates.append(1000 * own.running / (ms if offsets is None else ms * np.exp(offsets[..., model])))
            means.append(1000 * own.in_flight / rates[-1])
        return rates, means

    def quick(self, rows: Rows, loads: Array, offsets: Array | None = None) -> tuple[list[Array], list[Array]]:
        """As ``together``; ``loads`` has one more axis than ``rows``, the models."""
        return self.together([self.alone(m, rows, loads[..., m]) for m in range(len(self.services))], offsets)

    def offsets(self, rows: Rows, loads: Array) -> tuple[Array, Array]:
        """What the processes add to the logarithm of each model's service time, and how unsure that is."""
        found = []
        for asked, seen, residual in zip(self._features(rows, loads), self.seen, self.residuals):
            found.append(residual.predict(_kernel(asked, seen), gaussian.prior_variance(asked)))
        return np.stack([mean for mean, _ in found], axis=-1), np.stack([sd for _, sd in found], axis=-1)

    def _features(self, rows: Rows, loads: Array) -> tuple[Array, ...]:
        points = [self.points(model, rows, loads[:, model]) for model in range(len(self.services))]
        return self.ground.features(rows, points)

    def learnt(self, name: str, rows: Rows, loads: Array) -> tuple[Array, Array]:
        """A figure that follows no model, such as memory."""
        level, residual, told = self.others[name]
        asked = self._features(rows, loads)[0]
        mean, sd = residual.predict(_kernel(asked, self.seen[0][told]), gaussian.prior_variance(asked))
        return level + mean, sd


def _kernel(asked: Array, seen: Array) -> Array:
    return gaussian.kernel(asked, seen) if len(seen) else np.empty((len(asked), 0))


def fit(
    ground: Ground, levels: Sequence[tuple[int, Level]], in_flight: Array, names: Sequence[str], open_loop: bool
) -> SharedDevice:
    """``levels`` have their rows; ``in_flight`` has a row a level and a column a model."""
    rows = np.array([row for row, _ in levels], dtype=np.intp)
    seen = [level for _, level in levels]
    rates = _rates(ground, seen)
    scales = np.maximum(rates.max(axis=0, initial=1e-9), 1e-9)
    points = [ground.points(m, rows, in_flight[:, m], not open_loop) for m in range(len(ground.models))]
    services, coupling = _fit_services(ground, points, rates, scales)
    points = [replace(each, gathered=service.gathers) for each, service in zip(points, services)]
    alone = _all_alone(ground, services, points, scales)
    features = ground.features(rows, points)
    residuals, means = [], []
    for model, name in enumerate(ground.models):
        measured = queueing.service_ms(points[model], rates[:, model])
        expected = alone[model].service_ms * _factor(model, alone, coupling)
        noise = np.array([noise_of(level.figures.get(f"{name}:throughput")) for level in seen])
        residuals.append(gaussian.fit(features[model], np.log(measured / expected), noise, 4, _TYPICAL_SPREAD))
        means.append(1000 * in_flight[:, model] / rates[:, model])
    lines, others = _figures(ground, features[0], seen, means, names)
    return SharedDevice(ground, services, coupling, scales, features, tuple(residuals), lines, others)


def _rates(ground: Ground, seen: Sequence[Level]) -> Array:
    """Requests a second of each model."""
    rows = [
        [level.figures[f"{m}:throughput"].value / level.candidate.batch_size for m in ground.models] for level in seen
    ]
    return np.array(rows, dtype=np.float64).reshape(len(seen), len(ground.models))


def _fit_services(
    ground: Ground, points: Sequence[Points], rates: Array, scales: Array
) -> tuple[tuple[ServiceModel, ...], Array]:
    """In turns: each model alone with the slow-down taken out, then the slow-down with the models taken out."""
    count = len(ground.models)
    coupling = np.full((count, count, 2), 0.2)
    measured = [queueing.service_ms(points[m], rates[:, m]) for m in range(count)]
    services = tuple(map(queueing.fit, points, measured))
    alone = _all_alone(ground, services, points, scales)
    for _ in range(_ROUNDS if len(rates) else 0):
        services = tuple(queueing.fit(points[m], measured[m] / _factor(m, alone, coupling)) for m in range(count))
        found = _all_alone(ground, services, points, scales)
        for model in range(count):
            coupling[model] = _coupled(model, alone, found[model].service_ms / measured[model], count)
        alone = found
    return services, coupling


def _coupled(model: int, alone: Sequence[Alone], relative: Array, count: int) -> Array:
    """Ridge on relative errors of ``base * (1 + active @ coupling) = measured``, nothing below zero."""
    others = [other for other in range(count) if other != model]
    active_of = [np.stack([alone[other].busy, alone[other].rate], axis=-1) for other in others]
    design = np.concatenate(active_of, axis=1) * relative[:, None] / _MISFIT
    target = (1 - relative) / _MISFIT
    found = np.zeros(design.shape[1])
    active = np.ones(design.shape[1], dtype=bool)
    for _ in range(design.shape[1]):
        part = design[:, active]
        gram = part.T @ part + np.eye(part.shape[1]) / _COUPLING_PRIOR**2
        found[:] = 0.0
        found[active] = np.linalg.solve(gram, part.T @ target + 0.2 / _COUPLING_PRIOR**2)
        if (found >= 0).all():
            break
        active &= found > 0
        found = np.maximum(found, 0.0)
    result = np.zeros((count, 2))
    result[others] = found.reshape(len(others), 2)
    return result


def _figures(
    ground: Ground, features: Array, seen: Sequence[Level], means: list[Array], names: Sequence[str]
) -> tuple[dict[tuple[int, str], tuple[float, float]], dict[str, tuple[float, gaussian.Residual, Rows]]]:
    """Lines of latencies over each model's mean, and processes for all that is neither latency nor throughput."""
    lines: dict[tuple[int, str], tuple[float, float]] = {}
    others: dict[str, tuple[float, gaussian.Residual, Rows]] = {}
    for name in dict.fromkeys(figure.rpartition(":")[2] for figure in names):
        if name == "throughput":
            continue
        if name.endswith("_ms"):
            for model, of in enumerate(ground.models):
                told = _told(seen, f"{of}:{name}")
                if len(told):
                    values = np.array([seen[i].figures[f"{of}:{name}"].value for i in told])
                    lines[model, name] = fit_line(means[model][told], values)
            continue
        told = _told(seen, name)
        if len(told):
            values = np.log([seen[i].figures[name].value for i in told])
            level = float(np.median(values))
            sd = np.array([noise_of(seen[i].figures[name]) for i in told])
            others[name] = (level, gaussian.fit(features[told], values - level, sd, 0, 0.3), told)
    return lines, others


def _told(seen: Sequence[Level], name: str) -> Rows:
    found = [i for i, x in enumerate(seen) if x.eligible and name in x.figures and x.figures[name].value > 0]
    return np.array(found, dtype=np.intp)


def latency(device: SharedDevice, model: int, name: str, mean_ms: Array) -> Array:
    """Of one model, from its mean."""
    line = device.lines.get((model, name), (1.2, 0.0))
    return line_at(line, mean_ms)

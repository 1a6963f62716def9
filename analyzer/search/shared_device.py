"""Several models on one device: what was seen so far to a forecast of each model's figures at any joint load.

Each model follows its own queueing model, slowed down by what the others do: by the share of their instances that is
busy, and by their throughput relative to the most that was seen of them. What that leaves unexplained is learnt by a
Gaussian process over the slots and loads of all models. Loads are counted in flight here; an open loop's follow from
Little's law.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analyzer.search import gaussian, queueing
from analyzer.search.candidates import Slots
from analyzer.search.evidence import Level
from analyzer.search.queueing import Array, Points, ServiceModel
from analyzer.search.surrogate import features_of, fit_line, line_at, noise_of

Rows = NDArray[np.intp]

_ROUNDS = 4
_COUPLING_PRIOR = 0.5
_MISFIT = 0.05
_TYPICAL_SPREAD = 0.12
"""Twice that of a model alone: how they slow each other down is only guessed."""


@dataclass(frozen=True)
class Ground:
    """``slots[m][row]`` of every model and candidate. The same in every look, so its columns are made once."""

    models: tuple[str, ...]
    slots: tuple[tuple[Slots, ...], ...]

    def points(self, model: int, rows: Rows, loads: Array) -> Points:
        """Of one model; ``loads`` has the shape of ``rows`` and one more axis, the models."""
        instances, limit, client_batch = self._columns[model]
        return Points(instances[rows], limit[rows], loads[..., model], client_batch[rows])

    @cached_property
    def _columns(self) -> tuple[tuple[Array, Array, Array], ...]:
        tables = [np.array([(s.instances, s.batch_limit, s.client_batch) for s in own]).T for own in self.slots]
        return tuple((t[0].astype(np.float64), t[1].astype(np.float64), t[2].astype(np.float64)) for t in tables)

    @cached_property
    def most_instances(self) -> tuple[float, ...]:
        """Of each model in any candidate."""
        return tuple(float(instances.max()) for instances, _, _ in self._columns)

    @cached_property
    def rows(self) -> dict[tuple[Slots, ...], int]:
        """The first candidate of each combination."""
        return {place: row for row, place in reversed(list(enumerate(zip(*self.slots))))}

    @cached_property
    def kinds(self) -> tuple[Array, ...]:
        """Of each model a number for each candidate: equal where all but instances, batches and loads is."""
        found = []
        for own in self.slots:
            numbers: dict[tuple[object, ...], int] = {}
            kinds = [numbers.setdefault((s.delay_us, s.extra), len(numbers)) for s in own]
            found.append(np.array(kinds, dtype=np.float64))
        return tuple(found)

    def features(self, model: int, rows: Rows, loads: Array) -> Array:
        """The model's own first, then the others', which count for less."""
        parts = []
        for other in range(len(self.models)):
            slots = [self.slots[other][row] for row in rows]
            part = features_of(slots, self.points(other, rows, loads))
            parts.append(part if other == model else 0.6 * part)
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, slots=True)
class Cell:
    """Forecasts by figure: logarithms and their standard deviations."""

    mean: dict[str, Array]
    sd: dict[str, Array]


@dataclass(frozen=True, slots=True)
class SharedDevice:
    """A fit. ``coupling[m, o]`` holds what o's busy share and its relative throughput add to m's service time."""

    ground: Ground
    services: tuple[ServiceModel, ...]
    coupling: Array
    scales: Array
    seen_rows: Rows
    seen_loads: Array
    residuals: tuple[gaussian.Residual, ...]
    lines: dict[tuple[int, str], tuple[float, float]]
    others: dict[str, tuple[float, gaussian.Residual, Rows]]

    def quick(self, rows: Rows, loads: Array, offsets: Array | None = None) -> tuple[list[Array], list[Array]]:
        """Requests a second and mean latency in ms of each model, by the queueing models and their coupling alone."""
        points, service = _slowed(self.ground, self.services, self.coupling, self.scales, rows, loads)
        rates, means = [], []
        for model, point in enumerate(points):
            ms = service[model] if offsets is None else service[model] * np.exp(offsets[..., model])
            rates.append(1000 * point.running() / ms)
            means.append(1000 * loads[..., model] / rates[-1])
        return rates, means

    def offsets(self, rows: Rows, loads: Array) -> tuple[Array, Array]:
        """What the processes add to the logarithm of each model's service time, and how unsure that is."""
        found = []
        for model, residual in enumerate(self.residuals):
            asked = self.ground.features(model, rows, loads)
            cross = self._kernel(model, asked, self.seen_rows, self.seen_loads)
            found.append(residual.predict(cross, gaussian.prior_variance(asked)))
        return np.stack([mean for mean, _ in found], axis=-1), np.stack([sd for _, sd in found], axis=-1)

    def _kernel(self, model: int, asked: Array, rows: Rows, loads: Array) -> Array:
        if not len(rows):
            return np.empty((len(asked), 0))
        return gaussian.kernel(asked, self.ground.features(model, rows, loads))

    def learnt(self, name: str, rows: Rows, loads: Array) -> tuple[Array, Array]:
        """A figure that follows no model, such as memory."""
        level, residual, told = self.others[name]
        asked = self.ground.features(0, rows, loads)
        cross = self._kernel(0, asked, self.seen_rows[told], self.seen_loads[told])
        mean, sd = residual.predict(cross, gaussian.prior_variance(asked))
        return level + mean, sd


def fit(ground: Ground, levels: Sequence[tuple[int, Level]], in_flight: Array, names: Sequence[str]) -> SharedDevice:
    """``levels`` have their rows; ``in_flight`` has a row a level and a column a model."""
    rows = np.array([row for row, _ in levels], dtype=np.intp)
    seen = [level for _, level in levels]
    rates = _rates(ground, seen)
    scales = np.maximum(rates.max(axis=0, initial=1e-9), 1e-9)
    services, coupling = _fit_services(ground, rows, in_flight, rates, scales)
    points, service = _slowed(ground, services, coupling, scales, rows, in_flight)
    residuals, means = [], []
    for model, name in enumerate(ground.models):
        measured = queueing.service_ms(points[model], rates[:, model])
        noise = np.array([noise_of(level.figures.get(f"{name}:throughput")) for level in seen])
        features = ground.features(model, rows, in_flight)
        residuals.append(gaussian.fit(features, np.log(measured / service[model]), noise, 4, _TYPICAL_SPREAD))
        means.append(1000 * in_flight[:, model] / rates[:, model])
    lines, others = _figures(ground, rows, in_flight, seen, means, names)
    return SharedDevice(ground, services, coupling, scales, rows, in_flight, tuple(residuals), lines, others)


def _rates(ground: Ground, seen: Sequence[Level]) -> Array:
    """Requests a second of each model."""
    rows = [
        [level.figures[f"{m}:throughput"].value / level.candidate.batch_size for m in ground.models] for level in seen
    ]
    return np.array(rows, dtype=np.float64).reshape(len(seen), len(ground.models))


def _activity(ground: Ground, services: Sequence[ServiceModel], scales: Array, points: Sequence[Points]) -> list[Array]:
    """For each model the share of instances that is busy, of the most there are, and its relative throughput alone."""
    found = []
    for model, (service, own) in enumerate(zip(services, points)):
        busy = np.minimum(own.in_flight, own.instances) / ground.most_instances[model]
        rate = 1000 * own.running() / service.service_ms(own) / scales[model]
        found.append(np.stack([busy, rate], axis=-1))
    return found


def _slowed(  # noqa: PLR0917 - the parts of a fit before it is one
    ground: Ground, services: Sequence[ServiceModel], coupling: Array, scales: Array, rows: Rows, loads: Array
) -> tuple[list[Points], list[Array]]:
    """``rows`` and ``loads`` may have axes of length one, where all rows meet all loads."""
    points = [ground.points(model, rows, loads) for model in range(len(services))]
    activity = _activity(ground, services, scales, points)
    slowed = []
    for model, service in enumerate(services):
        factor: Array = np.ones(1)
        for other, active in enumerate(activity):
            if other != model:
                factor = factor + active @ coupling[model, other]
        slowed.append(service.service_ms(points[model]) * factor)
    return points, slowed


def _fit_services(
    ground: Ground, rows: Rows, loads: Array, rates: Array, scales: Array
) -> tuple[tuple[ServiceModel, ...], Array]:
    """In turns: each model alone with the slow-down taken out, then the slow-down with the models taken out."""
    count = len(ground.models)
    coupling = np.full((count, count, 2), 0.2)
    points = [ground.points(model, rows, loads) for model in range(count)]
    measured = [queueing.service_ms(points[model], rates[:, model]) for model in range(count)]
    services = tuple(queueing.fit(points[model], measured[model]) for model in range(count))
    for _ in range(_ROUNDS if len(rows) else 0):
        activity = _activity(ground, services, scales, points)
        factors = [
            1 + sum((activity[o] @ coupling[m, o] for o in range(count) if o != m), start=np.zeros(len(rows)))
            for m in range(count)
        ]
        services = tuple(queueing.fit(points[m], measured[m] / factors[m]) for m in range(count))
        for model in range(count):
            base = services[model].service_ms(points[model])
            coupling[model] = _coupled(model, activity, base / measured[model], count)
    return services, coupling


def _coupled(model: int, activity: list[Array], relative: Array, count: int) -> Array:
    """Ridge on relative errors of ``base * (1 + activity @ coupling) = measured``, nothing below zero."""
    others = [other for other in range(count) if other != model]
    design = np.concatenate([activity[other] for other in others], axis=1) * relative[:, None] / _MISFIT
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


def _figures(  # noqa: PLR0917 - columns of one table
    ground: Ground, rows: Rows, loads: Array, seen: Sequence[Level], means: list[Array], names: Sequence[str]
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
            features = ground.features(0, rows[told], loads[told])
            others[name] = (level, gaussian.fit(features, values - level, sd, 0, 0.3), told)
    return lines, others


def _told(seen: Sequence[Level], name: str) -> Rows:
    found = [i for i, x in enumerate(seen) if x.eligible and name in x.figures and x.figures[name].value > 0]
    return np.array(found, dtype=np.intp)


def latency(device: SharedDevice, model: int, name: str, mean_ms: Array) -> Array:
    """Of one model, from its mean."""
    line = device.lines.get((model, name), (1.2, 0.0))
    return line_at(line, mean_ms)

"""What was seen so far to a forecast of every candidate at every load, with standard deviations.

Throughput follows the queueing model, latencies a line over its mean latency, other figures a constant; what these
leave unexplained is learnt by a Gaussian process. All figures are handled as logarithms, so errors are relative.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analyzer.domain.metrics import Estimate
from analyzer.search import gaussian, queueing
from analyzer.search.candidates import Slots
from analyzer.search.evidence import Level
from analyzer.search.queueing import Array, Points, ServiceModel
from analyzer.stats import Z95, half_width

MOST_LEVELS = 100
"""Levels that a fit looks at: beyond that they cost time and teach little."""

_COARSE_CELLS = 2000
_FEWEST_COARSE, _MOST_COARSE = 6, 13
_FLOOR = 0.004
_UNKNOWN_NOISE = 0.03
_UNSUPPORTED_NOISE = 0.1
_IDLE_MISFIT = 0.3
"""How far the model may be off where some instances have nothing to do: what they slow down then is anyone's guess."""

_TINY = 1e-9
_CARRIED_SD = 0.002
_SHARED_OUT = ("cost_per_million", "energy_per_inference_j")
_LATENCY_SPREAD, _OTHER_SPREAD = gaussian.TYPICAL_SPREAD, 0.3


@dataclass(frozen=True, slots=True)
class Figure:
    """Logarithms, one row a candidate and one column a load."""

    mean: Array
    sd: Array


@dataclass(frozen=True, slots=True)
class Process:
    """A residual and the rows of the seen points that it was fitted to."""

    residual: gaussian.Residual
    rows: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Coarse:
    """Kernels of every candidate at a few of its loads with every seen point: processes are smooth, and cost most."""

    cross: Array
    own: Array
    columns: NDArray[np.intp]
    shape: tuple[int, int]

    def predict(self, process: Process) -> tuple[Array, Array]:
        """Mean and standard deviation for each candidate and load, interpolated along the load."""
        mean, sd = process.residual.predict(self.cross[:, process.rows], self.own)
        return self._stretched(mean), self._stretched(sd)

    def _stretched(self, values: Array) -> Array:
        coarse = values.reshape(self.shape[0], len(self.columns))
        if len(self.columns) == 1:
            return np.repeat(coarse, self.shape[1], axis=1)
        positions = np.arange(self.shape[1])
        right = np.clip(np.searchsorted(self.columns, positions, side="left"), 1, len(self.columns) - 1)
        share = (positions - self.columns[right - 1]) / (self.columns[right] - self.columns[right - 1])
        result: Array = coarse[:, right - 1] * (1 - share) + coarse[:, right] * share
        return result


@dataclass(frozen=True, slots=True)
class Surrogate:
    """``open_loop``: loads are requests per second, else in flight. ``seen`` holds the features of all points."""

    open_loop: bool
    service: ServiceModel
    seen: Array
    service_process: Process
    lines: dict[str, tuple[float, float]]
    others: dict[str, float]
    processes: dict[str, Process]

    def forecast(self, slots: Sequence[Slots], loads: Array) -> dict[str, Figure]:
        """Every figure for every pair of candidate and load."""
        if self.open_loop:
            in_flight, most = self._in_flight(slots, loads)
        else:
            in_flight, most = np.tile(loads, (len(slots), 1)), np.zeros(len(slots))
        points = self._matrix(slots, in_flight)
        coarse = self._coarse(slots, in_flight)
        rate, sd = self._requests_per_s(points, coarse)
        answered_sd = sd
        if self.open_loop:
            # What comes is what is answered, unless the server falls behind: no doubt of its speed makes that more.
            answered_sd = np.where(most[:, None] * np.exp(-2 * sd) >= loads[None, :], _CARRIED_SD, sd)
            rate = np.minimum(rate, loads[None, :])
        client_batch = np.array([float(s.client_batch) for s in slots])[:, None]
        figures = {"throughput": Figure(np.log(rate * client_batch), answered_sd)}
        mean_ms = 1000 * in_flight / rate
        for name, process in self.processes.items():
            offset, spread = coarse.predict(process)
            line = self.lines.get(name)
            middle = (
                np.log(line_at(line, mean_ms))
                if line
                else self.others[name] - _paid_by(name) * figures["throughput"].mean
            )
            figures[name] = Figure(middle + offset, np.hypot(spread, sd) if line else spread)
        return figures

    def _requests_per_s(self, points: Points, coarse: Coarse) -> tuple[Array, Array]:
        offset, sd = coarse.predict(self.service_process)
        return 1000 * points.running() / (self.service.service_ms(points) * np.exp(offset)), sd

    def _matrix(self, slots: Sequence[Slots], in_flight: Array) -> Points:
        """A row a candidate, a column a load."""
        of_each = np.array(
            [[s.instances, s.batch_limit, s.client_batch, s.delay_us / 1000] for s in slots], dtype=float
        )
        instances, limit, client_batch, delay_ms = (column[:, None] for column in of_each.T)
        return Points(instances, limit, in_flight, client_batch, delay_ms, self.service.gathers)

    def _in_flight(self, slots: Sequence[Slots], rates: Array) -> tuple[Array, Array]:
        """Requests in flight that carry a rate, a thousand times what saturates the server where none do; and the
        highest rate that is carried.
        """
        full = np.array([float(s.instances * s.batch_limit) for s in slots])
        grid = full[:, None] * np.geomspace(0.002, 2.0, 160)[None, :]
        carried, _ = self._requests_per_s(self._matrix(slots, grid), self._coarse(slots, grid))
        reached = np.maximum.accumulate(carried, axis=1)
        rows = [np.interp(rates, reached[i], grid[i], right=1000.0 * full[i]) for i in range(len(slots))]
        return np.stack(rows), reached[:, -1]

    def _coarse(self, slots: Sequence[Slots], in_flight: Array) -> Coarse:
        row = in_flight[0]
        count = min(max(_COARSE_CELLS // len(slots), _FEWEST_COARSE), _MOST_COARSE)
        wanted = np.geomspace(row[0], row[-1], count)
        columns = np.unique(np.clip(np.searchsorted(row, wanted), 0, len(row) - 1))
        repeated = [slot for slot in slots for _ in columns]
        features = features_of(repeated, _points(repeated, in_flight[:, columns].ravel(), self.service.gathers))
        cross = gaussian.kernel(features, self.seen) if len(self.seen) else np.empty((len(features), 0))
        return Coarse(cross, gaussian.prior_variance(features), columns, (len(slots), len(row)))


_STEP = "late_frames_ratio"
"""Nothing until a server falls behind, then nearly everything: p99, which stands beside it, is what can be forecast."""


def fit(levels: Sequence[Level], slots: Sequence[Slots], metrics: Sequence[str], open_loop: bool) -> Surrogate:
    """``slots`` stand beside ``levels``. Metrics in ms are latencies; throughput is always modelled."""
    pairs = [(level, slot) for level, slot in zip(levels, slots) if level.usable]
    pairs = _most_telling(pairs)
    seen = [level for level, _ in pairs]
    points = _points([slot for _, slot in pairs], np.array([level.in_flight for level in seen]), not open_loop)
    measured = queueing.service_ms(points, np.array([level.requests_per_s for level in seen]))
    service = queueing.fit(points, measured)
    points = replace(points, gathered=service.gathers)
    features = features_of([slot for _, slot in pairs], points)
    noise = np.array([noise_of(level.figures.get("throughput")) for level in seen])
    noise = np.hypot(noise, np.where(points.in_flight < points.instances, _IDLE_MISFIT, 0.0))
    left = np.log(measured) - np.log(service.service_ms(points))
    residual = gaussian.fit(features, left, noise, explained=3)
    between = gaussian.kernel(features, features)
    smooth = service.service_ms(points) * np.exp(residual.predict(between, gaussian.prior_variance(features))[0])
    mean_ms = smooth * points.in_flight / points.running()
    lines, others, processes = {}, {}, {}
    for name in metrics:
        rows = _telling(seen, name)
        if name == "throughput" or name.endswith(_STEP) or not len(rows):
            continue
        values = np.array([seen[i].figures[name].value for i in rows])
        if name.endswith("_ms"):
            lines[name] = fit_line(mean_ms[rows], values)
            expected, explained, typical = np.log(line_at(lines[name], mean_ms[rows])), 2, _LATENCY_SPREAD
        else:
            shared = _paid_by(name) * np.log(np.array([seen[i].figures["throughput"].value for i in rows]))
            others[name] = float(np.median(np.log(values) + shared))
            expected, explained, typical = others[name] - shared, 0, _OTHER_SPREAD
        sd = np.array([noise_of(seen[i].figures[name]) for i in rows])
        process = gaussian.fit(features[rows], np.log(values) - expected, sd, explained, typical)
        processes[name] = Process(process, rows)
    everything = Process(residual, np.arange(len(seen)))
    return Surrogate(open_loop, service, features, everything, lines, others, processes)


def _paid_by(name: str) -> float:
    """1 for a figure of each inference whose sum a device spends in any case: it is shared out by the throughput."""
    return 1.0 if name in _SHARED_OUT else 0.0


def _telling(seen: Sequence[Level], name: str) -> NDArray[np.intp]:
    """Rows that teach a figure. The latency of a server that falls behind says how long was measured, no more."""
    return np.array(
        [
            i
            for i, level in enumerate(seen)
            if level.eligible and name in level.figures and level.figures[name].value > 0
        ],
        dtype=np.intp,
    )


def _most_telling(pairs: list[tuple[Level, Slots]]) -> list[tuple[Level, Slots]]:
    return [pairs[i] for i in most_telling([x.requests_per_s * x.candidate.batch_size for x, _ in pairs], MOST_LEVELS)]


def most_telling(throughputs: Sequence[float], most: int) -> list[int]:
    """Places of the fastest third of what may be kept, and of an even sample of the others."""
    if len(throughputs) <= most:
        return list(range(len(throughputs)))
    fast = sorted(range(len(throughputs)), key=lambda i: -throughputs[i])
    top, rest = fast[: most // 3], fast[most // 3 :]
    sampled = [rest[int(i)] for i in np.linspace(0, len(rest) - 1, most - len(top))]
    return sorted({*top, *sampled})


def fit_line(mean_ms: Array, values: Array) -> tuple[float, float]:
    """Slope and intercept over the mean latency by relative errors, drawn weakly to 1.2 times the mean."""
    typical = float(np.median(mean_ms))
    rows = np.stack([mean_ms / values, 1 / values], axis=1) / 0.03
    prior = np.array([[1 / 1.2 / 0.3, 0.0], [0.0, 1 / typical / 0.1]])
    target = np.concatenate([np.full(len(values), 1 / 0.03), [1 / 0.3, 0.0]])
    slope, intercept = np.linalg.lstsq(np.concatenate([rows, prior]), target, rcond=None)[0]
    return float(max(slope, 0.05)), float(max(intercept, 0.0))


def line_at(line: tuple[float, float], mean_ms: Array) -> Array:
    slope, intercept = line
    return np.maximum(slope * mean_ms + intercept, _TINY)


def noise_of(estimate: Estimate | None) -> float:
    """Standard deviation of the logarithm."""
    if estimate is None:
        return _UNKNOWN_NOISE
    least = _FLOOR if estimate.supported else _UNSUPPORTED_NOISE
    half = half_width(estimate)
    if half is None or not estimate.value:
        return max(least, _UNKNOWN_NOISE)
    return min(max(half / Z95 / abs(estimate.value), least), 0.5)


def _points(slots: Sequence[Slots], in_flight: Array, gathered: bool) -> Points:
    return Points(
        np.array([float(s.instances) for s in slots]),
        np.array([float(s.batch_limit) for s in slots]),
        in_flight,
        np.array([float(s.client_batch) for s in slots]),
        np.array([s.delay_us / 1000 for s in slots]),
        gathered,
    )


def features_of(slots: Sequence[Slots], points: Points) -> Array:
    """Octaves, each over the number of octaves in which behaviour is taken to change."""
    return features_at(settings_of(slots), points)


def settings_of(slots: Sequence[Slots]) -> Array:
    """What ``features_at`` takes beside the points: a column for each field that they lack."""
    columns = [[float(s.delay_us), float(s.batching), *s.extra] for s in slots]
    return np.array(columns) if columns else np.empty((0, 2))


def features_at(settings: Array, points: Points) -> Array:
    over = np.clip(points.in_flight / (points.instances * points.limit), 1.0, 8.0)
    batch = points.batch()
    return np.stack(
        [
            np.log2(points.instances) / 1.2,
            np.log2(batch) / 2,
            np.log2(points.limit) / 8,
            np.log2(over) / 4,
            np.log2(points.running() / (points.instances * batch)) / 2,
            np.log2(1 + settings[:, 0] / 200) / 3,
            settings[:, 1] / 4,
            np.log2(points.client_batch) / 3,
            *settings[:, 2:].T,
        ],
        axis=1,
    )

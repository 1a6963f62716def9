"""Was the system in a steady state? Where warm-up ends, whether latency drifts, whether a backlog grows.

Nothing here chooses which requests count beyond one cut at the front: after it everything counts, and what is wrong
is said as a verdict.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perf_client.estimate import alikeness, taken
from perf_client.profile import Verdict

BATCHES = 20
FINE_BINS = 200
_PART = 1 << 18
FEWEST_REQUESTS = 50
FEWEST_TURNOVERS = 10
"""A trend can't be told from a window that is not several response times long."""

MATERIAL_DRIFT = 0.25
"""Change of the latency over the window, against its middle, below which a drift is of no practical weight."""

MATERIAL_GROWTH = 0.01
"""Part of what was offered that must stay undone for an overload."""

Z_99 = 2.58
"""Two-sided 99 %: a search gives hundreds of verdicts, so one false alarm in twenty would be too many."""

_MOST_ALIKE = 0.5
"""Correlation of neighbours beyond which twenty batches can't tell it."""

FEWEST_WAITING = 10
"""A backlog below this is a queue, not an overload."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Window:
    """What a verdict is about: all requests due within [from, to), answered or given up, in the order they were due.

    ``answered`` and ``timed_out`` mark rows of the first two; ``dropped_ns`` are due times of requests never sent.
    ``open_loop`` is false where the next request waits for an answer: there no backlog can grow. ``changes`` where the
    load itself does.
    """

    due_ns: Ints
    done_ns: Ints
    answered: Flags
    timed_out: Flags
    dropped_ns: Ints
    from_ns: int
    to_ns: int
    open_loop: bool
    changes: bool = False

    @property
    def span_s(self) -> float:
        return (self.to_ns - self.from_ns) / 1e9

    @property
    def offered(self) -> int:
        return len(self.due_ns) + len(self.dropped_ns)


@dataclass(frozen=True, slots=True)
class Trend:
    """Change over a whole series of batches, with its interval (in the unit of the series)."""

    change: float
    low: float
    high: float


def warmup_cut_ns(due_ns: Ints, done_ns: Ints, to_ns: int) -> int:
    """Where the warm-up ends, in ns from the start; 0 if there was none.

    MSER-5 proposes a cut on latency and on throughput. It would also cut away a stall in mid-run, so a proposal only
    stands as far as the series is abnormal from its very first bin on: what begins later is no warm-up, it counts.
    """
    bins = min(FINE_BINS, len(due_ns) // 5)
    if bins < 20 or to_ns <= 0:
        return 0
    edges = np.linspace(0, to_ns, bins + 1)
    ended, _ = np.histogram(done_ns, bins=edges)
    latency = _bin_means(due_ns, done_ns - due_ns, edges)
    cut = max(_front_cut(latency), _front_cut(ended.astype(np.float64)))
    return int(edges[cut])


def verdict(window: Window) -> tuple[Verdict, str]:
    """The verdict and the sentence that says why. Overload comes first: it also makes a window look short."""
    if window.offered < FEWEST_REQUESTS:
        return "too short", f"{window.offered} requests were counted; a trend takes at least {FEWEST_REQUESTS}"
    if window.changes:
        return _kept_up(window)
    if window.open_loop and (reason := _overload(window)):
        return "overloaded", reason
    return _settled(window)


def _settled(window: Window) -> tuple[Verdict, str]:
    latency_s = taken(window.done_ns - window.due_ns, window.answered) / 1e9
    if len(latency_s) < FEWEST_REQUESTS:
        return "too short", f"{len(latency_s)} requests were answered; a trend takes at least {FEWEST_REQUESTS}"
    turnover_s = float(latency_s.mean())
    if window.span_s < FEWEST_TURNOVERS * turnover_s:
        return "too short", (
            f"the counted {window.span_s:.3g} s are fewer than {FEWEST_TURNOVERS} response times of {turnover_s:.3g} s"
        )
    if reason := _drift(latency_s, window.span_s):
        return "drifting", reason
    return "steady", f"no trend in {len(latency_s)} response times over {window.span_s:.3g} s"


def _kept_up(window: Window) -> tuple[Verdict, str]:
    """Of a load that changes by design: was work left undone? What latency and backlog do meanwhile is its doing.

    Left undone is what waits all through the last quarter, however the load falls or rests in it, beyond what Little's
    law expects of answers that take thrice as long as in the quickest twentieth of the run.
    """
    if not window.open_loop:
        return "kept up", "what is in flight changes by design, so no trend is judged"
    lost = len(window.dropped_ns) + int(np.count_nonzero(window.timed_out))
    if lost >= max(MATERIAL_GROWTH * window.offered, 1):
        return "overloaded", f"{lost} of {window.offered} requests timed out or met the in-flight cap"
    latency_ns = taken(window.done_ns - window.due_ns, window.answered)
    if len(latency_ns) < FEWEST_REQUESTS:
        return "too short", f"{len(latency_ns)} requests were answered; a verdict takes at least {FEWEST_REQUESTS}"
    quarter_ns = (window.to_ns - window.from_ns) / 4
    waiting = int(
        backlog_at(window.due_ns, window.done_ns, np.linspace(window.to_ns - quarter_ns, window.to_ns, FINE_BINS)).min()
    )
    rate_ns = np.count_nonzero(window.due_ns >= window.to_ns - quarter_ns) / quarter_ns
    expected = 3 * rate_ns * min(float(part.mean()) for part in np.array_split(latency_ns, BATCHES))
    if waiting > max(expected, MATERIAL_GROWTH * window.offered, FEWEST_WAITING):
        return "overloaded", f"in the last quarter never fewer than {waiting} requests waited for their answers"
    return "kept up", "no backlog was left; a trend is not judged, since the load changes by design"


def trend(series: Floats) -> Trend:
    """Theil-Sen slope times the length: the median over all pairs, so that one freeze does not make a trend.

    The interval is Kendall's (Sen 1968), widened for neighbours that are alike once the trend is taken out.
    """
    count = len(series)
    left, right = np.triu_indices(count, 1)
    slopes = np.sort((series[right] - series[left]) / (right - left))
    middle = float(np.median(slopes))
    kendall = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    reach = Z_99 * kendall * math.sqrt(alikeness(series - middle * np.arange(count), _MOST_ALIKE))
    low, high = (len(slopes) - reach) / 2, (len(slopes) + reach) / 2
    return Trend(
        change=middle * count,
        low=float(slopes[int(low)]) * count if low >= 0 else -math.inf,
        high=float(slopes[math.ceil(high) - 1]) * count if high <= len(slopes) else math.inf,
    )


def _drift(latency_s: Floats, span_s: float) -> str:
    series = np.array([float(np.median(part)) for part in np.array_split(latency_s, BATCHES)])
    middle = float(np.median(series))
    found = trend(series)
    if middle <= 0 or abs(found.change) < MATERIAL_DRIFT * middle or found.low <= 0 <= found.high:
        return ""
    way = "rose" if found.change > 0 else "fell"
    low, high = sorted((abs(found.low), abs(found.high)))
    return (
        f"the response time {way} by {abs(found.change) * 1e3 / span_s:.3g} ms per second "
        f"({low * 1e3 / span_s:.3g} to {high * 1e3 / span_s:.3g}), {abs(found.change) / middle:.0%} over the window"
    )


def _overload(window: Window) -> str:
    edges = np.linspace(window.from_ns, window.to_ns, BATCHES + 1)
    lost, _ = np.histogram(np.concatenate((window.dropped_ns, window.due_ns[window.timed_out])), bins=edges)
    lost_all_along = np.count_nonzero(lost) > BATCHES / 2 and lost[-BATCHES // 4 :].any()
    if lost_all_along and lost.sum() >= MATERIAL_GROWTH * window.offered:
        return f"{lost.sum()} of {window.offered} requests timed out or met the in-flight cap, all through the window"
    backlog = backlog_at(window.due_ns, window.done_ns, edges[1:])
    found = trend(backlog.astype(np.float64))
    least = max(MATERIAL_GROWTH * window.offered, FEWEST_WAITING)
    if found.change < least or found.low <= 0 or backlog[-1] < least:
        return ""
    return (
        f"the backlog grew by {found.change / window.span_s:.3g} requests per second "
        f"({found.low / window.span_s:.3g} to {found.high / window.span_s:.3g}), to {backlog[-1]}"
    )


def backlog_at(due_ns: Ints, done_ns: Ints, moments_ns: Floats) -> Ints:
    """How many requests are due and not done at each moment."""
    return _before(due_ns, moments_ns) - _before(done_ns, moments_ns)


def _before(times_ns: Ints, moments_ns: Floats) -> Ints:
    """How many lie before each moment; a part at a time, since a sorted copy of a long run is large."""
    found = np.zeros(len(moments_ns), dtype=np.int64)
    for start in range(0, len(times_ns), _PART):
        found += np.searchsorted(np.sort(times_ns[start : start + _PART]), moments_ns, side="left")
    return found


def _bin_means(at_ns: Ints, values: Ints, edges: Floats) -> Floats:
    """Mean of each bin; an empty bin repeats the one before it (a stall, in a closed loop)."""
    where = np.clip(np.searchsorted(edges, at_ns, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(where, minlength=len(edges) - 1)
    sums = np.bincount(where, weights=values.astype(np.float64), minlength=len(edges) - 1)
    filled = np.maximum.accumulate(np.where(counts > 0, np.arange(len(counts)), 0))
    means = sums / np.maximum(counts, 1)
    return np.asarray(means[filled])


def _front_cut(series: Floats) -> int:
    """MSER-5's cut, shortened to the run of abnormal bins that starts at the front.

    Where MSER-5 found no cut before the middle, a stall later in the run may be why: a front that is abnormal and then
    calm is cut all the same. A front that never calms down is a drift, which is none of a warm-up's business.
    """
    proposed = mser(series, batch=5)
    if not proposed:
        return 0
    kept = series[proposed:]
    middle = float(np.median(kept))
    width = 3 * 1.4826 * float(np.median(np.abs(kept - middle)))
    abnormal = np.abs(series[:proposed] - middle) > max(width, 0.05 * abs(middle))
    # Two normal bins in a row end it: one may be chance.
    calm = ~abnormal[:-1] & ~abnormal[1:]
    ends = np.flatnonzero(calm)
    if len(ends):
        return int(ends[0])
    return proposed if proposed < len(series) // 5 // 2 * 5 else 0


def mser(series: Floats, batch: int = 5) -> int:
    """White's MSER on means of ``batch`` values: the cut that makes the mean of the rest most certain.

    The statistic is the sum of squared deviations of what is kept over the square of its number. Cuts up to the middle
    are looked at, since it is small by chance over the last few values; the middle itself means that the series had not
    settled by then, or was stirred up again later.
    """
    count = len(series) // batch
    if count < 4:
        return 0
    means = series[: count * batch].reshape(count, batch).mean(axis=1)
    left = np.arange(count, 0, -1)
    sums = np.cumsum(means[::-1])[::-1]
    squares = np.cumsum((means**2)[::-1])[::-1]
    statistic = ((squares - sums**2 / left) / left**2)[: count // 2 + 1]
    best = int(np.argmin(statistic))
    return best * batch

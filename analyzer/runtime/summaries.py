"""Quantiles of durations over the last minute, as Triton's summary metrics tell them."""

from collections import Counter, deque
from collections.abc import Sequence

from analyzer.runtime.durations import Durations

_SPAN_NS = 12_000_000_000
_SPANS = 5
"""A minute in spans that leave one by one: the sliding window of the Prometheus library that Triton uses."""
_DIGITS = 6


class Summary:
    """``count`` and ``sum_us`` are of all time. Six binary digits of a duration are kept: a 32nd is lost at most."""

    def __init__(self) -> None:
        self.count = 0
        self.sum_us = 0
        self._spans: deque[tuple[int, Counter[int]]] = deque(maxlen=_SPANS)

    def record(self, duration_ns: int, now_ns: int) -> None:
        duration_us = duration_ns // 1000
        self.count += 1
        self.sum_us += duration_us
        number = now_ns // _SPAN_NS
        if not self._spans or self._spans[-1][0] != number:
            self._spans.append((number, Counter()))
        surplus = max(0, duration_us.bit_length() - _DIGITS)
        self._spans[-1][1][duration_us >> surplus << surplus] += 1

    def quantiles(self, wanted: Sequence[float], now_ns: int) -> list[int | None]:
        """In microseconds, of the last minute; None where nothing was recorded in it."""
        oldest = now_ns // _SPAN_NS - _SPANS
        counts: Counter[int] = Counter()
        for number, kept in self._spans:
            if number > oldest:
                counts.update(kept)
        ordered = sorted(counts.items())
        return [_at_rank(ordered, quantile * counts.total()) for quantile in wanted]


def _at_rank(ordered: Sequence[tuple[int, int]], rank: float) -> int | None:
    seen = 0
    for duration_us, count in ordered:
        seen += count
        if seen >= rank:
            return duration_us
    return None


class Summaries:
    """Those of one model version: what a request took in all, and where."""

    def __init__(self) -> None:
        self.requests = Summary()
        self.queues = Summary()
        self.inputs = Summary()
        self.inferences = Summary()
        self.outputs = Summary()

    def record(self, total_ns: int, queue_ns: int, spent: Durations, now_ns: int) -> None:
        """One request that was executed; the queue time that ``spent`` has is not looked at."""
        self.requests.record(total_ns, now_ns)
        self.queues.record(queue_ns, now_ns)
        self.inputs.record(spent.input_ns, now_ns)
        self.inferences.record(spent.infer_ns, now_ns)
        self.outputs.record(spent.output_ns, now_ns)

"""What the rules judge by: a timeline, the figures of a measurement, and what the models are configured to do.

Each part may be missing; a rule that needs one then abstains and says which.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from analyzer.domain.finding import Abstained, Finding, Quiet, Ruling, severity_of
from analyzer.domain.measurement import Measurement
from analyzer.timeline.kinds import Relation
from analyzer.timeline.requests import root_rows
from analyzer.timeline.rules.loads import ModelLoad, from_statistics, from_timeline
from analyzer.timeline.table import Rows, Timeline

TITLES = {
    "R1": "Gaps between the steps of the ensemble",
    "R2": "Requests wait in the queue",
    "R3": "Batches are not filled",
    "R4": "Copies to the device are not hidden",
    "R5": "Copies from pageable memory",
    "R6": "Copies between steps on the same device",
    "R7": "Launches hold the device back",
    "R8": "Threads wait for an idle device",
    "R9": "Instances take turns",
    "R10": "The device is little used",
    "R11": "Full precision without tensor cores",
    "R12": "The device is throttled or shared",
}


SETS_THE_PACE = 0.8
"""What is busy for so much of the time is taken for what limits the rest, as rule R2 does."""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """How a model is served. None is "not known"."""

    instance_count: int | None = None
    max_batch_size: int | None = None
    dynamic_batching: bool | None = None
    preferred_batch_sizes: tuple[int, ...] = ()
    queue_delay_us: int | None = None
    backend: str = ""

    @property
    def wanted_batch(self) -> int | None:
        """What a batch should come to: the smallest preferred size, else the largest that is allowed."""
        return min(self.preferred_batch_sizes, default=None) or self.max_batch_size


@dataclass(frozen=True, slots=True)
class DeviceWatch:
    """One GPU as NVML saw it over the window. None is "not measured"."""

    name: str
    utilization_ratio: float | None = None
    sm_ratio: float | None = None
    tensor_ratio: float | None = None
    throttled_ratio: float | None = None
    memory_used_ratio: float | None = None
    other_memory_bytes: int | None = None
    other_process_count: int | None = None
    is_too_short: bool = False


@dataclass(frozen=True, slots=True)
class Alone:
    """A model's execution where one instance had the machine to itself."""

    batch: float
    execute_ms: float


@dataclass(frozen=True, slots=True)
class Lost:
    """Time that could be had back: of a mean request, or of the capture where there are no requests."""

    ms: float
    share_ratio: float


@dataclass(frozen=True)
class Case:
    """``alone`` has what other measurements of the run show of one instance by itself."""

    timeline: Timeline | None = None
    models: Mapping[str, ModelFacts] = field(default_factory=dict)
    measurement: Measurement | None = None
    devices: tuple[DeviceWatch, ...] = ()
    alone: Mapping[str, tuple[Alone, ...]] = field(default_factory=dict)

    def facts(self, model: str) -> ModelFacts:
        return self.models.get(model, ModelFacts())

    @cached_property
    def loads(self) -> tuple[ModelLoad, ...]:
        """Queue and batches of each model: from the timeline, or else from the server's statistics."""
        known = {name: facts.instance_count for name, facts in self.models.items()}
        if self.timeline is not None:
            found = from_timeline(self.timeline, known)
            if found:
                return found
        return from_statistics(self.measurement, known) if self.measurement is not None else ()

    @cached_property
    def request_rows(self) -> Rows:
        """Requests of clients, without those that an ensemble makes."""
        assert self.timeline is not None
        return root_rows(self.timeline)

    @cached_property
    def request_ns(self) -> float | None:
        """A mean request, as the server sees it where there is a timeline."""
        if self.timeline is not None and len(self.request_rows):
            return float(self.timeline.events.duration_ns[self.request_rows].mean())
        response = self.measurement.load.response if self.measurement is not None else None
        return None if response is None else response.mean_ns

    @cached_property
    def request_count(self) -> int:
        if self.timeline is not None and len(self.request_rows):
            return len(self.request_rows)
        return self.measurement.load.request_count if self.measurement is not None else 0

    @cached_property
    def span_ns(self) -> int:
        timeline = self.timeline
        return timeline.end_ns - timeline.start_ns if timeline is not None else 0

    def lost_by_requests(self, total_ns: float) -> Lost:
        """Of time that all requests together lost."""
        mean = self.request_ns
        if mean is None or not self.request_count:
            return self.lost_by_span(total_ns)
        each = min(total_ns / self.request_count, mean)
        return Lost(each / 1e6, each / max(mean, 1.0))

    def lost_by_span(self, total_ns: float, span_ns: int | None = None) -> Lost:
        """Of time that the whole server lost: the same share of each request, by Little's law."""
        span = self.span_ns if span_ns is None else span_ns
        share = min(total_ns / span, 1.0) if span else 0.0
        return Lost(share * (span if self.request_ns is None else self.request_ns) / 1e6, share)

    def lost_by_work(self, total_ns: float, span_ns: int, busy_ratio: float) -> Lost:
        """Of time on a device or thread. One that works nearly all the time sets the pace: a request gets shorter as a
        whole by that share. Of any other, a request has its own part back, which is that of its batches.
        """
        if busy_ratio >= SETS_THE_PACE or not self.request_count:
            return self.lost_by_span(total_ns, span_ns)
        return self.lost_by_requests(total_ns * self.requests_a_batch)

    @cached_property
    def requests_a_batch(self) -> float:
        if self.timeline is None:
            return 1.0
        batches = self.timeline.edges.of(Relation.REQUEST_BATCH)[1]
        return len(batches) / len(np.unique(batches)) if len(batches) else 1.0

    def finding(  # what a finding is made of
        self,
        rule: str,
        lost: Lost,
        evidence: str,
        numbers: Mapping[str, float],
        *,
        action: str,
        check: str,
        change: str = "",
        model: str = "",
        rows: Rows | tuple[int, ...] = (),
    ) -> Finding:
        return Finding(
            id=rule,
            title=TITLES[rule],
            severity=severity_of(lost.share_ratio),
            model=model,
            evidence=evidence,
            numbers={name: round(float(value), 6) for name, value in numbers.items()},
            rows=tuple(int(row) for row in rows[:10]),
            recoverable_ms=round(lost.ms, 6),
            share_ratio=round(lost.share_ratio, 6),
            basis="capture" if self.request_ns is None else "request",
            action=action,
            change=change,
            check=check,
        )


def quiet(rule: str, evidence: str) -> Ruling:
    return Quiet(id=rule, title=TITLES[rule], evidence=evidence)


def abstained(rule: str, *missing: str) -> Ruling:
    return Abstained(id=rule, title=TITLES[rule], missing=missing)

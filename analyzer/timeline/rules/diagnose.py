"""All rules over one case: what costs time, the dearest first, and what can't be judged."""

from collections.abc import Callable

from analyzer.domain.finding import Abstained, Diagnosis, Finding, Quiet, Ruling
from analyzer.domain.thresholds import DEFAULTS, Thresholds
from analyzer.timeline.rules.case import Case
from analyzer.timeline.rules.copying import host_to_device, pageable
from analyzer.timeline.rules.device import contended, low_use, precision
from analyzer.timeline.rules.host import launch_bound, sync_stall
from analyzer.timeline.rules.instances import serialised
from analyzer.timeline.rules.queueing import queue_bound, underfilled
from analyzer.timeline.rules.steps import copy_churn, step_gap

Rule = Callable[[Case, Thresholds], Ruling]

CAUSES: tuple[Rule, ...] = (
    step_gap,
    queue_bound,
    underfilled,
    host_to_device,
    pageable,
    copy_churn,
    launch_bound,
    sync_stall,
    serialised,
)
"""R1 to R9. R10 asks what these said; R11 and R12 stand by themselves."""


def diagnose(case: Case, limits: Thresholds = DEFAULTS) -> Diagnosis:
    """Every rule once. Findings are ranked by what could be had back, never by a word for their severity."""
    rulings = [rule(case, limits) for rule in CAUSES]
    explained = any(isinstance(ruling, Finding) for ruling in rulings)
    rulings += [low_use(case, limits, explained), precision(case, limits), contended(case, limits)]
    findings = sorted(
        (ruling for ruling in rulings if isinstance(ruling, Finding)), key=lambda each: -each.recoverable_ms
    )
    return Diagnosis(
        findings=tuple(findings),
        quiet=tuple(ruling for ruling in rulings if isinstance(ruling, Quiet)),
        abstained=tuple(ruling for ruling in rulings if isinstance(ruling, Abstained)),
    )

"""What a search over models together can say for itself: where it starts, why each candidate was measured or left."""

from collections.abc import Iterable

from analyzer.domain.ledger import Candidate, LedgerEntry, LedgerState
from analyzer.search import patience
from analyzer.search.evidence import Level
from analyzer.search.joint_ground import Ground
from analyzer.search.joint_outlook import JointOutlook, JointProspect
from analyzer.search.outlook import WORTH_RATIO
from analyzer.search.problem import JointProblem


def corners(ground: Ground) -> list[int]:
    """One model at its widest and the others at their narrowest, in turn; then all at their widest."""
    widths = [[s.instances * s.batch_limit for s in slots] for slots in ground.slots]
    total = range(len(ground.slots[0]))
    found = []
    for model in range(len(ground.models)):
        others = [w for place, w in enumerate(widths) if place != model]
        found.append(max(total, key=lambda row: (widths[model][row], [-w[row] for w in others])))
    found.append(max(total, key=lambda row: min(w[row] for w in widths)))
    deep = [[(s.batch_limit, -s.instances) for s in slots] for slots in ground.slots]
    found.append(max(total, key=lambda row: [d[row] for d in deep]))
    wide = [[(s.instances, -s.batch_limit) for s in slots] for slots in ground.slots]
    found.append(max(total, key=lambda row: [w[row] for w in wide]))
    return list(dict.fromkeys(found))


def ledger(look: JointOutlook, skipped: Iterable[tuple[Candidate, str]], reused: set[str]) -> tuple[LedgerEntry, ...]:
    """One entry a candidate, in the order of the space."""
    prospects = {p.prospect.row: p for p in look.prospects}
    entries = [_entry(look, row, prospects.get(row), reused) for row in range(len(look.problem.candidates))]
    return (*entries, *(LedgerEntry(candidate=c, state="skipped", rule=rule) for c, rule in skipped))


def _entry(look: JointOutlook, row: int, prospect: JointProspect | None, reused: set[str]) -> LedgerEntry:
    candidate, evidence = look.problem.candidates[row], look.evidence
    count = evidence.point_counts.get(candidate, 0)
    if candidate in evidence.failed:
        return LedgerEntry(candidate=candidate, state="failed", rule=evidence.failed[candidate], point_count=count)
    levels = look.levels.get(row)
    if not levels:
        return LedgerEntry(candidate=candidate, state="skipped", rule=_skipped_rule(look, prospect))
    told = all(m.config.key in reused for level in levels for m in level.measurements)
    state: LedgerState = "reused" if told else "measured"
    return LedgerEntry(candidate=candidate, state=state, rule=_measured_rule(look, candidate), point_count=count)


def _measured_rule(look: JointOutlook, candidate: Candidate) -> str:
    kept = next((level for level in look.best_kept if level.candidate == candidate), None)
    if kept is None:
        return "keeps not every limit at any of the loads that were tried"
    if kept is look.best_kept[0]:
        return f"the best found within the limits, at {_loads(look.problem, kept)}"
    return f"behind the best within the limits, at {_loads(look.problem, kept)}"


def _skipped_rule(look: JointOutlook, joint: JointProspect | None) -> str:
    if look.evidence.levels and joint is None:
        return "hopeless: forecast too far behind the others to be looked at closely"
    prospect = joint.prospect if joint is not None else None
    gain = prospect.gain(look.incumbent) if prospect else 0.0
    if prospect is None or not look.evidence.levels or gain >= WORTH_RATIO * patience.growth(look.barren):
        return "not reached: the search ended before its turn"
    if prospect.p_loads < 1:
        return "unlikely to load, because a smaller configuration failed, and not worth the try"
    if prospect.p_kept < 1:
        return f"unlikely to keep the limits at any load: {prospect.p_kept:.0%} by the forecast"
    if look.incumbent is not None and gain >= WORTH_RATIO:
        return f"promises {gain:.1%}: too little after {look.barren} points in a row that found nothing better"
    return "forecast to be no better than the best by so much that it would be worth a measurement"


def _loads(problem: JointProblem, level: Level) -> str:
    unit = "requests/s" if problem.open_loop else "in flight"
    return ", ".join(f"{load:g} {unit} to {model}" for load, model in zip(level.loads, problem.ground.models))

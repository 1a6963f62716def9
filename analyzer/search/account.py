"""What a search can say for itself: where it starts, and why each candidate was measured or left out."""

import math
from collections.abc import Iterable, Sequence

from analyzer.domain.ledger import Candidate, LedgerEntry
from analyzer.domain.metrics import METRICS
from analyzer.search import patience
from analyzer.search.candidates import Slots
from analyzer.search.evidence import Level
from analyzer.search.outlook import WORTH_RATIO, Outlook
from analyzer.search.prospect import Prospect

_HOPELESS_SD = 2.0
_UNITS = {"concurrency": "in flight", "request_rate": "requests/s", "streams": "streams"}


def corners(slots: Sequence[Slots]) -> list[int]:
    """Rows that span the space: the extremes of instances and batch first, then their middle, then other axes."""
    instances = sorted({s.instances for s in slots})
    batches = sorted({s.batch_limit for s in slots})
    clients = sorted({s.client_batch for s in slots})
    middle = (instances[len(instances) // 2], batches[len(batches) // 2])
    wanted = [
        (instances[-1], batches[-1], clients[0]),
        (instances[0], batches[-1], clients[0]),
        (instances[-1], batches[0], clients[0]),
        (*middle, clients[0]),
    ]
    if len(clients) > 1:
        wanted.append((*middle, clients[-1]))
    rows = (min(range(len(slots)), key=lambda row: _distance(slots[row], *target)) for target in wanted)
    return list(dict.fromkeys(rows))


def _distance(slots: Slots, instances: int, batch_limit: int, client_batch: int) -> tuple[float, int]:
    octaves = (
        math.log2(slots.instances / instances),
        math.log2(slots.batch_limit / batch_limit),
        2 * math.log2(slots.client_batch / client_batch),
    )
    return math.hypot(*octaves), slots.delay_us


def neighbours(slots: Sequence[Slots], row: int) -> set[int]:
    """Rows one step from ``row`` on one axis."""
    own = _place(slots[row])
    axes = [sorted({_place(s)[axis] for s in slots}) for axis in range(len(own))]
    found = set()
    for other, slot in enumerate(slots):
        moved = [axis for axis, value in enumerate(_place(slot)) if value != own[axis]]
        if len(moved) == 1:
            values = axes[moved[0]]
            if abs(values.index(_place(slot)[moved[0]]) - values.index(own[moved[0]])) == 1:
                found.add(other)
    return found


def _place(slots: Slots) -> tuple[int, ...]:
    return (slots.instances, slots.batch_limit, slots.client_batch, slots.delay_us)


def ledger(look: Outlook, skipped: Iterable[tuple[Candidate, str]], reused: set[str]) -> tuple[LedgerEntry, ...]:
    """One entry a candidate, in the order of the space."""
    prospects = {p.row: p for p in look.prospects}
    entries = []
    for row, candidate in enumerate(look.problem.candidates):
        count = look.evidence.point_counts.get(candidate, 0)
        levels = look.levels[row]
        if candidate in look.evidence.failed:
            entry = LedgerEntry(
                candidate=candidate, state="failed", rule=look.evidence.failed[candidate], point_count=count
            )
        elif levels:
            told = all(m.config.key in reused for level in levels for m in level.measurements)
            entry = LedgerEntry(
                candidate=candidate,
                state="reused" if told else "measured",
                rule=_measured_rule(look, row, levels),
                point_count=count,
            )
        else:
            entry = LedgerEntry(candidate=candidate, state="skipped", rule=_skipped_rule(look, prospects[row]))
        entries.append(entry)
    left_out = (LedgerEntry(candidate=candidate, state="skipped", rule=rule) for candidate, rule in skipped)
    return (*entries, *left_out)


def _measured_rule(look: Outlook, row: int, levels: list[Level]) -> str:
    candidate = look.problem.candidates[row]
    kept = next((level for level in look.best_kept if level.candidate == candidate), None)
    if kept is None:
        lowest = min(levels, key=lambda level: level.load)
        return f"keeps no limit even at {_load(look, lowest.load)}, the lowest that was tried"
    found = f"{_figures(look, kept)} at {_load(look, kept.load)}"
    if kept is look.best_kept[0]:
        return f"the best found within the limits: {found}"
    return f"{found}, behind {_figures(look, look.best_kept[0])} of the best"


def _skipped_rule(look: Outlook, prospect: Prospect) -> str:
    if prospect.alike != "apart" and prospect.p_kept == 1.0:
        return (
            "like one that was measured: only a larger batch is allowed or not, and none gets as large at its best load"
        )
    return _forecast_rule(look, prospect)


def _forecast_rule(look: Outlook, prospect: Prospect) -> str:
    if look.incumbent is None:
        return f"unlikely to keep the limits: {prospect.p_kept:.0%} by the forecast"
    if prospect.p_loads < 1:
        return "unlikely to load, because a configuration near it or smaller failed, and not worth the try"
    if prospect.p_kept < 1:
        return f"unlikely to keep the limits at any load: {prospect.p_kept:.0%} by the forecast"
    gap = math.exp(prospect.score - look.incumbent) - 1
    if prospect.score + _HOPELESS_SD * prospect.sd < look.incumbent:
        return f"hopeless: forecast {-gap:.0%} behind the best, beyond any doubt of the forecast"
    return _promise_rule(look, prospect, gap)


def _promise_rule(look: Outlook, prospect: Prospect, gap: float) -> str:
    gain = prospect.gain(look.incumbent)
    if not look.evidence.levels or gain >= WORTH_RATIO * patience.growth(look.barren):
        return "not reached: the search ended before its turn"
    if gain >= WORTH_RATIO:
        return f"promises {gain:.1%}: too little after {look.barren} points in a row that found nothing better"
    return (
        f"forecast {abs(gap):.1%} {'behind' if gap < 0 else 'ahead of'} the best: too little to be worth a measurement"
    )


def _figures(look: Outlook, level: Level) -> str:
    parts = []
    for objective in look.problem.objectives:
        figure, metric = level.figures.get(objective.figure), METRICS[objective.metric]
        if figure is not None:
            parts.append(f"{metric.title.lower()} {figure.value:.4g} {metric.unit}")
    return ", ".join(parts)


def _load(look: Outlook, load: float) -> str:
    return f"{load:g} {_UNITS[look.problem.load.kind]}"

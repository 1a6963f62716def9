"""Why a search has ended, in a sentence without its full stop."""

from collections.abc import Iterable, Sequence

from analyzer.domain.budget import Budget
from analyzer.domain.ledger import LedgerEntry
from analyzer.domain.measurement import Measurement, Outcome

NOTHING_WORTH = "nothing more is worth measuring"


def conclusion(entries: Sequence[LedgerEntry], keeps_limits: bool, reached: str, capped_at: int | None = None) -> str:
    """``reached`` is the planner's own reason, for a search that found something; ``capped_at`` the points it may have.

    Nothing found is told first: it is what must be mended.
    """
    tried = [entry for entry in entries if entry.point_count]
    failed = [entry for entry in tried if entry.state == "failed"]
    ended = reached if capped_at is None else f"as many points as were allowed, {capped_at}, were measured"
    if tried and len(failed) == len(tried):
        many = f"each of the {len(failed)} configurations" if len(failed) > 1 else "the only configuration"
        return f"{many} that was tried failed, such as: {failed[0].rule}"
    if tried and not keeps_limits:
        return f"nothing that was measured keeps every limit, and {ended}"
    return ended


def any_keeps(outcomes: Iterable[Outcome], budgets: Sequence[Budget]) -> bool:
    """By the figures alone. A limit on something that was not measured is passed over."""
    measured = (outcome for outcome in outcomes if isinstance(outcome, Measurement))
    return any(all((budget.violation(m) or 0.0) <= 0 for budget in budgets) for m in measured)

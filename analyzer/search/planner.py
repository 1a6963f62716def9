"""The contract of a search: ask what to measure next, tell what came out."""

from typing import Protocol

from analyzer.domain.ledger import LedgerEntry
from analyzer.domain.measurement import Outcome
from analyzer.domain.run import RunConfig


class Planner(Protocol):
    """Never asks twice for one point, never outside the space, always ends. Outcomes of an earlier run may be told."""

    def ask(self) -> RunConfig | None:
        """The next point, or None when nothing more is worth measuring.

        May be asked again before the last point's outcome is told: points that are still out are not asked for again.
        None then means that there is nothing until one of them is told.
        """
        ...

    def tell(self, outcome: Outcome) -> None: ...

    def expected_remaining(self) -> int:
        """About how many points are still to be asked."""
        ...

    def conclusion(self) -> str:
        """Why there is nothing more to ask, in a sentence without its full stop."""
        ...

    def ledger(self) -> tuple[LedgerEntry, ...]:
        """Every candidate of the space, what became of it so far and the rule that decided."""
        ...

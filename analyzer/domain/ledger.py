"""What became of each candidate of a search, and the rule that decided."""

from collections.abc import Iterable, Sequence
from typing import Literal

from analyzer.domain.measurement import Failure, Outcome
from analyzer.domain.record import Record
from analyzer.domain.run import RunConfig, ServerConfig
from analyzer.domain.space import Shapes

LedgerState = Literal["measured", "reused", "skipped", "failed"]


class Candidate(Record, frozen=True):
    """What a search chooses between: a server configuration and what clients send. Load is found for each."""

    server: ServerConfig
    batch_size: int = 1
    shapes: Shapes = ()


def candidate_of(config: RunConfig) -> Candidate:
    """The candidate that a point belongs to."""
    shapes = tuple(sorted(config.load.shapes.items()))
    return Candidate(server=config.server, batch_size=config.load.batch_size, shapes=shapes)


class LedgerEntry(Record, frozen=True):
    """``reused``: every figure came from an earlier run. ``rule`` is one sentence; ``point_count`` counts outcomes."""

    candidate: Candidate
    state: LedgerState
    rule: str
    point_count: int = 0


def completed(entries: Sequence[LedgerEntry], outcomes: Iterable[Outcome]) -> tuple[LedgerEntry, ...]:
    """With what was measured since the ledger was written: a killed run leaves none, or an older one."""
    told = {entry.candidate: entry for entry in entries}
    counts: dict[Candidate, int] = {}
    failed: dict[Candidate, str] = {}
    for outcome in outcomes:
        candidate = candidate_of(outcome.config)
        counts[candidate] = counts.get(candidate, 0) + 1
        if isinstance(outcome, Failure):
            failed[candidate] = outcome.reason
    for candidate, count in counts.items():
        if candidate not in told or told[candidate].state == "skipped":
            reason = failed.get(candidate, "measured; the run was ended before it could say more")
            state: LedgerState = "failed" if candidate in failed else "measured"
            told[candidate] = LedgerEntry(candidate=candidate, state=state, rule=reason, point_count=count)
    return tuple(told.values())

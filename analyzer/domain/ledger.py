"""What became of each candidate of a search, and the rule that decided."""

from typing import Literal

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

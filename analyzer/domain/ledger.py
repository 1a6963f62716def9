"""What became of each candidate of a search, and the rule that decided."""

from typing import Literal

from analyzer.domain.record import Record
from analyzer.domain.run import ServerConfig

LedgerState = Literal["measured", "reused", "skipped", "failed"]


class Candidate(Record, frozen=True):
    """What a search chooses between: a server configuration and the batch that clients send. Load is found for each."""

    server: ServerConfig
    batch_size: int = 1


class LedgerEntry(Record, frozen=True):
    """``reused``: every figure came from an earlier run. ``rule`` is one sentence; ``point_count`` counts outcomes."""

    candidate: Candidate
    state: LedgerState
    rule: str
    point_count: int = 0

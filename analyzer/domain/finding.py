"""What the rules say of a measurement or a capture: what holds it back, or why nothing can be said."""

from typing import Literal

from analyzer.domain.record import Record

Severity = Literal["high", "medium", "low"]


class Finding(Record, frozen=True):
    """One thing that costs time.

    ``recoverable_ms`` is an estimate, of a mean request where there are requests (``basis``), else of the capture;
    ``share_ratio`` is its part of that. ``numbers`` have their units in their names, ``rows`` are a few of the events.
    ``change`` is a fragment of ``config.pbtxt`` or a flag, empty where there is none.
    """

    id: str
    title: str
    severity: Severity
    model: str
    evidence: str
    numbers: dict[str, float]
    rows: tuple[int, ...]
    recoverable_ms: float
    share_ratio: float
    basis: Literal["request", "capture"]
    action: str
    change: str
    check: str


class Quiet(Record, frozen=True):
    """A rule that had what it needs and found nothing."""

    id: str
    title: str
    evidence: str


class Abstained(Record, frozen=True):
    """A rule that can't judge: ``missing`` says what it would need."""

    id: str
    title: str
    missing: tuple[str, ...]


Ruling = Finding | Quiet | Abstained


class Diagnosis(Record, frozen=True):
    """Findings by their recoverable time, the largest first; the other rules in their order."""

    findings: tuple[Finding, ...]
    quiet: tuple[Quiet, ...]
    abstained: tuple[Abstained, ...]

    @property
    def top(self) -> Finding | None:
        return self.findings[0] if self.findings else None


def severity_of(share_ratio: float) -> Severity:
    return "high" if share_ratio >= 0.2 else "medium" if share_ratio >= 0.05 else "low"

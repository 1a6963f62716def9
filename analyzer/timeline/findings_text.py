"""What the rules say, as text of at most 80 columns."""

from collections.abc import Iterator
from textwrap import wrap

from analyzer.domain.finding import Diagnosis, Finding
from analyzer.timeline.text import WIDTH


def diagnosis_lines(diagnosis: Diagnosis) -> list[str]:
    """Findings first, the dearest on top; then, a line each, what was fine and what can't be judged."""
    lines = ["", "What holds it back"]
    if not diagnosis.findings:
        lines += wrap("nothing that these rules know, by what was collected", WIDTH, initial_indent="  ")
    for finding in diagnosis.findings:
        lines += _finding(finding)
    for each in diagnosis.quiet:
        lines += _hanging(f"{each.id}: {each.evidence}", "ok")
    for missing in diagnosis.abstained:
        lines += _hanging(f"{missing.id} {missing.title}: needs {', '.join(missing.missing)}", "?")
    return lines


def _finding(finding: Finding) -> Iterator[str]:
    yield from _hanging(f"{finding.id} {finding.title}: {cost(finding)}", "!")
    for text in (finding.evidence, finding.action, finding.change, f"Check: {finding.check}"):
        yield from wrap(text, WIDTH, initial_indent="     ", subsequent_indent="     ", break_on_hyphens=False)


def _hanging(text: str, mark: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent=f"  {mark:<3}", subsequent_indent="     ", break_on_hyphens=False)


def cost(finding: Finding) -> str:
    """``about 0.45 ms (18 %) of a mean request``."""
    whole = "a mean request" if finding.basis == "request" else "the capture"
    ms = f"{finding.recoverable_ms:.3g}" if finding.recoverable_ms < 1000 else f"{finding.recoverable_ms:,.0f}"
    return f"about {ms} ms ({finding.share_ratio:.0%}) of {whole}"

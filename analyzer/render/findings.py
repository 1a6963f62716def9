"""What the rules say of the point that a page is about, and one request of it, in the page's words."""

from analyzer.domain.finding import Diagnosis
from analyzer.render.view import Cell, Column, Fact, FindingView, Row, Table
from analyzer.timeline.analyses.critical_path import CriticalPath, Piece, critical_path
from analyzer.timeline.findings_text import cost
from analyzer.timeline.requests import median_request
from analyzer.timeline.table import Timeline

PIECES = 60
_NO_TABLE = Table(columns=(), rows=())


def sentence(diagnosis: Diagnosis | None) -> str:
    """The dearest finding, for the reasons and the terminal."""
    if diagnosis is None or diagnosis.top is None:
        return ""
    top = diagnosis.top
    where = f" ({top.model})" if top.model else ""
    title = top.title[0].lower() + top.title[1:]
    return f"What holds it back most: {title}{where}, {cost(top)}. {top.action}"


def found(diagnosis: Diagnosis | None) -> tuple[FindingView, ...]:
    return tuple(
        FindingView(
            title=f"{each.title} ({each.id})",
            severity=each.severity,
            cost=cost(each),
            evidence=each.evidence,
            action=each.action,
            change=f"# {each.model}/config.pbtxt\n{each.change}" if each.model and each.change else each.change,
            check=each.check,
        )
        for each in (diagnosis.findings if diagnosis else ())
    )


def fine(diagnosis: Diagnosis | None) -> tuple[Fact, ...]:
    return tuple(
        Fact(name=f"{each.title} ({each.id})", value=each.evidence) for each in (diagnosis.quiet if diagnosis else ())
    )


def unjudged(diagnosis: Diagnosis | None) -> tuple[Fact, ...]:
    return tuple(
        Fact(name=f"{each.title} ({each.id})", value=f"needs {', '.join(each.missing)}")
        for each in (diagnosis.abstained if diagnosis else ())
    )


def timeline_sentence(timeline: Timeline | None) -> str:
    """What was watched, and what of it is missing."""
    if timeline is None:
        return ""
    parts = [f"{len(timeline):,} events of {timeline.meta.producer} over the counted window"]
    if not timeline.has_gpu_activity:
        parts.append("no GPU activity was collected")
    parts += [f"{count:,} {kind} lost" for kind, count in timeline.meta.dropped.items()]
    return ", ".join(parts) + "."


def path(timeline: Timeline | None) -> Table:
    """The request of median length, piece by piece."""
    request = None if timeline is None else median_request(timeline)
    if timeline is None or request is None:
        return _NO_TABLE
    whole = critical_path(timeline, request)
    columns = (
        Column(title="Piece"),
        Column(title="Where"),
        Column(title="From (ms)", numeric=True),
        Column(title="Time (ms)", numeric=True),
        Column(title="Share (%)", numeric=True),
    )
    return Table(columns=columns, rows=tuple(_row(piece, whole) for piece in whole.pieces[:PIECES]))


def _row(piece: Piece, whole: CriticalPath) -> Row:
    where = [piece.model] if piece.model else []
    where += [f"instance {piece.instance}"] if piece.instance >= 0 else []
    where += [f"{piece.gpu_ns / 1e6:.3f} ms of it on the GPU"] if piece.gpu_ns else []
    share = 100 * piece.duration_ns / max(whole.duration_ns, 1)
    return Row(
        cells=(
            Cell(text=f"{piece.name} (wait)" if piece.is_wait else piece.name),
            Cell(text=", ".join(where)),
            _figure((piece.start_ns - whole.start_ns) / 1e6, 3),
            _figure(piece.duration_ns / 1e6, 3),
            _figure(share, 1),
        )
    )


def _figure(value: float, digits: int) -> Cell:
    return Cell(text=f"{value:.{digits}f}", sort=f"{value:.9g}")

"""What a page shows, as plain strings: every number is already formatted, every chart already drawn."""

from analyzer.domain.record import Record


class Tile(Record, frozen=True):
    """One figure to be read at a glance."""

    label: str
    value: str
    unit: str
    note: str = ""


class Column(Record, frozen=True):
    title: str
    numeric: bool = False


class Cell(Record, frozen=True):
    """``note`` is set smaller, under the text: an interval, mostly. ``sort`` orders the column; empty sorts last.

    ``link`` is a page beside this one, or empty.
    """

    text: str
    note: str = ""
    sort: str = ""
    link: str = ""


class Row(Record, frozen=True):
    """``marks`` name what the row is: recommended, tied, default."""

    cells: tuple[Cell, ...]
    marks: tuple[str, ...] = ()


class Table(Record, frozen=True):
    """``hidden_count`` rows more stand in the files beside the page; of ``rows`` the PDF has the first
    ``printed_count``.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    hidden_count: int = 0
    printed_count: int | None = None


class Fact(Record, frozen=True):
    name: str
    value: str


class ConfigFile(Record, frozen=True):
    """``unchanged`` where the model stays as the repository has it."""

    name: str
    text: str
    unchanged: bool = False


class FindingView(Record, frozen=True):
    """One thing that costs time, what to do and how to see that it helped. ``change`` is code; it may be empty."""

    title: str
    severity: str
    cost: str
    evidence: str
    action: str
    change: str
    check: str


class Charts(Record, frozen=True):
    """SVG documents to be set into the page; empty where there was nothing to draw."""

    frontier: str = ""
    load: str = ""
    breakdown: str = ""
    timeline: str = ""


class ReportView(Record, frozen=True):
    """One report. ``found`` is false where nothing could be recommended; the page then shows the nearest misses."""

    title: str
    model: str
    subtitle: str
    found: bool
    verdict: str
    tiles: tuple[Tile, ...]
    reasons: tuple[str, ...]
    doubts: tuple[str, ...]
    configs: tuple[ConfigFile, ...]
    config_note: str
    run_command: str
    load_command: str
    charts: Charts
    changes: Table
    ordered: Table
    misses: Table
    excluded: Table
    failures: Table
    time_sentence: str
    time: Table
    composing: Table
    by_model: Table
    certainty: Table
    tells_differences: bool
    usage: tuple[str, ...]
    collecting: tuple[str, ...]
    holds_back: str
    findings: tuple[FindingView, ...]
    fine: tuple[Fact, ...]
    unjudged: tuple[Fact, ...]
    timeline_sentence: str
    path: Table
    ledger_sentence: str
    ledger: Table
    objectives: str
    budgets: str
    environment: tuple[Fact, ...]
    settings: tuple[Fact, ...]


class SummaryView(Record, frozen=True):
    """The best configurations over several models. ``without`` says of each model that met no limit what was nearest,
    ``beyond`` of each whose best is not in the table where it stands; ``doubts`` are of the comparison.
    """

    title: str
    models: str
    subtitle: str
    found: bool
    verdict: str
    best: Table
    without: tuple[Cell, ...]
    beyond: tuple[Cell, ...]
    doubts: tuple[str, ...]
    chart: str
    objectives: str
    budgets: str

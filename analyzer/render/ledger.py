"""A search's ledger to a table of the page, and to CSV: every candidate, what became of it, and by which rule."""

import csv
from collections import Counter
from collections.abc import Sequence
from io import StringIO

import msgspec

from analyzer.domain.ledger import Candidate, LedgerEntry, LedgerState, candidate_of
from analyzer.domain.ranking import Ranking
from analyzer.render import words
from analyzer.render.view import Cell, Column, Row, Table
from analyzer.render.words import Specs

ROWS = 1000
"""On the page, where they are folded away."""
PRINTED_ROWS = 40
STATES: tuple[LedgerState, ...] = ("measured", "reused", "failed", "skipped")
"""In the order in which they are shown."""

COLUMNS = ("state", "rule", "point_count", "client_batch_size", "shapes", "is_default", "server_config", "variants")


def sentence(entries: Sequence[LedgerEntry]) -> str:
    """``254 candidates of 120 configurations: 14 measured, 238 skipped, 2 failed.``"""
    if not entries:
        return ""
    counts = Counter(entry.state for entry in entries)
    told = ", ".join(f"{counts[state]:,} {state}" for state in STATES if counts[state])
    servers = {entry.candidate.server for entry in entries}
    return f"{words.counted(len(entries), 'candidate')} of {words.counted(len(servers), 'configuration')}: {told}."


def table(entries: Sequence[LedgerEntry], ranking: Ranking, specs: Specs) -> Table:
    """Candidates of one server configuration stand together; configurations that were measured come first."""
    sends_something = any(_sent(entry.candidate) for entry in entries)
    columns = [
        Column(title="Configuration"),
        *([Column(title="Clients send")] if sends_something else []),
        Column(title="Outcome"),
        Column(title="Points", numeric=True),
        Column(title="Rule that decided"),
    ]
    rows = []
    for entry in grouped(entries):
        sent = [Cell(text=_sent(entry.candidate) or "client batch 1")] if sends_something else []
        cells = (
            Cell(text=words.server(entry.candidate.server, specs)),
            *sent,
            Cell(text=entry.state),
            Cell(text=f"{entry.point_count:,}", sort=str(entry.point_count)),
            Cell(text=entry.rule),
        )
        rows.append(Row(cells=cells, marks=_marks(entry.candidate, ranking)))
    hidden_count = max(0, len(rows) - ROWS)
    return Table(columns=tuple(columns), rows=tuple(rows[:ROWS]), hidden_count=hidden_count, printed_count=PRINTED_ROWS)


def grouped(entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    """By server configuration, each at the place of its best state; otherwise in the order of the search."""
    place = {state: index for index, state in enumerate(STATES)}
    best: dict[str, int] = {}
    for entry in entries:
        key = entry.candidate.server.key
        best[key] = min(best.get(key, len(STATES)), place[entry.state])
    order = {key: index for index, key in enumerate(best)}

    def of_entry(entry: LedgerEntry) -> tuple[int, int, int]:
        key = entry.candidate.server.key
        return best[key], order[key], place[entry.state]

    return sorted(entries, key=of_entry)


def csv_text(entries: Sequence[LedgerEntry]) -> str:
    """A line a candidate; the changed fields of each model and the shapes are JSON."""
    text = StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    for entry in entries:
        candidate = entry.candidate
        values = (
            entry.state,
            entry.rule,
            entry.point_count,
            candidate.batch_size,
            msgspec.json.encode(dict(candidate.shapes)).decode() if candidate.shapes else "",
            candidate.server.is_default,
            candidate.server.key,
            msgspec.json.encode(candidate.server.variants).decode(),
        )
        writer.writerow(dict(zip(COLUMNS, values, strict=True)))
    return text.getvalue()


def _sent(candidate: Candidate) -> str:
    batch = [f"client batch {candidate.batch_size}"] if candidate.batch_size != 1 else []
    return ", ".join([*batch, *words.shapes(dict(candidate.shapes))])


def _marks(candidate: Candidate, ranking: Ranking) -> tuple[str, ...]:
    chosen = ranking.recommended
    is_chosen = chosen is not None and candidate_of(chosen.config) == candidate
    return (*(["recommended"] if is_chosen else []), *(["default"] if candidate.server.is_default else []))

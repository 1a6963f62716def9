"""The answer on a terminal, in 80 columns: what to deploy, why, what comes next, and where the report lies."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from analyzer.render.view import ReportView, Row, SummaryView, Table

TOP_ROWS = 5
_COLUMNS = {"Throughput (infer/s)": "infer/s", "p99 latency (ms)": "p99 ms"}
"""Columns of the page's table that fit a terminal, and their short heads."""


def print_summary(view: ReportView, files: Iterable[Path], console: Console, served: Path | None = None) -> None:
    """Everything is printed as plain text: names of models and files can't carry markup.

    ``served`` is the folder that holds the recommended configuration as it was served.
    """
    console.print()
    console.print(Text(view.verdict, style="bold" if view.found else "bold yellow"))
    console.print()
    for reason in view.reasons if view.found else ():
        _item(console, "-", reason, "")
    for row in view.by_model.rows:
        _item(console, "-", _of_model(row), "")
    if view.holds_back:
        _item(console, "-", view.holds_back, "")
    for told in (*view.usage, *view.collecting):
        _item(console, "-", told, "")
    for doubt in view.doubts:
        _item(console, "!", doubt, "yellow")
    table = view.ordered if view.found else view.misses
    if table.rows:
        console.print()
        console.print(_grid(table, _shown(table) if view.found else range(len(table.columns))[:4], TOP_ROWS))
    for title, out in (("failed", view.failures), ("left out", view.excluded)):
        if out.rows:
            count = len(out.rows) + out.hidden_count
            console.print(Text(f"{count} {title}: {out.rows[0].cells[-1].text}", style="dim"))
    console.print()
    if view.found and served is not None:
        console.print(Text(f"To deploy, one file a model: {served}"), soft_wrap=True)
    for path in files:
        console.print(Text(str(path)), soft_wrap=True)


def print_across(view: SummaryView, files: Iterable[Path], console: Console) -> None:
    """The best configurations over several models."""
    console.print()
    console.print(Text(view.verdict, style="bold" if view.found else "bold yellow"))
    console.print()
    for told in view.beyond:
        _item(console, "-", told.text, "")
    for warning in (*(told.text for told in view.without), *view.doubts):
        _item(console, "!", warning, "yellow")
    if view.best.rows:
        console.print()
        console.print(_grid(view.best, _shown(view.best, leading=3), len(view.best.rows)))
    for path in files:
        console.print(Text(str(path)), soft_wrap=True)


def _of_model(row: Row) -> str:
    """``A at concurrency 4: 2,000 infer/s, p99 4.1 ms``: the first columns of the page's table of each model."""
    model, load, throughput, _, p99 = (cell.text for cell in row.cells[:5])
    return f"{model} at {load}: {throughput} infer/s, p99 {p99} ms."


def _item(console: Console, bullet: str, text: str, style: str) -> None:
    """With a hanging indent, and without the blanks that a table would fill its lines up with."""
    for index, line in enumerate(Text(text, style=style).wrap(console, console.width - 2)):
        line.rstrip()
        console.print(Text(f"{bullet if index == 0 else ' '} ", style=style) + line, soft_wrap=True)


def _shown(table: Table, leading: int = 2) -> list[int]:
    """The first columns and, of the figures, those that fit beside them."""
    return [index for index, column in enumerate(table.columns) if index < leading or column.title in _COLUMNS]


def _grid(table: Table, shown: Sequence[int], row_count: int) -> Padding:
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for index in shown:
        column = table.columns[index]
        head = _COLUMNS.get(column.title, column.title)
        grid.add_column(
            Text(head), justify="right" if column.numeric else "left", no_wrap=column.numeric, overflow="fold"
        )
    for row in table.rows[:row_count]:
        grid.add_row(*(_cell(row, index) for index in shown), style="bold" if "recommended" in row.marks else "")
    return Padding(grid, (0, 0, 1, 0))


def _cell(row: Row, index: int) -> Text:
    marks = [mark for mark in row.marks if mark != "recommended"] if index == 0 else []
    text = Text(
        row.cells[index].text.replace("dynamic batching up to", "batch").replace("dynamic batching", "batching")
    )
    if marks:
        text.append(f" ({', '.join(marks)})", style="dim")
    return text

"""What a search would do, on a terminal: the size of its space, and each candidate with what is intended for it."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from analyzer.domain.effort import Effort
from analyzer.domain.ledger import Candidate
from analyzer.render import words
from analyzer.render.progress import ahead, size
from analyzer.render.words import Specs


def print_plan(
    name: str,
    effort: Effort,
    *,
    kept: Sequence[Candidate],
    left_out: Iterable[tuple[Candidate, str]],
    specs: Specs,
    console: Console,
    time_limit_s: float | None,
) -> None:
    """One row a candidate, those that would be considered first."""
    console.print(Text(f"{name}: {size(effort)}"))
    console.print(Text(ahead(effort, time_limit_s)))
    grid = Grid(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    grid.add_column("Candidate")
    grid.add_column("What is intended")
    for candidate in kept:
        grid.add_row(Text(words.candidate(candidate, specs)), Text("considered"))
    for candidate, rule in left_out:
        grid.add_row(Text(words.candidate(candidate, specs)), Text(f"left out: {rule}"), style="dim")
    console.print(grid)

"""The best configurations over several models, as what a page shows and as JSON."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from analyzer.domain.figures import limits
from analyzer.rank.across import Across, Place
from analyzer.render import listing, words
from analyzer.render.page import configured, figure_of, nothing_met, objectives_told
from analyzer.render.tables import FORMAT_VERSION, row
from analyzer.render.view import Cell, Column, Row, SummaryView, Table
from analyzer.render.words import Specs

LinkTo = Callable[[str], str]
"""From a model to the page about it, as seen from the summary's; empty where there is none."""


def make_summary(
    across: Across,
    specs: Mapping[str, Specs],
    count: int,
    link_to: LinkTo,
    *,
    chart: str = "",
    doubts: Sequence[str] = (),
) -> SummaryView:
    """The ``count`` best. ``specs`` are by model."""
    models = list(specs)
    best = across.ordered[0] if across.ordered else None
    return SummaryView(
        title=f"Serving {_joined(models)}: the best of all" if best else f"Serving {_joined(models)}: nothing fits",
        models=_joined(models),
        subtitle=" · ".join(
            (
                words.counted(len(models), "model"),
                f"{words.counted(len(across.ordered), 'configuration')} within the limits",
                limits(across.budgets) or "no budget",
            )
        ),
        found=best is not None,
        verdict=_verdict(across, best, specs) if best else f"No configuration of {_joined(models)} meets the limits.",
        best=_table(across, specs, count, link_to),
        without=tuple(
            Cell(
                text=nothing_met(each.ranking, each.model, specs[each.model], f"No configuration of {each.model}"),
                link=link_to(each.model),
            )
            for each in across.without
        ),
        beyond=tuple(_beyond(across, specs, count, link_to)),
        doubts=tuple(doubts),
        chart=chart,
        objectives=objectives_told(across.objectives),
        budgets=limits(across.budgets) or "no budget",
    )


def _verdict(across: Across, best: Place, specs: Mapping[str, Specs]) -> str:
    tied = [place for place in across.ordered if place.is_tied and place is not best]
    level = ""
    if tied:
        whose = _joined(list(dict.fromkeys(place.model for place in tied)))
        level = f"; {words.counted(len(tied), 'other')} of {whose} can't be told apart from it"
    return f"Best of {words.counted(len(specs), 'model')} is {best.model} {_told(best, specs)}{level}."


def _told(place: Place, specs: Mapping[str, Specs]) -> str:
    m = place.measurement
    how = f"{configured(m, place.model, specs[place.model])}, at {words.point(m.config)}"
    return f"{how}: {figure_of(m, 'throughput')}, p99 {figure_of(m, 'p99_latency_ms')}"


def _table(across: Across, specs: Mapping[str, Specs], count: int, link_to: LinkTo) -> Table:
    shown = across.ordered[:count]
    columns, cells = listing.figures([place.measurement for place in shown], across.objectives, across.budgets)
    rows = []
    for place in shown:
        m = place.measurement
        name = Cell(text=place.model, link=link_to(place.model))
        rows.append(Row(cells=(name, *listing.point(m, specs[place.model]), *cells(m)), marks=_marks(place)))
    return Table(
        columns=(Column(title="Model"), *listing.POINT_COLUMNS, *columns),
        rows=tuple(rows),
        hidden_count=len(across.ordered) - len(shown),
    )


def _beyond(across: Across, specs: Mapping[str, Specs], count: int, link_to: LinkTo) -> Iterator[Cell]:
    """The best of each model that has no place in the list."""
    told = {place.model for place in across.ordered[:count]}
    for number, place in enumerate(across.ordered, 1):
        if place.model not in told:
            told.add(place.model)
            text = f"{place.model} comes in at place {number}, {_told(place, specs)}."
            yield Cell(text=text, link=link_to(place.model))


def _marks(place: Place) -> tuple[str, ...]:
    marks = (
        ("recommended", place.is_chosen),
        ("tied", place.is_tied),
        ("default", place.measurement.config.server.is_default),
    )
    return tuple(mark for mark, holds in marks if holds)


def json_text(across: Across, count: int) -> str:
    """The same for a program; each point under the names of ``measurements.csv``."""
    answer = {
        "format_version": FORMAT_VERSION,
        "objectives": across.objectives,
        "budgets": across.budgets,
        "best": [
            {
                "place": rank,
                "tied_with_best": place.is_tied,
                "recommended_of_model": place.is_chosen,
                **row(place.measurement, across.budgets),
            }
            for rank, place in enumerate(across.ordered[:count], 1)
        ],
        "kept_count": len(across.ordered),
        "nothing_met": [
            {
                "model": answer.model,
                "reason": answer.ranking.reasons[0],
                "nearest": row(answer.ranking.misses[0].measurement, across.budgets) if answer.ranking.misses else None,
            }
            for answer in across.without
        ],
    }
    return msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n"


def _joined(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

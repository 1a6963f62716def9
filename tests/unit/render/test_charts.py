import re
from xml.etree import ElementTree

import msgspec
import pytest

from analyzer.domain.budget import Budget
from analyzer.domain.run import Edit
from analyzer.rank.rank import rank
from analyzer.render.charts import draw
from analyzer.render.view import Charts
from perf_client.profile import RequestRate
from tests.fakes.outcomes import measurement, run_config, server_config, sweep
from tests.fakes.runs import P99_20, model_spec, typical

SPECS = {"synthetic": model_spec()}


def drawn(outcomes, budgets=P99_20):
    return draw(rank(outcomes, (), budgets), SPECS)


@pytest.fixture(scope="module")
def charts() -> Charts:
    return drawn(typical())


def test_equal_runs_give_equal_bytes_without_a_date(charts: Charts):
    assert drawn(typical()) == charts
    assert "<dc:date>" not in charts.frontier


def test_each_chart_is_a_document_with_a_title_and_a_description(charts: Charts):
    for svg in (charts.frontier, charts.load, charts.breakdown):
        root = ElementTree.fromstring(svg)
        assert root.attrib["role"] == "img"
        assert "width" not in root.attrib
        assert [child.tag.rsplit("}", 1)[1] for child in root][:2] == ["title", "desc"]
        assert not re.search(r'(?:href|src)="(?!#)', svg.split(">", 1)[1])


def test_the_marks_of_a_ranking_are_in_the_legend(charts: Charts):
    svg = charts.frontier
    for label in ("Outside budget", "Within budget", "Left out", "Pareto front", "Budget: 20 ms", "Default"):
        assert f">{label}</text>" in svg
    assert ">Recommended</text>" in svg


def test_no_id_of_a_group_repeats_on_a_page(charts: Charts):
    groups = re.findall(r'<g id="([^"]+)"', charts.frontier + charts.load + charts.breakdown)
    assert len(groups) == len(set(groups))


def test_nothing_within_the_budget_marks_the_nearest_miss():
    charts = drawn(sweep(loads=(1, 8)), (Budget(metric="p99_latency_ms", limit=3.0),))
    assert ">Nearest miss</text>" in charts.frontier
    assert ">Nearest miss</text>" in charts.load


def test_nothing_measured_draws_nothing():
    charts = drawn([])
    assert (charts.frontier, charts.load, charts.breakdown) == ("", "", "")


def test_open_loop_points_are_drawn_against_their_rate():
    points = [measurement(run_config(server_config(2, 16, True), RequestRate(per_second=r))) for r in (100.0, 400.0)]
    assert "Requests per second" in drawn(points).load


@pytest.mark.parametrize("name", ["<b>$x^2$ & co", "\\frac{ü"])
def test_names_are_text_in_a_chart(name):
    charts = draw(rank(sweep(loads=(1, 8), model=name), (), ()), {name: model_spec(name)})
    ElementTree.fromstring(charts.breakdown)
    assert "<b>" not in charts.breakdown


def test_a_configuration_with_a_long_name_leaves_its_load_to_be_read():
    # matplotlib warns where a text leaves no room for the axes, and warnings are errors here.
    edits = tuple(Edit(path=f"parameters.a_rather_long_name_{number}", value="7") for number in range(12))
    variant = msgspec.structs.replace(server_config(2).variants[0], edits=edits)
    server = msgspec.structs.replace(server_config(2), variants=(variant,))
    charts = drawn([measurement(run_config(server, 4))])
    assert re.search(r">Recommended: [^<]* \.\.\. at concurrency 4</text>", charts.breakdown)

import csv
from io import StringIO

from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader

from analyzer.domain.ledger import Candidate, LedgerEntry, completed
from analyzer.rank.rank import rank
from analyzer.render import html, ledger, pdf
from analyzer.render.context import RunContext
from analyzer.render.page import make_view
from analyzer.render.view import Charts
from tests.fakes.outcomes import failure, measurement, run_config, server_config
from tests.fakes.runs import P99_20, model_spec, typical

RANKING = rank(typical(), (), P99_20)


def entry(instances: int, state: str = "skipped", **candidate) -> LedgerEntry:
    chosen = Candidate(server=server_config(instances), **candidate)
    return LedgerEntry(candidate=chosen, state=state, rule=f"rule {instances}", point_count=int(state != "skipped"))


def page(entries: list[LedgerEntry]) -> str:
    about = RunContext(
        name="run",
        model="synthetic",
        model_specs=(model_spec(),),
        command="analyzer profile",
        started_at="",
        tool_version="0",
        config_text=lambda server, model: "",
        ledger=tuple(entries),
    )
    return html.render(make_view(RANKING, about, Charts()))


def test_the_sentence_counts_candidates_by_what_became_of_them():
    entries = [entry(1, "measured"), entry(1, batch_size=4), entry(2, "failed"), entry(3, "reused")]
    assert ledger.sentence(entries) == "4 candidates of 3 configurations: 1 measured, 1 reused, 1 failed, 1 skipped."
    assert ledger.sentence([]) == ""


def test_candidates_of_one_configuration_stand_together_and_the_measured_first():
    entries = [entry(1), entry(2), entry(3, "failed"), entry(2, "measured", batch_size=4)]
    rows = [
        [cell.text for cell in row.cells] for row in ledger.table(entries, RANKING, {"synthetic": model_spec()}).rows
    ]
    assert rows == [
        ["2 instances, no dynamic batching", "client batch 4", "measured", "1", "rule 2"],
        ["2 instances, no dynamic batching", "client batch 1", "skipped", "0", "rule 2"],
        ["3 instances, no dynamic batching", "client batch 1", "failed", "1", "rule 3"],
        ["1 instance, no dynamic batching", "client batch 1", "skipped", "0", "rule 1"],
    ]


def test_what_clients_send_has_a_column_only_where_it_differs():
    titles = [column.title for column in ledger.table([entry(1)], RANKING, {}).columns]
    assert titles == ["Configuration", "Outcome", "Points", "Rule that decided"]
    shaped = ledger.table([entry(1, shapes=(("X", (3, 224)),))], RANKING, {})
    assert shaped.rows[0].cells[1].text == "X of 3x224"


def test_the_recommended_candidate_and_the_default_are_marked():
    chosen = RANKING.recommended
    assert chosen is not None
    entries = [
        LedgerEntry(candidate=Candidate(server=chosen.config.server), state="measured", rule="best"),
        LedgerEntry(candidate=Candidate(server=server_config()), state="skipped", rule="no"),
    ]
    assert [row.marks for row in ledger.table(entries, RANKING, {}).rows] == [("recommended",), ("default",)]


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(ledger.STATES), st.integers(1, 3)), unique_by=lambda t: t))
def test_grouping_loses_no_candidate_and_splits_no_configuration(made: list[tuple[int, str, int]]):
    entries = [entry(instances, state, batch_size=batch) for instances, state, batch in made]
    found = ledger.grouped(entries)
    assert sorted(map(repr, found)) == sorted(map(repr, entries))
    keys = [each.candidate.server.key for each in found]
    runs = [key for index, key in enumerate(keys) if index == 0 or keys[index - 1] != key]
    assert len(runs) == len(set(runs))


def test_the_page_folds_the_table_away_and_a_long_one_is_cut_with_a_word_on_the_rest():
    text = page([entry(n) for n in range(1, ledger.ROWS + 13)])
    assert '<details class="ledger">' in text
    assert text.count(">rule ") == ledger.ROWS
    assert "12 more in ledger.json" in text
    assert "What became of each candidate" not in page([])


def test_the_pdf_has_the_first_rows_and_says_how_many_more_there_are(tmp_path):
    pdf.write(page([entry(n) for n in range(1, 253)]), tmp_path / "report.pdf")
    words = " ".join(" ".join(page.extract_text().split()) for page in PdfReader(tmp_path / "report.pdf").pages)
    assert "252 candidates of 252 configurations: 252 skipped." in words
    assert "rule 40" in words
    assert "rule 41" not in words
    assert "212 more in ledger.json" in words


def test_rules_are_escaped_on_the_page():
    evil = LedgerEntry(candidate=Candidate(server=server_config(1)), state="failed", rule="<script>alert(1)</script>")
    assert "<script>alert(1)" not in page([evil])


def test_the_csv_has_a_line_a_candidate():
    entries = [entry(1, "measured", batch_size=4), entry(2, shapes=(("X", (3, 224)),))]
    lines = list(csv.DictReader(StringIO(ledger.csv_text(entries))))
    assert [line["state"] for line in lines] == ["measured", "skipped"]
    assert lines[0]["client_batch_size"] == "4"
    assert lines[1]["shapes"] == '{"X":[3,224]}'
    assert '"instance_count":2' in lines[1]["variants"]


def test_a_ledger_that_a_killed_run_left_behind_is_completed_from_its_outcomes():
    old, new = server_config(1), server_config(2)
    stale = (
        LedgerEntry(candidate=Candidate(server=old), state="measured", rule="the best found", point_count=1),
        LedgerEntry(candidate=Candidate(server=new), state="skipped", rule="hopeless"),
    )
    outcomes = [
        measurement(run_config(old, 1)),
        measurement(run_config(new, 1)),
        measurement(run_config(new, 2)),
        failure(run_config(server_config(3), 1)),
    ]
    found = completed(stale, outcomes)
    assert [(each.state, each.point_count) for each in found] == [("measured", 1), ("measured", 2), ("failed", 1)]
    assert found[0].rule == "the best found"
    assert found[1].rule == "measured; the run was ended before it could say more"
    assert completed((), ()) == ()

from pathlib import Path

import pytest
from msgspec.structs import replace

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.ranking import Ranking
from analyzer.domain.run import ModelVariant, RunConfig, ServerConfig
from analyzer.rank.rank import rank
from analyzer.render.context import RunContext
from analyzer.render.page import make_view
from analyzer.render.view import Charts, ReportView, Table
from perf_client.profile import Concurrency, LoadProfile, RequestRate, ServerTimes
from tests.fakes.outcomes import QueueModel, measurement, run_config, server_config, sweep
from tests.fakes.runs import P99_20, model_spec, typical


def context(**changes) -> RunContext:
    values = {
        "name": "run",
        "model": "synthetic",
        "model_specs": (model_spec(),),
        "command": "analyzer profile",
        "started_at": "2026-01-01T12:00:00Z",
        "tool_version": "0",
        "config_text": lambda server, model: f'name: "{model}"\n',
    }
    return RunContext(**(values | changes))


def view_of(outcomes, budgets=P99_20, objectives=(), **changes) -> ReportView:
    return make_view(rank(outcomes, objectives, budgets), context(**changes), Charts())


def texts(table: Table) -> list[list[str]]:
    return [[cell.text for cell in row.cells] for row in table.rows]


def test_the_verdict_says_what_to_deploy_at_which_load_and_what_it_gains():
    view = view_of(typical())
    assert view.verdict == (
        "Deploy synthetic with 3 instances, dynamic batching up to 16, delay 500 µs, at concurrency 32:"
        " 2,222 infer/s, p99 18.6 ms; 8.0 times the default configuration."
    )
    assert view.subtitle == (
        "61 points of 12 configurations measured · p99 latency at most 20 ms · run run · 2026-01-01 12:00 UTC"
    )
    assert [(tile.label, tile.value, tile.unit, tile.note) for tile in view.tiles] == [
        ("Throughput", "2,222", "infer/s", "2,191 to 2,254"),
        ("p99 latency", "18.6", "ms", "18.3 to 19.1 · at most 20 ms"),
        ("Against default", "8.00", "×", "7.81 to 8.20 · default 278 infer/s at concurrency 1"),
        ("Load", "32", "in flight", "concurrency"),
        ("Server memory", "261", "MB", ""),
    ]


def test_every_row_of_the_best_points_has_its_load():
    table = view_of(typical()).ordered
    assert [column.title for column in table.columns][:2] == ["Configuration", "Load"]
    assert all(row[1].startswith("concurrency") for row in texts(table))
    assert table.rows[0].marks == ("recommended",)
    assert [row.marks for row in table.rows if "default" in row.marks] == [("default",)]


def test_changes_stand_beside_what_is_there_today():
    view = view_of(typical())
    assert texts(view.changes) == [
        ["Instances", "1 instance", "3 instances"],
        ["Batching", "no dynamic batching", "dynamic batching up to 16, delay 500 µs"],
    ]
    assert view.configs[0].name == "synthetic/config.pbtxt"


def test_nothing_within_the_budget_is_a_page_with_the_nearest_misses():
    view = view_of(typical(), (Budget(metric="p99_latency_ms", limit=3.0),))
    assert not view.found
    assert view.verdict.startswith("Nothing meets the budget: nearest is 1 instance,")
    assert view.verdict.endswith("with p99 latency 5.11 ms, where at most 3 ms was asked for.")
    assert texts(view.misses)[0][3] == "70.4 %"
    assert view.misses.hidden_count == 51
    assert view.reasons == ("None of 61 measured points has p99 latency at most 3 ms.",)
    assert not view.ordered.rows


def test_a_run_without_any_measurement_is_a_page_too():
    view = view_of([])
    assert view.verdict.startswith("No configuration of synthetic can be recommended. Nothing was measured. A longer ")
    assert view.tiles == ()


def test_what_was_not_measured_is_said_and_never_zero():
    outcomes = [replace(m, host=None) for m in sweep(loads=(1, 8))]
    silent = {"server": (), "server_unmeasured": "the server has no statistics"}
    outcomes = [replace(m, load=replace(m.load, **silent)) for m in outcomes]
    view = view_of(outcomes)
    assert view.tiles[-1].value == "not measured"
    assert view.time_sentence == "Not measured: the server has no statistics."
    assert not view.time.rows
    assert "Server memory" not in [row[0] for row in texts(view.certainty)]
    limited = view_of(outcomes, (Budget(metric="gpu_memory_mb", limit=1000),))
    assert texts(limited.excluded)[0][2] == "GPU memory at most 1,000 MB could not be checked: it was not measured."


def test_gpu_memory_is_shown_where_there_is_a_gpu():
    view = view_of(sweep(QueueModel(gpu=True), loads=(1, 8)))
    assert view.tiles[-1].label == "GPU memory"
    assert "GPU memory (MB)" in [column.title for column in view.ordered.columns]


def test_the_default_that_wins_is_named_as_what_is_there_today():
    view = view_of([measurement(run_config(server_config(), 1))])
    assert view.verdict.startswith(
        "Deploy synthetic as it is today (1 instance, no dynamic batching), at concurrency 1: "
    )
    assert view.tiles[2].note == "it is the default"


@pytest.mark.parametrize(
    ("loads_of_default", "said"),
    [
        ((), "; the default configuration was not measured."),
        ((32,), "; the default configuration meets the budget at no load that was measured."),
    ],
)
def test_a_gain_over_nothing_is_not_invented(loads_of_default, said):
    outcomes = [measurement(run_config(server_config(2, 16, True), 8))]
    outcomes += [measurement(run_config(server_config(), load)) for load in loads_of_default]
    view = view_of(outcomes)
    assert view.verdict.endswith(said)
    assert view.tiles[2].value == "none"


def test_the_budget_that_no_request_fails_reads_as_words():
    view = view_of(typical(), (*P99_20, Budget(metric="failure_ratio", limit=0.0)))
    assert view.budgets == "p99 latency at most 20 ms, no failed requests"
    assert (
        view.reasons[0] == "Meets every budget: p99 latency 18.6 ms (18.3 to 19.1), at most 20 ms; no request failed."
    )
    assert "Failed requests (%)" not in [column.title for column in view.ordered.columns]


def test_another_objective_is_told_in_its_own_words():
    view = view_of(sweep(loads=(1, 8)), (), (Objective(metric="server_memory_mb"),))
    assert view.objectives == "lowest server memory"
    assert "server memory 159 MB" in view.verdict
    assert view.verdict.endswith("server memory 1.0 times that of the default configuration.")


def test_open_loop_and_client_batch_are_told():
    profile = LoadProfile(model="synthetic", load=RequestRate(per_second=200.0, arrival="poisson"), batch_size=2)
    config = RunConfig(server=server_config(2, 16, True), load=profile, content="c")
    view = view_of([measurement(config)], ())
    assert "at 200 requests/s, Poisson, client batch 2" in view.verdict
    assert view.tiles[3].note == "poisson arrival, client batch 2"


def test_unsupported_figures_are_marked():
    view = view_of([measurement(run_config(server_config(), 1, duration_s=0.5))])
    rows = {row.cells[0].text: row for row in view.certainty.rows}
    assert rows["p99 latency"].marks == ("doubtful",)
    assert rows["p99 latency"].cells[3].text == "too few requests to know it"
    assert texts(view.ordered)[0][4] == "5.11 ?"


def test_an_ensemble_shows_the_models_it_calls():
    server = ServerConfig(variants=(ModelVariant(model="a", instance_count=1), ModelVariant(model="b")))
    config = RunConfig(server=server, load=LoadProfile(model="chain", load=Concurrency(in_flight=1)), content="c")
    m = measurement(config)
    called = ServerTimes(
        model="a", version="1", inference_count=40, execution_count=10, success_count=40, fail_count=0,
        queue_ns=4_000_000, compute_input_ns=0, compute_infer_ns=80_000_000, compute_output_ns=0,
    )  # fmt: skip
    m = replace(m, load=replace(m.load, server=(*m.load.server, called)))
    view = view_of([m], (), model="chain")
    assert texts(view.composing) == [["a", "0.10", "0.00", "2.00", "0.00", "4.00"]]
    assert [row[0] for row in texts(view.changes)] == ["a: Instances"]
    assert [file.name for file in view.configs] == ["a/config.pbtxt", "b/config.pbtxt", "chain/config.pbtxt"]


def test_a_configuration_text_that_was_not_kept_is_said():
    view = view_of(typical(), config_text=lambda server, model: "")
    assert view.configs == ()
    assert view.config_note


def test_a_view_holds_no_path_of_this_machine():
    assert str(Path.cwd()) not in repr(view_of(typical()))


def test_ranking_of_nothing_known_still_has_a_page():
    empty = Ranking(
        objectives=(Objective(metric="throughput"),), budgets=(), recommended=None, ordered=(), tied=(), pareto=(),
        misses=(), failures=(), default=None, reasons=("Nothing was measured.",),
    )  # fmt: skip
    assert make_view(empty, context(), Charts()).subtitle.startswith(
        "0 points of 0 configurations measured · no budget"
    )


CHAIN = tuple(
    replace(model_spec(name), composing=("a", "b") if name == "chain" else ()) for name in ("a", "b", "chain")
)


def of_chain(instances_of_a: int | None = None, load: int = 1):
    variants = (
        ModelVariant(model="a", instance_count=instances_of_a),
        ModelVariant(model="b"),
        ModelVariant(model="chain"),
    )
    profile = LoadProfile(model="chain", load=Concurrency(in_flight=load))
    return measurement(RunConfig(server=ServerConfig(variants=variants), load=profile, content="c"))


def test_of_an_ensemble_the_verdict_names_what_changes_and_the_files_of_other_models_wait():
    view = view_of([of_chain(), of_chain(2, load=4)], (), model="chain", model_specs=CHAIN)
    assert view.verdict.startswith("Deploy chain with a: 2 instances; the rest as it is, at concurrency 4: ")
    assert texts(view.changes) == [["a: Instances", "1 instance", "2 instances"]]
    assert [(file.name, file.unchanged) for file in view.configs] == [
        ("a/config.pbtxt", False),
        ("b/config.pbtxt", True),
        ("chain/config.pbtxt", True),
    ]


def test_an_ensemble_that_wins_as_it_is_is_told_in_few_words():
    view = view_of([of_chain()], (), model="chain", model_specs=CHAIN)
    assert view.verdict.startswith("Deploy chain as it is today, at concurrency 1: ")
    assert texts(view.ordered)[0][0] == "every model as it is today"
    assert not view.changes.rows


def test_a_gain_that_may_be_none_is_not_claimed():
    wide = QueueModel(interval_ratio=0.6)
    outcomes = [measurement(run_config(server_config(), 1), wide)]
    outcomes += [measurement(run_config(server_config(2, 16, True), 2), wide)]
    view = view_of(outcomes)
    assert "; that may be no better than as it is today (0." in view.verdict
    assert view.verdict.endswith(" times its throughput).")
    assert "Tied with 1 other, the configuration as it is today: " in view.reasons[1]


def test_the_default_at_another_load_is_told_with_its_load():
    view = view_of(
        [measurement(run_config(server_config(), 1)), measurement(run_config(server_config(2, 16, True), 8))]
    )
    assert view.tiles[2].note.endswith("default 278 infer/s at concurrency 1")

from io import StringIO
from pathlib import Path

from msgspec.structs import replace
from rich.console import Console

from analyzer.domain.budget import Budget
from analyzer.rank.rank import rank
from analyzer.render.console import print_summary
from analyzer.render.context import RunContext
from analyzer.render.page import make_view
from analyzer.render.view import Charts
from tests.fakes.outcomes import measurement, run_config, server_config
from tests.fakes.runs import P99_20, model_spec, typical


def printed(budgets=P99_20, model: str = "synthetic", served: Path | None = None) -> str:
    context = RunContext(
        name="run",
        model=model,
        model_specs=(model_spec(model),),
        command="analyzer profile",
        started_at="2026-01-01T12:00:00Z",
        tool_version="0",
        config_text=lambda server, name: "",
    )
    text = StringIO()
    view = make_view(rank(typical(model), (), budgets), context, Charts())
    print_summary(view, [Path("runs/x/report.html")], Console(file=text, width=80), served)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def test_the_summary_reads_from_the_verdict_to_the_files():
    assert (
        printed()
        == """
Deploy synthetic with 3 instances, dynamic batching up to 16, delay 500 µs, at
concurrency 32: 2,222 infer/s, p99 18.6 ms; 8.0 times the default configuration.

- Meets every budget: p99 latency 18.6 ms (18.3 to 19.1), at most 20 ms.
- Highest throughput: 2,222 infer/s (2,191 to 2,254).
- The next best configuration that surely keeps the budget has 1,641 infer/s
  (1,608 to 1,674): outside the noise.
- Used by the server: 1.80 cores, 261 MB of memory.
- GPU not measured: no NVIDIA driver on this machine.

Configuration                        Load            infer/s  p99 ms
3 instances, batch 16, delay 500 µs  concurrency 32    2,222    18.6
2 instances, batch 16, delay 500 µs  concurrency 16    1,641    12.8
3 instances, batch 4, delay 500 µs   concurrency 16    1,481    14.1
1 instance, batch 16, delay 500 µs   concurrency 16    1,270    16.4
2 instances, batch 4, delay 500 µs   concurrency 8     1,185    9.05

1 failed: The model does not fit into memory.
1 left out: The server was overloaded: synthetic: overloaded.

runs/x/report.html"""
    )


def test_nothing_within_the_budget_shows_the_nearest_misses():
    text = printed((Budget(metric="p99_latency_ms", limit=3.0),))
    assert "Nothing meets the budget: nearest is 1 instance" in text
    assert "70.4 %" in text


def test_names_carry_no_markup():
    assert "Deploy [red]x[/red] with" in printed(model="[red]x[/red]")


def test_no_line_is_wider_than_a_terminal():
    assert max(map(len, printed().splitlines())) <= 80


def test_models_under_load_together_are_told_one_by_one():
    first = measurement(run_config(server_config(), 4))
    second = measurement(run_config(server_config(model="other"), 2))
    both = replace(first, config=replace(first.config, beside=(second.config.load,)), beside=(second.load,))
    context = RunContext(
        name="run",
        model="synthetic and other",
        model_specs=(model_spec(), model_spec("other")),
        command="analyzer profile",
        started_at="",
        tool_version="0",
        config_text=lambda server, name: "",
    )
    text = StringIO()
    print_summary(make_view(rank([both], (), ()), context, Charts()), [], Console(file=text, width=80))
    assert "\n- synthetic at concurrency 4: 278 infer/s, p99 18.6 ms.\n- other at concurrency 2: " in text.getvalue()


def test_where_the_recommended_configuration_lies_is_told():
    assert "\n\nTo deploy, one file a model: runs/x/configs/1\nruns/x/report.html" in printed(
        served=Path("runs/x/configs/1")
    )
    nothing = (Budget(metric="p99_latency_ms", limit=0.1),)
    assert "To deploy" not in printed(nothing, served=Path("runs/x/configs/1"))

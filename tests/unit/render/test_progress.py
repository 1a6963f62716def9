import re
from io import StringIO

import pytest
from rich.console import Console

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.effort import Effort
from analyzer.domain.measurement import Failure
from analyzer.domain.run import ModelVariant, RunConfig, ServerConfig
from analyzer.render.progress import ConsoleProgress, NoProgress, brief, make_progress
from perf_client.loads import Load, VideoStreams
from perf_client.profile import Concurrency, LoadProfile
from tests.fakes.outcomes import QueueModel, measurement, run_config, server_config

OBJECTIVES = (Objective(metric="throughput"),)
BUDGETS = (Budget(metric="p99_latency_ms", limit=10.0),)


class FakeClock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def drawn(width: int = 80, time_limit_s: float | None = None, is_terminal: bool = False):
    out, clock = StringIO(), FakeClock()
    console = Console(file=out, width=width, force_terminal=is_terminal)
    return ConsoleProgress(OBJECTIVES, BUDGETS, time_limit_s, console, clock), out, clock


SIZE = "4 candidates at 5 loads: 20 points in all.\n"


def effort(expected: int) -> Effort:
    return Effort(
        candidate_count=4, left_out_count=0, load_count=5, grid_point_count=20,
        expected_point_count=expected, expected_s=4.0 * expected,
    )  # fmt: skip


@pytest.fixture
def outcomes():
    model = QueueModel()
    server = server_config(2, 8, True, 0)
    kept = measurement(run_config(server, 1), model)
    over = measurement(run_config(server, 64), model)
    failed = Failure(config=run_config(server, 2), stage="load", reason="out of memory", measured_at="2026-01-01")
    return kept, over, failed


def test_each_point_is_one_line_that_says_what_came_of_it(outcomes):
    progress, out, clock = drawn()
    progress.started((), effort(3))
    for outcome in outcomes:
        progress.measuring(outcome.config, 2)
        clock.now_s += 2
        progress.measured(outcome)
    progress.finished("nothing more is worth measuring")
    lines = out.getvalue().splitlines()
    assert lines[0] == "4 candidates at 5 loads: 20 points in all."
    assert lines[1] == "About 3 points to measure, 12 s."
    lines = lines[1:]
    assert lines[1].startswith("  1 + ")
    assert "kept" in lines[1]
    assert "c 1, 2 inst, batch 8, 0 µs" in lines[1]
    assert lines[2].startswith("  2 - ")
    assert "over" in lines[2]
    assert lines[3].startswith("  3 x failed: out of memory")
    assert lines[4] == "3 points measured in 6 s: nothing more is worth measuring."
    assert all(len(line) <= 80 for line in lines)


def test_points_kept_from_before_are_told(outcomes):
    progress, out, _ = drawn()
    progress.started(outcomes[:1], effort(5))
    assert out.getvalue() == SIZE + "About 5 points to measure, 20 s. 1 point kept from before.\n"


@pytest.mark.parametrize(("limit_s", "text"), [(None, "about 40 s left"), (15.0, "about 5 s left")])
def test_the_time_left_goes_by_what_points_took_and_by_the_limit(outcomes, limit_s, text):
    progress, _, clock = drawn(time_limit_s=limit_s)
    progress.started((), effort(5))
    clock.now_s += 10
    progress.measured(outcomes[0])
    assert progress._time_left(4) == text


def test_quiet_draws_nothing():
    assert isinstance(make_progress(OBJECTIVES, BUDGETS, None, quiet=True), NoProgress)


def test_the_status_tells_that_the_cost_of_collecting_is_measured():
    progress, out, _ = drawn()
    progress.started((), effort(1))
    progress.weighing(("spans", "cupti"))
    progress.finished("nothing more is worth measuring")
    NoProgress().weighing(("spans",))
    assert "0 points measured" in out.getvalue()


def test_a_point_that_cannot_be_trusted_is_not_told_as_kept():
    progress, out, _ = drawn()
    progress.measured(measurement(run_config(server_config(), 1), client_bound=True))
    assert out.getvalue().startswith("  1 ? ")
    assert "left out" in out.getvalue()


def of_chain(*variants: ModelVariant, load: Load | None = None) -> RunConfig:
    profile = LoadProfile(model="chain", load=load or Concurrency(in_flight=8))
    return RunConfig(server=ServerConfig(variants=variants), load=profile, content="c")


def test_models_that_change_alike_are_told_once():
    changed = {"instance_count": 2, "max_batch_size": 16}
    config = of_chain(
        *(ModelVariant(model=name, **changed) for name in "ab"), ModelVariant(model="c", instance_count=3)
    )
    assert brief(config) == "c 8; a+b: 2 inst, batch 16; c: 3 inst"


def test_streams_are_counted_in_whole_numbers():
    config = of_chain(ModelVariant(model="a"), load=VideoStreams(streams=16, frames_per_second=25.0))
    assert brief(config) == "16 streams, as it is"


@pytest.mark.parametrize(("is_terminal", "ends"), [(True, "…"), (False, "c_much_longer: 2 inst")])
def test_a_line_is_cut_only_where_a_terminal_would_break_it(is_terminal, ends):
    names = ("a_long_name_of_a_model", "another_long_name_of_a_model", "c_much_longer")
    config = of_chain(*(ModelVariant(model=name, instance_count=2) for name in names))
    progress, out, _ = drawn(is_terminal=is_terminal)
    progress.measured(measurement(config))
    assert re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()[0].endswith(ends)

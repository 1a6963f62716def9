"""Collectors that slow a server get a window of their own, and what collecting costs is told with the result."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analyzer.collect.watch import Watch, Watching
from analyzer.domain.measurement import Measurement
from analyzer.domain.run import ModelVariant, RunConfig, ServerConfig
from analyzer.executor.local import LocalExecutor
from analyzer.launchers.runtime import RuntimeLauncher
from analyzer.measure import Bench, BenchTimes
from analyzer.settings.declared import ProfileSettings
from analyzer.store import RunFolder
from analyzer.timeline import archive
from analyzer.timeline.kinds import Kind
from perf_client.profile import Concurrency, LoadProfile
from tests.fakes.repositories import write_simulated
from tests.fakes.runs import header

CONFIG = RunConfig(
    server=ServerConfig(variants=(ModelVariant(model="simulated"),)),
    load=LoadProfile(model="simulated", load=Concurrency(in_flight=2), duration_s=0.4, warmup_s=0.0),
    content="c",
)


class Costly(Watch):
    """Takes spans for something that slows the server."""

    def wants_window(self) -> bool:
        return True


@pytest.fixture
def bench(tmp_path: Path):
    write_simulated(tmp_path / "models", parameters={"service_us": 500})
    launcher = RuntimeLauncher(tmp_path / "models", ())
    settings = ProfileSettings(model_repository=str(tmp_path / "models"), profile_models=("simulated",))
    captures = tmp_path / "captures"
    captures.mkdir()
    run = RunFolder.create(tmp_path / "run", header(), {})
    with LocalExecutor(settings) as executor:
        models = executor.inspect()
        made = Bench(
            tmp_path / "models",
            models.configs,
            executor._gpus,
            BenchTimes(sample_interval_s=0.05, server_warmup_s=0.1, capture_s=0.3),
            run,
            launcher=launcher,
            watch=Costly(Watching(("spans",)), captures),
        )
        with made:
            yield made, run


def test_figures_are_taken_before_the_window_that_is_watched(bench):
    made, run = bench
    measured = made.measure(CONFIG)
    assert isinstance(measured, Measurement), measured
    assert measured.captured_ns is not None
    from_ns, to_ns = measured.captured_ns
    assert from_ns >= measured.load.start_ns + measured.load.counted_to_ns, "the watched window comes after"
    assert (to_ns - from_ns) / 1e9 == pytest.approx(0.3, abs=0.1)
    assert [(each.collector, each.state) for each in measured.collected] == [("spans", "on")]
    timeline = archive.load(run.timeline_path(CONFIG))
    starts = timeline.events.start_ns[timeline.rows(Kind.REQUEST)]
    offset = next(anchor.offset_ns for anchor in timeline.anchors if anchor.clock == "monotonic")
    assert np.min(starts) + offset > measured.load.start_ns + measured.load.counted_to_ns
    assert {"CPU of the server", "memory of the server"} <= {each.name for each in timeline.counters.series}
    assert np.min(timeline.counters.time_ns) + offset > measured.load.start_ns + measured.load.counted_to_ns
    again = made.measure(CONFIG)
    assert isinstance(again, Measurement), "a window leaves the server as it was"


def test_a_window_that_can_not_be_had_costs_the_timeline_and_not_the_figures(bench):
    made, _ = bench
    assert isinstance(made.measure(CONFIG), Measurement)

    class Dying(Costly):
        def start(self, only=None):
            made._stop_serving()

    made._watch.__class__ = Dying
    measured = made.measure(CONFIG)
    assert isinstance(measured, Measurement)
    assert measured.captured_ns is None
    assert any("No timeline of this point is kept" in text for text in measured.warnings)


def test_the_cost_of_collecting_is_told_with_the_result(tmp_path: Path):
    write_simulated(tmp_path / "models", parameters={"service_us": 500})
    command = [sys.executable, "-m", "analyzer", "profile", "-m", "models", "--profile-models", "simulated"]
    command += ["--concurrency", "2", "--instance-counts", "1", "--max-batch-sizes", "8", "--duration", "0.3s"]
    command += ["--screen-duration", "0.3s", "--server-warmup", "0s", "--latency-budget", "1s", "--run", "run"]
    command += ["--search", "brute", "--dynamic-batching", "on", "--queue-delays-us", "0", "--formats", "json,html"]
    command += ["--measure-overhead", "on"]
    environment = {"PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "80"}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    told = " ".join(ended.stdout.split())
    assert "Collecting by spans: p50" in told
    assert "6 windows of" in told
    assert "GPU not measured" in told
    assert max(map(len, ended.stdout.splitlines())) <= 80
    (cost,) = RunFolder.open(tmp_path / "run").costs()
    assert (cost.collector, cost.round_count, cost.reason) == ("spans", 6, "")
    assert json.loads((tmp_path / "run" / "report.json").read_text())["collecting"][0]["collector"] == "spans"
    assert "Collecting by spans: p50" in (tmp_path / "run" / "report.html").read_text()

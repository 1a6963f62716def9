"""What `analyzer profile` keeps beside each measurement: its timeline."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from analyzer.domain.measurement import Measurement
from analyzer.store import RunFolder
from analyzer.timeline import archive
from analyzer.timeline.kinds import Kind
from tests.fakes import repositories

QUICK = ("--concurrency", "2", "--instance-counts", "1", "--max-batch-sizes", "8", "--duration", "0.3s")
QUICK += ("--screen-duration", "0.3s", "--server-warmup", "0s", "--latency-budget", "1s", "--formats", "json")
QUICK += ("--search", "brute", "--dynamic-batching", "on", "--queue-delays-us", "0")


def profiled(tmp_path: Path, *more: str) -> list[Measurement]:
    repositories.write_simulated(tmp_path / "models", parameters={"service_us": 500})
    command = [sys.executable, "-m", "analyzer", "profile", "-m", "models", "--profile-models", "simulated"]
    command += ["--run", "run", *QUICK, *more]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stderr
    outcomes = RunFolder.open(tmp_path / "run").outcomes()
    assert all(isinstance(outcome, Measurement) for outcome in outcomes)
    return [outcome for outcome in outcomes if isinstance(outcome, Measurement)]


def test_every_measurement_has_its_timeline_from_the_client_to_the_batch(tmp_path):
    measured = profiled(tmp_path)
    assert measured
    run = RunFolder.open(tmp_path / "run")
    for measurement in measured:
        assert [(each.collector, each.state) for each in measurement.collected] == [("spans", "on")]
        timeline = archive.load(run.timeline_path(measurement.config))
        requests, batches = timeline.rows(Kind.REQUEST), timeline.rows(Kind.BATCH)
        assert len(requests) >= measurement.load.request_count > 0
        assert 0 < len(batches) <= len(requests)
        sent = timeline.rows(Kind.CLIENT_REQUEST)
        known = timeline.events.request[sent]
        assert len(sent) > 0
        assert (known > 0).mean() > 0.9
        starts = dict(zip(timeline.events.request[requests].tolist(), timeline.events.start_ns[requests].tolist()))
        later = [starts[number] - at for number, at in zip(known, timeline.events.start_ns[sent]) if number > 0]
        assert np.min(later) >= 0


def test_nothing_is_kept_where_nothing_is_to_be_collected(tmp_path):
    (measurement, *_) = profiled(tmp_path, "--collect", "none")
    assert measurement.collected == ()
    assert not (tmp_path / "run" / "timelines").exists()


def test_a_collector_that_can_not_be_had_says_why_and_the_run_goes_on(tmp_path):
    (measurement, *_) = profiled(tmp_path, "--collect", "nsys", "--nsys", "no-such-nsys")
    states = {each.collector: each for each in measurement.collected}
    assert states["nsys"].state == "absent"
    assert "--nsys PATH" in states["nsys"].reason
    assert states["spans"].records > 0

"""`analyzer profile --streams`: video streams on a simulated ensemble over loopback, from frames to a report."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from analyzer.domain.measurement import Measurement
from analyzer.store import RunFolder
from perf_client.loads import VideoStreams
from tests.fakes.repositories import write_simulated

FLAGS = [
    "-m", "models", "--profile-models", "m", "--run", "run", "--duration", "400ms", "--screen-duration", "300ms",
    "--warmup", "0", "--server-warmup", "50ms", "--sample-interval", "20ms", "--instance-counts", "1",
    "--max-batch-sizes", "4", "--queue-delays-us", "0", "--formats", "html,csv,json",
    "--constraint", "late_frames_ratio<=1",
]  # fmt: skip


def profile(folder: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "analyzer", "profile", *FLAGS, *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams")
    write_simulated(folder / "models", "m", parameters={"service_us": 1000})
    finished = profile(folder, "--streams", "1:4", "--fps", "20", "--deadline", "2s", "--search", "brute")
    assert finished.returncode == 0, finished.stderr
    return folder


def test_every_point_is_a_number_of_streams_with_their_frames_told(done: Path):
    outcomes = RunFolder.open(done / "run").outcomes()
    assert {outcome.config.load.load.level for outcome in outcomes} == {1.0, 2.0, 4.0}
    for outcome in outcomes:
        assert isinstance(outcome, Measurement)
        load = outcome.config.load.load
        assert isinstance(load, VideoStreams)
        assert (load.frames_per_second, load.deadline_ms) == (20.0, 2000.0)
        assert len(outcome.load.by_stream) == load.streams


def test_the_report_tells_how_many_streams_are_sustained(done: Path):
    answer = json.loads((done / "run" / "report.json").read_text())
    assert answer["recommended"]["video_streams"] in (1, 2, 4)
    assert answer["recommended"]["frames_per_second"] == 20.0
    assert 0 <= answer["recommended"]["late_frames_ratio"] <= 1
    page = (done / "run" / "report.html").read_text()
    assert "Sustained" in page
    assert "20 frames/s each, deadline 2000 ms" in page
    assert "streams of 20 frames/s" in page or "stream of 20 frames/s" in page


def test_frames_without_streams_are_wrong_usage(tmp_path):
    refused = profile(tmp_path, "--fps", "20")
    assert refused.returncode == 2
    assert refused.stderr == "analyzer: --fps and --deadline are of video streams: give --streams LOW:HIGH too\n"

"""A timeline in a run folder is judged with the figures and settings of its measurement."""

import shutil

import pytest
from msgspec.structs import replace

from analyzer.domain.measurement import GpuUsage
from analyzer.domain.thresholds import DEFAULTS
from analyzer.errors import InputError
from analyzer.measured_point import point_of
from analyzer.store import RunFolder
from analyzer.timeline import archive
from analyzer.timeline.rules.case import Case
from analyzer.timeline.rules.diagnose import diagnose
from tests.fakes.outcomes import measurement, run_config, server_config
from tests.fakes.runs import write_run
from tests.fakes.timelines import ensemble_scene

GPU = GpuUsage(
    uuid="GPU-0", name="H100", sample_count=20, utilization_mean_ratio=0.5, memory_peak_bytes=95,
    memory_total_bytes=100, server_memory_peak_bytes=90, power_mean_w=None, energy_j=None, throttled_ratio=0.0,
)  # fmt: skip
BEGIN_NS = 1_500_000_000


@pytest.fixture
def run(tmp_path):
    points = [replace(measurement(run_config(server_config(count), 4)), gpus=(GPU,)) for count in (1, 2)]
    found = RunFolder.open(write_run(tmp_path / "run", points))
    scene = ensemble_scene(900_000)
    for _, block in scene.build._blocks:
        for name in ("start_ns", "end_ns"):
            block[name] += BEGIN_NS
    for point in points:
        path = found.timeline_path(point.config)
        path.parent.mkdir(exist_ok=True)
        archive.save(scene.timeline(), path)
    return found


def abstaining(diagnosis):
    return {each.id for each in diagnosis.abstained}


def test_rules_that_need_the_measurement_speak_of_a_timeline_in_its_run_folder(run):
    path = next((run.path / "timelines").iterdir())
    point = point_of(path, None)
    assert point is not None
    assert point.measurement.config.key == path.stem
    assert point.timeline is not None
    alone = diagnose(Case(timeline=point.timeline), DEFAULTS)
    with_figures = point.diagnosis(point.timeline, {})
    assert abstaining(with_figures) < abstaining(alone)
    assert "R12" in abstaining(alone) - abstaining(with_figures)
    assert "R12" not in abstaining(point.diagnosis(point.timeline, {"R1.gap_us": 1e9}))
    assert {each.id for each in with_figures.findings} > {
        each.id for each in point.diagnosis(point.timeline, {"R1.gap_us": 1e9}).findings
    }


def test_a_copy_elsewhere_finds_its_measurement_in_the_folder_given(run, tmp_path):
    path = next((run.path / "timelines").iterdir())
    copy = tmp_path / "a" / "b" / path.name
    copy.parent.mkdir(parents=True)
    shutil.copy(path, copy)
    assert point_of(copy, None) is None
    assert point_of(copy, run.path).measurement.config.key == path.stem
    shutil.copy(path, copy.with_name("other.timeline"))
    with pytest.raises(InputError, match=r"has 2 measurements and none is named other; name the capture like"):
        point_of(copy.with_name("other.timeline"), run.path)
    with pytest.raises(InputError, match="is no run folder"):
        point_of(copy, tmp_path)

"""A run folder with timelines to findings, a picture and the critical path in its report."""

import json
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from analyzer import report
from analyzer.diagnosed import diagnoses, facts_of, timeline_of
from analyzer.domain.measurement import GpuUsage, Measurement
from analyzer.domain.thresholds import DEFAULTS
from analyzer.render.timeline import picture
from analyzer.store import RunFolder
from analyzer.timeline import archive
from analyzer.timeline.table import Timeline
from tests.fakes.outcomes import measurement, run_config, server_config
from tests.fakes.runs import P99_20, header, model_spec, write_run
from tests.fakes.timelines import Scene, ensemble_scene, instances_scene

COUNTED_FROM_NS = 1_500_000_000
"""Where the counted window of a synthetic measurement begins, by the monotonic clock."""


def moved(scene: Scene, by_ns: int = COUNTED_FROM_NS) -> Timeline:
    for _, block in scene.build._blocks:
        for name in ("start_ns", "end_ns"):
            block[name] += by_ns
    return scene.timeline()


def run_with(folder: Path, timeline: Timeline | None) -> tuple[RunFolder, Measurement]:
    point = measurement(run_config(server_config(2), 4))
    run = RunFolder.open(write_run(folder, [point]))
    if timeline is not None:
        path = run.timeline_path(point.config)
        path.parent.mkdir(exist_ok=True)
        archive.save(timeline, path)
    return run, point


def test_a_stored_timeline_is_judged_together_with_the_measurement(tmp_path):
    run, point = run_with(tmp_path / "run", moved(ensemble_scene(900_000)))
    found = diagnoses(run, [point], [point], DEFAULTS)[point.config.key]
    assert found.top is not None
    assert found.top.id == "R1"


def test_only_the_counted_window_of_a_timeline_is_judged(tmp_path):
    run, point = run_with(tmp_path / "run", moved(ensemble_scene(900_000, requests=10), COUNTED_FROM_NS - 10_000_000))
    kept = timeline_of(run, point)
    assert kept is not None
    assert kept.start_ns >= COUNTED_FROM_NS
    assert len(kept) < len(ensemble_scene(900_000, requests=10).timeline())


@pytest.mark.parametrize("content", [None, b"no timeline"])
def test_without_a_readable_timeline_the_statistics_are_judged(tmp_path, content: bytes | None):
    run, point = run_with(tmp_path / "run", None)
    if content is not None:
        run.timeline_path(point.config).parent.mkdir(exist_ok=True)
        run.timeline_path(point.config).write_bytes(content)
    assert timeline_of(run, point) is None
    found = diagnoses(run, [point], [point], DEFAULTS)[point.config.key]
    assert "R2" not in {each.id for each in found.abstained}


def test_what_was_served_goes_before_what_the_repository_has():
    text = (
        'name: "synthetic" max_batch_size: 16 instance_group { count: 3 }\n'
        "dynamic_batching { preferred_batch_size: [4, 8] max_queue_delay_microseconds: 700 }"
    )
    specs = {"synthetic": model_spec()}
    served = facts_of(server_config(), specs, lambda _server, _name: text)["synthetic"]
    assert (served.instance_count, served.max_batch_size, served.queue_delay_us) == (3, 16, 700)
    assert (served.dynamic_batching, served.wanted_batch) == (True, 4)
    unknown = facts_of(server_config(2, 32, True), specs, lambda _server, _name: "{ torn")["synthetic"]
    assert (unknown.instance_count, unknown.wanted_batch, unknown.dynamic_batching) == (2, 32, True)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("diagnosed") / "run"
    run_with(folder, moved(instances_scene(2.0)))
    told = StringIO()
    report.run(folder, formats=("html", "json"), console=Console(file=told, width=80))
    return folder, told.getvalue()


def test_the_report_says_what_holds_the_recommended_point_back(written: tuple[Path, str]):
    folder, told = written
    page = (folder / "report.html").read_text()
    assert "Instances take turns (R9)" in page
    assert "instance_group [ { count: 1 } ]" in page
    assert "Requests over time" in page
    assert "The median request, piece by piece" in page
    assert "Could not be judged" in page
    assert "What holds it back most: instances take turns (m)" in " ".join(told.split())


def test_the_json_has_the_findings_of_every_point_and_what_could_not_be_judged(written: tuple[Path, str]):
    answer = json.loads((written[0] / "report.json").read_text())
    assert answer["diagnosis"]["findings"][0]["id"] == "R9"
    assert {"R4", "R12"} <= {each["id"] for each in answer["diagnosis"]["abstained"]}
    assert answer["findings"][answer["recommended"]["point"]][0]["recoverable_ms"] > 0


def test_limits_of_rules_can_be_given_anew(tmp_path):
    run_with(tmp_path / "run", moved(instances_scene(2.0)))
    silent = Console(file=StringIO())
    report.run(tmp_path / "run", formats=("json",), console=silent, rules={"R9.slowdown": 3.0})
    answer = json.loads((tmp_path / "run" / "report.json").read_text())
    assert "R9" not in {each["id"] for each in answer["diagnosis"]["findings"]}


def test_limits_of_the_run_hold_for_its_report(tmp_path):
    head = header(budgets=P99_20)
    head.settings["rules"] = {"R9.slowdown": 3.0}
    point = measurement(run_config(server_config(2), 4))
    run = RunFolder.open(write_run(tmp_path / "run", [point], head))
    run.timeline_path(point.config).parent.mkdir(exist_ok=True)
    archive.save(moved(instances_scene(2.0)), run.timeline_path(point.config))
    report.run(tmp_path / "run", formats=("json",), console=Console(file=StringIO()))
    answer = json.loads((tmp_path / "run" / "report.json").read_text())
    assert "R9" not in {each["id"] for each in answer["diagnosis"]["findings"]}


def test_the_picture_has_a_line_for_each_request_instance_and_stream():
    drawn = picture(instances_scene(1.5, kernels=True).timeline())
    for label in ("request 20", "m instance 1", "GPU 0 stream 8", "Queue", "Kernels"):
        assert f">{label}<" in drawn
    assert ">Copies<" not in drawn


def test_an_ensembles_requests_are_drawn_with_the_work_of_its_steps():
    drawn = picture(ensemble_scene(450_000).timeline())
    for label in ("first instance 0", "second instance 0", "Server, between its parts", "Compute"):
        assert f">{label}<" in drawn


def test_few_requests_are_drawn_where_they_come_rarely():
    scene = Scene()
    for number in range(40):
        begin = number * 100_000_000
        scene.request(number, begin, begin + 1_000_000).batch(number, [number], begin, begin + 1_000_000)
    drawn = picture(scene.timeline())
    assert ">request 5<" in drawn
    assert ">request 6<" not in drawn


def test_nothing_is_drawn_of_a_timeline_without_requests():
    assert picture(Scene().work(0, 10).timeline()) == ""
    assert picture(None) == ""


def test_a_timeline_that_was_watched_apart_is_judged_by_its_own_window(tmp_path):
    later_ns = COUNTED_FROM_NS + 60_000_000_000
    run, point = run_with(tmp_path / "run", moved(ensemble_scene(900_000), later_ns))
    assert timeline_of(run, point) is None
    apart = msgspec.structs.replace(point, captured_ns=(later_ns, later_ns + 10_000_000_000))
    assert timeline_of(run, apart) is not None


def test_how_much_of_the_devices_memory_is_in_use_reaches_the_rule(tmp_path):
    run, point = run_with(tmp_path / "run", None)
    gpu = GpuUsage(
        uuid="GPU-0", name="H100", sample_count=20, utilization_mean_ratio=0.5, memory_peak_bytes=95,
        memory_total_bytes=100, server_memory_peak_bytes=90, power_mean_w=None, energy_j=None, throttled_ratio=0.0,
    )  # fmt: skip
    full = msgspec.structs.replace(point, gpus=(gpu,))
    found = diagnoses(run, [full], [full], DEFAULTS)[full.config.key]
    assert "95% of its memory is in use" in str(found.findings)

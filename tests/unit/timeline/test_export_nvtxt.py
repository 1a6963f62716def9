"""The NVTXT file holds every event with its times, process and text."""

from collections import Counter
from pathlib import Path

from hypothesis import given, settings

from analyzer.timeline import export_nvtxt, import_any
from analyzer.timeline.export_tracks import layout
from analyzer.timeline.kinds import Kind
from tests.fakes import nvtxt
from tests.fakes.any_timeline import timelines
from tests.fakes.timelines import Scene


@settings(deadline=None, max_examples=60)
@given(timeline=timelines())
def test_every_event_is_a_row(timeline):
    events, found = timeline.events, layout(timeline)
    read = nvtxt.read("\n".join(export_nvtxt.lines(timeline)) + "\n")
    times = zip(events.process.tolist(), events.kind.tolist(), events.start_ns.tolist(), events.end_ns.tolist())
    assert Counter((each.process, each.category - 1, each.start_ns, each.end_ns) for each in read) == Counter(times)
    on_threads = [each for each in read if each.thread < 1 << 24]
    tracks = [found.places[place] for place in found.place.tolist()]
    assert Counter((each.thread, each.message) for each in on_threads) == Counter(
        (track.thread, timeline.name(row).replace('"', "'").replace("\n", " "))
        for row, track in enumerate(tracks)
        if track.thread >= 0
    )


def test_a_row_says_where_its_event_stands():
    scene = Scene().work(30, 40, called=22).batch(1, [1], 20, 50).add(Kind.MARK, 'say "a"\nb', 25, 25, thread=3)
    told = {
        each.message: (each.start_ns, each.end_ns)
        for each in nvtxt.read("\n".join(export_nvtxt.lines(scene.timeline())))
    }
    assert told == {
        "[GPU 0 stream 7] gemm": (30, 40),
        "cudaLaunchKernel": (22, 23),
        "[model m instance 0] execute": (20, 50),
        "[model m instance 0] compute_infer": (20, 50),
        "say 'a' b": (25, 25),
    }


def test_the_sample_capture_keeps_its_sums(tmp_path):
    timeline = import_any.read(Path("tests/data/nsight/dev.sqlite"))
    export_nvtxt.write(timeline, tmp_path / "dev.nvtxt")
    read = nvtxt.read((tmp_path / "dev.nvtxt").read_text())
    for kind in Kind:
        mine = [each.end_ns - each.start_ns for each in read if each.category == kind + 1]
        assert (len(mine), sum(mine)) == (len(rows := timeline.rows(kind)), timeline.events.duration_ns[rows].sum())

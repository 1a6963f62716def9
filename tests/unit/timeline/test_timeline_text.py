"""Text of summaries: figures with units that fit, names cut in the middle, a request piece by piece."""

import pytest

from analyzer.timeline.analyses.diff import diff
from analyzer.timeline.kinds import Kind
from analyzer.timeline.summary import summarize
from analyzer.timeline.text import diff_lines, shorten, size, summary_lines, time
from analyzer.timeline.window import extent, within
from tests.fakes.timelines import Scene


@pytest.mark.parametrize(
    ("value_ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (1_000, "1.00 µs"),
        (450_000, "450 µs"),
        (2_049_235, "2.05 ms"),
        (51.2e6, "51.2 ms"),
        (3_200_000_000, "3.20 s"),
        (5e12, "5,000 s"),
    ],
)
def test_times_have_the_unit_that_fits(value_ns, text):
    assert time(value_ns) == text


@pytest.mark.parametrize(("value", "text"), [(5, "5 B"), (4096, "4.0 KiB"), (3 << 20, "3.0 MiB"), (1 << 31, "2.0 GiB")])
def test_sizes_have_the_unit_that_fits(value, text):
    assert size(value) == text


def test_a_long_name_keeps_its_begin_and_its_end():
    assert shorten("kernel_of_some_library_tile_128", 15) == "kernel_of…e_128"
    assert shorten("two\nlines", 20) == "two lines"


def served() -> Scene:
    scene = Scene().request(1, 0, 1000).queue(1, 0, 400).batch(3, [1], 400, 900)
    return scene.work(450, 800, called=440, batch=3)


def test_a_summary_shows_the_slowest_request_piece_by_piece():
    lines = summary_lines(summarize(served().timeline(), "a.timeline", 0), 5)
    first = lines.index("Slowest request 1 m: 1.00 µs, piece by piece")
    assert [line.split() for line in lines[first + 1 : first + 5]] == [
        ["time", "share", "on", "GPU"],
        ["400", "ns", "40.0%", "-", "queue", "m"],
        ["500", "ns", "50.0%", "350", "ns", "compute_infer", "m", "batch", "3"],
        ["100", "ns", "10.0%", "-", "after", "compute_infer"],
    ]


def test_tables_show_the_short_names_of_kernels_where_these_tell_them_apart():
    relu, gelu = "void n::elementwise<relu>(int)", "void n::elementwise<gelu>(int)"
    scene = Scene().work(0, 50, name="void n::gemm<float, (int)4>(float*)").work(60, 80, name=relu)
    timeline = scene.work(90, 100, name=gelu).timeline()
    lines = summary_lines(summarize(timeline, "a.timeline", 0), 5)
    assert "GPU 0: 100 ns from first to last operation" in lines
    first = lines.index("Kernels")
    assert [line.split()[4:] for line in lines[first + 2 : first + 5]] == [["gemm"], relu.split(), gelu.split()]
    lines = diff_lines(diff(timeline, timeline), "a", "b", 5)
    first = lines.index("Kernels")
    assert sorted(line.split()[-1] for line in lines[first + 2 : first + 5]) == [
        "gemm", "n::elementwise<gelu>(int)", "n::elementwise<relu>(int)",
    ]  # fmt: skip


def test_a_summary_of_a_server_without_gpu_shows_its_queue_and_batches():
    timeline = Scene().request(1, 0, 1000).queue(1, 0, 400).batch(3, [1], 400, 900).timeline()
    text = "\n".join(summary_lines(summarize(timeline, "a.timeline", 0), 5))
    assert "! no GPU activity in the capture" in text
    assert "Requests in queue" in text
    assert "Batches" in text
    assert "%" not in text.partition("Slowest request 1")[0]


def test_a_window_keeps_what_begins_in_it_and_its_parents():
    scene = served().add(Kind.RANGE, "warm", -100, -10, thread=1).add(Kind.RANGE, "measured", 0, 50, thread=1)
    scene.add(Kind.RANGE, "inner", 10, 20, thread=1)
    timeline = scene.timeline()
    cut = within(timeline, *extent(timeline, "measured"))
    names = [cut.name(row) for row in range(len(cut))]
    assert sorted(names) == ["inner", "measured", "queue", "request"]
    assert cut.name(cut.events.parent[names.index("inner")]) == "measured"

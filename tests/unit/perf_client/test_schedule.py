"""Due times from descriptions and files of every kind."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_client.errors import LoadError
from perf_client.loads import RateBursts, RateRamp, RecordedTrace, RequestIntervals, VideoStreams
from perf_client.schedule import due_times, read_gaps_ns, read_trace_ns, trace_span_s


def first(load, count, seed=0):
    found = []
    for block in due_times(load, seed):
        found += block.tolist()
        if len(found) >= count:
            break
    return found[:count]


def test_intervals_are_looped_and_sped_up(tmp_path):
    path = tmp_path / "gaps.txt"
    path.write_text("1000\n\n3000\n")
    assert first(RequestIntervals(path=str(path)), 4) == [1_000_000, 4_000_000, 5_000_000, 8_000_000]
    assert first(RequestIntervals(path=str(path), speed_ratio=2.0), 3) == [500_000, 2_000_000, 2_500_000]


@given(gaps=st.lists(st.integers(0, 10**7), min_size=1).filter(any))
def test_gaps_are_read_as_written(gaps, tmp_path_factory):
    path = tmp_path_factory.mktemp("gaps") / "gaps.txt"
    path.write_text("\n".join(map(str, gaps)))
    assert read_gaps_ns(path) == [gap * 1000 for gap in gaps]


TRACES = {
    "with_header.csv": "name,timestamp\na,100\nb,100.5\nc,250\n",
    "plain.csv": "100\n100.5\n250\n",
    "lines.jsonl": '{"timestamp": 100}\n{"timestamp": 100.5}\n\n{"timestamp": [250]}\n',
    "lines.txt": '{"timestamp": 100}\n{"timestamp": 100.5}\n{"timestamp": 250}\n',
    "data.json": '{"data": [{"timestamp": 100}, [{"timestamp": 100.5}, {"timestamp": 250}]]}',
}


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_may_be_csv_json_lines_or_input_data(name, tmp_path):
    path = tmp_path / name
    path.write_text(TRACES[name])
    assert read_trace_ns(path) == [100_000_000, 100_500_000, 250_000_000]
    load = RecordedTrace(path=str(path), speed_ratio=0.5)
    assert np.concatenate(list(due_times(load, 0))).tolist() == [0, 1_000_000, 300_000_000]
    assert trace_span_s(load) == pytest.approx(0.45)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no recorded times"),
        ("5\n4\n", "fall at entry 2"),
        ("timestamp\nx\n", "line 2: 'x'"),
        ("timestamp\nnan\n", "line 2"),
        ("a,timestamp\n1\n", "line 2"),
        ('{"timestamp": "x"}\n', "no timestamp"),
        ('{"timestamp": 1}\n{"data"\n', "not JSON"),
    ],
)
def test_a_bad_trace_is_named_with_its_place(content, says, tmp_path):
    path = tmp_path / "trace.txt"
    path.write_text(content)
    with pytest.raises(LoadError, match=says) as caught:
        read_trace_ns(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"), [("", "no gap above 0"), ("0\n0\n", "no gap"), ("5\n-3\n", "line 2: '-3'"), ("1.5", "line 1")]
)
def test_a_bad_file_of_gaps_is_named_with_its_place(content, says, tmp_path):
    path = tmp_path / "gaps.txt"
    path.write_text(content)
    with pytest.raises(LoadError, match=says):
        read_gaps_ns(path)


def test_files_that_can_not_be_read_are_named(tmp_path):
    with pytest.raises(LoadError, match="can't be read"):
        read_gaps_ns(tmp_path / "none")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LoadError, match="not a text file"):
        read_trace_ns(tmp_path / "binary")


@pytest.mark.parametrize("arrival", ["constant", "poisson", "gamma"])
@pytest.mark.parametrize(
    "shape",
    [
        (RateRamp, {"from_per_second": 100.0, "to_per_second": 300.0, "ramp_s": 10.0}, 2000),
        (RateBursts, {"base_per_second": 100.0, "burst_per_second": 600.0, "period_s": 5.0, "burst_s": 1.0}, 2000),
    ],
)
def test_shaped_rates_offer_as_much_as_their_curve_encloses(arrival, shape):
    kind, figures, expected = shape
    times = np.array(first(kind(arrival=arrival, **figures), 4000, seed=3))
    assert np.count_nonzero(times < 10_000_000_000) == pytest.approx(expected, rel=0.08)


def test_frames_of_all_streams_are_spread_over_a_frame():
    times = list(islice(first(VideoStreams(streams=4, frames_per_second=25.0), 8), 8))
    assert times == [number * 10_000_000 for number in range(8)]

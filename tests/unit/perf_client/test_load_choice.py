"""Options about the load to the load and back, and the contradictions that are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_client.command import parse
from perf_client.errors import LoadError
from perf_client.load_flags import as_flags
from perf_client.loads import (
    Concurrency,
    PeriodicConcurrency,
    RateBursts,
    RateRamp,
    RecordedTrace,
    RequestIntervals,
    RequestRate,
    Sequences,
    VideoStreams,
)
from perf_client.sweep import Levels

rates = st.floats(0.1, 1e5).map(lambda value: float(f"{value:.9g}"))
arrivals = st.one_of(
    st.fixed_dictionaries({"arrival": st.sampled_from(["constant", "poisson"])}),
    st.fixed_dictionaries({"arrival": st.just("gamma"), "gamma_shape": rates}),
)
caps = st.fixed_dictionaries({"max_in_flight": st.none() | st.integers(1, 10**6)})
counts = st.integers(1, 10**4)
loads = st.one_of(
    st.builds(Concurrency, in_flight=counts),
    st.builds(lambda start, more, **rest: PeriodicConcurrency(start=start, end=start + more, **rest), start=counts,
              more=st.integers(0, 100), step=counts, period=counts),
    st.builds(lambda rest, cap, **own: RequestRate(**own, **rest, **cap), arrivals, caps, per_second=rates),
    st.builds(lambda rest, cap, **own: RateRamp(**own, **rest, **cap), arrivals, caps, from_per_second=rates,
              to_per_second=rates, ramp_s=rates),
    st.builds(lambda rest, cap, burst, **own: RateBursts(period_s=burst * 4, burst_s=burst, **own, **rest, **cap),
              arrivals, caps, st.sampled_from([0.5, 1.0, 3.0]), base_per_second=rates, burst_per_second=rates),
    st.builds(lambda cap, **own: RequestIntervals(path="gaps.txt", **own, **cap), caps, speed_ratio=rates),
    st.builds(lambda cap, **own: VideoStreams(**own, **cap), caps, streams=counts, frames_per_second=rates,
              deadline_ms=st.none() | rates),
)  # fmt: skip


@given(load=loads)
def test_a_load_written_as_flags_is_read_back(load):
    command = parse(["-m", "m", *as_flags(load)])
    assert command.profile.load == load


def test_a_trace_is_played_to_its_end_at_its_speed(tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text("timestamp\n0\n1000\n3000\n")
    command = parse(["-m", "m", "--trace", str(trace), "--trace-speed", "2"])
    assert command.profile.load == RecordedTrace(path=str(trace), speed_ratio=2.0)
    assert command.profile.duration_s == pytest.approx(2.25)
    assert parse(["-m", "m", "--trace", str(trace), "--duration", "1"]).profile.duration_s == 1


def test_a_fixed_schedule_is_the_trace_in_the_input_data(tmp_path):
    data = tmp_path / "data.json"
    data.write_text('{"data": [{"IN": [1], "timestamp": 5}, {"IN": [2], "timestamp": 25}]}')
    command = parse(["-m", "m", "--fixed-schedule", "--input-data", str(data)])
    assert command.profile.load == RecordedTrace(path=str(data))
    assert command.profile.input_data == str(data)
    assert command.profile.duration_s == pytest.approx(0.04)


def test_streams_are_a_level_to_search():
    command = parse(["-m", "m", "--streams", "1:32:4", "--fps", "25", "-l", "35.5", "--binary-search"])
    assert command.levels == Levels("streams", 1, 32, 4)
    assert command.limit.limit_ns == 35_500_000
    assert command.profile.load == VideoStreams(streams=1, frames_per_second=25.0)


@pytest.mark.parametrize("flags", ["--concurrency-range 1:8", "--request-rate-range 0.5:8:0.25"])
def test_a_limit_may_be_a_fraction_of_a_millisecond(flags):
    assert parse(f"-m m {flags} -l 0.35 --percentile 99.5".split()).limit.limit_ns == 350_000


def test_models_share_a_load_by_weight():
    command = parse(["-m", "a", "-m", "b", "-m", "a", "-x", "1", "-x", "2", "-x", "3", "--mix", "3:1:0.5"])
    shares = [(share.model, share.version, share.weight) for share in command.profile.mix]
    assert shares == [("a", "1", 3), ("b", "2", 1), ("a", "3", 0.5)]
    assert (command.profile.model, command.profile.version) == ("a", "1")
    assert [s.weight for s in parse(["-m", "a", "-m", "b"]).profile.mix] == [1, 1]
    assert parse(["-m", "a"]).profile.mix == ()


def test_sequences_are_asked_for_by_any_of_their_options():
    assert parse(["-m", "m"]).profile.sequences is None
    assert parse(["-m", "m", "--serial-sequences"]).profile.sequences == Sequences()
    asked = "--sequence-length 5 --sequence-length-variation 0 --sequence-id-range 10:20"
    assert parse(f"-m m {asked}".split()).profile.sequences == Sequences(
        length=5, length_variation_percent=0, id_from=10, id_to=20
    )
    assert parse(["-m", "m", "--request-rate-range", "9", "--num-of-sequences", "7"]).profile.sequences.parallel == 7


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--concurrency-range 1 --request-rate-range 1", "exclude each other"),
        ("--streams 2 --fps 25 --trace x.csv", "exclude each other"),
        ("--streams 2", "--fps"),
        ("--fps 25", "--streams"),
        ("--deadline 5", "--streams"),
        ("--streams 2:1 --fps 5", "write 1:2"),
        ("--trace-speed 2", "--trace"),
        ("--request-period 3", "--periodic-concurrency-range"),
        ("--periodic-concurrency-range 1:0", "END must be above 0"),
        ("--periodic-concurrency-range 1:4 --max-in-flight 2", "open loop"),
        ("--periodic-concurrency-range 1:4 --request-distribution poisson", "--request-rate-range"),
        ("--request-rate-ramp 1:2", "FROM:TO:S"),
        ("--request-rate-ramp 1:2:0", "above 0"),
        ("--request-rate-bursts 1:2:3:4", "leaves nothing"),
        ("--request-rate-bursts 1:2:x:4", "BASE:BURST:EVERY:FOR"),
        ("--fixed-schedule", "--input-data"),
        ("--fixed-schedule --input-data random", "--input-data"),
        ("--trace no-such-file.csv", "can't be read"),
        ("--num-of-sequences 4", "--request-rate-range"),
        ("--serial-sequences -b 2", "-b 1"),
        ("--sequence-id-range 5:5", "END above START"),
        ("--sequence-id-range x", "whole numbers"),
        ("--mix 1:2", "-m"),
        ("-m b --mix 1", "W:W"),
        ("-m b --mix 1:0", "above 0"),
        ("-m m", "named twice"),
        ("-m b -m c -x 1 -x 2", "once a model"),
        ("-l -1", "--latency-threshold"),
        ("--streams 1:0 --fps 5", "--latency-threshold"),
    ],
)
def test_contradictions_get_one_sentence_that_names_the_flag(flags, says):
    with pytest.raises(LoadError) as caught:
        parse(["-m", "m", *flags.split()])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code in (2, 3)

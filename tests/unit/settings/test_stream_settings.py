"""Video streams as a load: settings to budgets, ranges, templates and the planner's points."""

import pytest
from msgspec.structs import replace

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.metrics import METRICS
from analyzer.domain.run import ModelVariant
from analyzer.domain.space import LoadRange, ModelSpace, SearchSpace
from analyzer.errors import UsageError
from analyzer.render import words
from analyzer.search.candidates import doublings, template_for
from analyzer.search.make import make_planner
from analyzer.search.options import SearchOptions
from analyzer.settings.declared import ProfileSettings
from analyzer.settings.options import settings_from
from perf_client.loads import VideoStreams
from perf_client.profile import Concurrency, LoadProfile, StreamResult
from tests.fakes.outcomes import QueueModel, measurement, run_config, server_config

NEEDED = {"model_repository": "repo", "profile_models": "m"}


def made(**flags: object) -> ProfileSettings:
    return settings_from(ProfileSettings, None, NEEDED | flags)


def test_streams_bring_their_deadline_as_a_budget():
    settings = made(streams="1:16", fps="50", deadline_ms="40ms")
    assert settings.load_range == LoadRange(kind="streams", minimum=1, maximum=16, requests_each=50.0)
    assert settings.budgets == (
        Budget(metric="p99_latency_ms", limit=40.0),
        Budget(metric="late_frames_ratio", limit=0.01),
        Budget(metric="failure_ratio", limit=0.0),
    )


def test_a_frames_time_is_the_deadline_where_none_is_given():
    assert made(streams="4").budgets[0] == Budget(metric="p99_latency_ms", limit=40.0)


def test_a_limit_on_late_frames_of_ones_own_replaces_the_usual_one():
    settings = made(streams="4", constraints=["late_frames_ratio<=0.05"])
    assert [str(budget) for budget in settings.budgets] == ["late_frames_ratio<=0.05", "failure_ratio<=0"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"streams": "1:4", "concurrency": "1:4"}, "exclude each other"),
        ({"streams": "1:4", "request_rate": "1:4"}, "exclude each other"),
        ({"fps": "25"}, "--fps and --deadline are of video streams"),
        ({"deadline_ms": "40ms"}, "give --streams LOW:HIGH too"),
        ({"streams": "0:4"}, "--streams takes LOW:HIGH with LOW at least 1"),
    ],
)
def test_what_does_not_fit_streams_is_refused(flags: dict[str, object], told: str):
    with pytest.raises(UsageError, match="--") as refused:
        made(**flags)
    assert told in str(refused.value)


def test_streams_double_in_whole_numbers():
    load = LoadRange(kind="streams", minimum=1, maximum=12, requests_each=25.0)
    assert doublings(load) == (1.0, 2.0, 4.0, 8.0, 12.0)
    template = template_for(load, LoadProfile(model="m", load=Concurrency(in_flight=3)))
    assert template.load == VideoStreams(streams=1, frames_per_second=25.0)


def test_late_failed_and_dropped_frames_did_not_come_in_time():
    point = measurement(run_config(server_config(1), 1))
    assert METRICS["late_frames_ratio"].read(point) is None
    stream = StreamResult(
        stream=0, frame_count=50, on_time_count=45, late_count=2, failed_count=1, dropped_count=2, worst_ns=1
    )
    load = replace(point.load, by_stream=(stream, replace(stream, stream=1, on_time_count=50)))
    ratio = METRICS["late_frames_ratio"].read(replace(point, load=load))
    assert ratio is not None
    assert ratio.value == pytest.approx(0.05)


def test_streams_are_told_in_words():
    assert words.load(VideoStreams(streams=8, frames_per_second=25.0)) == "8 streams of 25 frames/s"


@pytest.mark.parametrize("mode", ["capacity", "brute"])
def test_a_planner_asks_for_whole_streams_and_finds_the_most_that_are_carried(mode: str):
    load = LoadRange(kind="streams", minimum=1, maximum=64, requests_each=25.0)
    space = SearchSpace(models=(ModelSpace(model="synthetic", load=load, instance_counts=(1, 2)),))
    template = LoadProfile(model="synthetic", load=VideoStreams(streams=1, frames_per_second=25.0))
    budgets = (Budget(metric="p99_latency_ms", limit=40.0),)
    planner = make_planner(
        mode, space, (Objective(metric="throughput"),), budgets, template, "synthetic",
        SearchOptions(bases=(ModelVariant(model="synthetic", instance_count=1, max_batch_size=1),)),
    )  # fmt: skip
    seen = []
    while (config := planner.ask()) is not None and len(seen) < 60:
        streams = config.load.load
        assert isinstance(streams, VideoStreams)
        assert streams.frames_per_second == 25.0
        seen.append(streams.streams)
        planner.tell(measurement(config, QueueModel(fixed_ms=2.0, per_item_ms=1.0, contention=0.0)))
    assert max(seen) >= 8
    assert planner.ledger()

from pathlib import Path

import pytest

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.run import EditValue
from analyzer.domain.space import Axis
from analyzer.errors import InputError, UsageError
from analyzer.settings.axis_values import ModelAxis
from analyzer.settings.declared import ProfileSettings, ReportSettings
from analyzer.settings.options import options_of, settings_from

NEEDED = {"model_repository": "repo", "profile_models": "m"}


def axis(path: str, *values: EditValue, model: str = "") -> ModelAxis:
    return ModelAxis(axis=Axis(path=path, values=values), model=model)


def made(**flags) -> ProfileSettings:
    return settings_from(ProfileSettings, None, NEEDED | flags)


@pytest.mark.parametrize(
    ("field", "raw", "value"),
    [
        ("instance_counts", "1,2,4", (1, 2, 4)),
        ("instance_counts", "1:6", (1, 2, 4, 6)),
        ("max_batch_sizes", "2:8:3", (2, 5, 8)),
        ("max_batch_sizes", [1, 16], (1, 16)),
        ("max_batch_sizes", 4, (4,)),
        ("dynamic_batching", "true,false", (True, False)),
        ("dynamic_batching", False, (False,)),
        ("queue_delays_us", "0,500", (0, 500)),
        ("concurrency", "1:64", (1, 64)),
        ("concurrency", 8, (8, 8)),
        ("time_limit_s", "10m", 600.0),
        ("time_limit_s", "90", 90.0),
        ("latency_budget_ms", "20ms", 20.0),
        ("latency_budget_ms", 0.5, 0.5),
        ("latency_budget_ms", "1.5s", 1500.0),
        ("gpu_memory_budget_mb", "4GB", 4096.0),
        ("warmup_s", 0, 0.0),
        ("constraints", ["p99_latency_ms<=2.9"], (Budget(metric="p99_latency_ms", limit=2.9),)),
        ("constraints", ["throughput >= 1e3"], (Budget(metric="throughput", limit=1000.0, at_most=False),)),
        (
            "objectives",
            "throughput:2,server_memory_mb",
            (Objective(metric="throughput", weight=2.0), Objective(metric="server_memory_mb")),
        ),
        ("objectives", {"throughput": 0.5}, (Objective(metric="throughput", weight=0.5),)),
        ("formats", "html,csv", ("html", "csv")),
        ("shapes", ["X:3,224,224", "Y:5"], {"X": ((3, 224, 224),), "Y": ((5,),)}),
        ("shapes", {"X": [3, 4]}, {"X": ((3, 4),)}),
        ("shapes", ["X:3,4|3,8"], {"X": ((3, 4), (3, 8))}),
        ("shapes", {"X": [[3, 4], [3, 8]]}, {"X": ((3, 4), (3, 8))}),
        ("preferred_batch_sizes", "4+8,8", ((4, 8), (8,))),
        ("preferred_batch_sizes", [[4, 8], 8], ((4, 8), (8,))),
        ("instance_gpus", "0,0+1", ((0,), (0, 1))),
        ("axes", ["parameters.a=1,2"], (axis("parameters.a", "1", "2"),)),
        ("axes", {"m:parameters.a": [1, 2]}, (axis("parameters.a", "1", "2", model="m"),)),
        (
            "axes",
            ["dynamic_batching.preserve_ordering=0,1"],
            (axis("dynamic_batching.preserve_ordering", False, True),),
        ),
        ("axes", ["instance_group.gpus=[0],[0,1]"], (axis("instance_group.gpus", (0,), (0, 1)),)),
        (
            "objectives",
            "A:throughput:2,B:throughput",
            (
                Objective(metric="throughput", weight=2.0, model="A"),
                Objective(metric="throughput", model="B"),
            ),
        ),
        ("objectives", "throughput:0,p99_latency_ms", (Objective(metric="p99_latency_ms"),)),
        ("constraints", ["A:p99_latency_ms<=5"], (Budget(metric="p99_latency_ms", limit=5.0, model="A"),)),
        ("price_per_hour", 0, 0.0),
    ],
)
def test_an_option_reads_flags_and_yaml_values_alike(field, raw, value):
    assert getattr(made(**{field: raw}), field) == value


@pytest.mark.parametrize(
    ("field", "raw", "sentence"),
    [
        ("instance_counts", "0", "--instance-counts must be at least 1"),
        ("instance_counts", "4:1", "START not above STOP"),
        ("instance_counts", "x", "takes a number"),
        ("instance_counts", "1.5", "whole number"),
        ("instance_counts", True, "takes a number"),
        ("instance_counts", "", "at least one"),
        ("dynamic_batching", "maybe", "true or false"),
        ("concurrency", "8:1", "LOW:HIGH"),
        ("concurrency", "0:4", "at least 1"),
        ("time_limit_s", "10 parsecs", "90s or 10m"),
        ("time_limit_s", "0s", "above 0"),
        ("latency_budget_ms", "nan", "--latency-budget takes a number"),
        ("constraints", ["p99<=1"], "no known metric"),
        (
            "constraints",
            ("p99_latency<=1",),
            r"^--constraint 'p99_latency<=1' names no known metric: p99_latency; did you mean p99_latency_ms\?$",
        ),
        ("objectives", "throughputt", r"^--objectives names no known metric: throughputt; did you mean throughput\?$"),
        ("axes", ("parameters.a",), r"2', not 'parameters\.a'$"),
        ("constraints", ["p99_latency_ms<20"], "METRIC<=NUMBER"),
        ("objectives", "speed", "no known metric"),
        ("protocol", "quic", "http, grpc"),
        ("shapes", ["X:0"], "--shape must be at least 1"),
        ("shapes", ["X:a"], "takes a number"),
        ("axes", ["parameters.a"], "takes PATH=V1,V2"),
        ("axes", ["parameters.a="], "gives no value"),
        ("axes", ["parameters.a=1", "parameters.a=2"], "twice"),
        ("axes", ["instance_grup.kind=cpu"], r"did you mean instance_group\.kind\?"),
        ("axes", ["max_batch_size=x"], "takes a number"),
        ("objectives", "throughput:0", "one weight above 0"),
        ("objectives", "throughput:-1", "at least 0"),
        ("objectives", "A:gpu_power_w", "of the whole server"),
        ("constraints", ["A:gpu_power_w<=5"], "of the whole server"),
        ("instance_kinds", "tpu", "cpu, gpu"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_flag(field, raw, sentence):
    with pytest.raises(UsageError, match=sentence):
        made(**{field: raw})


def test_all_mistakes_are_told_at_once(tmp_path: Path):
    file = tmp_path / "s.yaml"
    file.write_text("instance_count: 2\nseed: -1\n")
    with pytest.raises(UsageError) as caught:
        settings_from(ProfileSettings, file, {"protocol": "quic"})
    lines = str(caught.value).splitlines()
    assert [line.split(" ")[0] for line in lines] == [
        f"{file}:",
        f"{file}:",
        "--protocol",
        "--profile-models",
    ]
    assert "instance_count is no option" in lines[0]


def test_flags_win_over_the_file(tmp_path: Path):
    file = tmp_path / "s.yaml"
    file.write_text("seed: 3\ntime_limit: 5m\nconstraint: ['p99_latency_ms<=5']\n")
    settings = settings_from(ProfileSettings, file, NEEDED | {"seed": "4"})
    assert (settings.seed, settings.time_limit_s) == (4, 300.0)
    assert settings.constraints == (Budget(metric="p99_latency_ms", limit=5.0),)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\x00"])
def test_a_file_that_is_no_settings_file_is_named(tmp_path: Path, text):
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=r"s\.yaml"):
        settings_from(ProfileSettings, file, NEEDED)


def test_contradictions_are_told():
    with pytest.raises(UsageError, match="exclude each other"):
        made(concurrency="1:2", request_rate="1:2")
    with pytest.raises(UsageError, match="takes several models"):
        made(together=True)
    with pytest.raises(UsageError, match="each model once"):
        made(profile_models="a,a")
    with pytest.raises(UsageError, match="profiled together"):
        made(profile_models="a,b", loads=["a:1:2"])
    with pytest.raises(UsageError, match="leaves gpu out"):
        made(instance_gpus="0", instance_kinds="cpu")


def test_failures_are_not_allowed_unless_the_user_says_how_many():
    assert made(latency_budget_ms=20).budgets == (
        Budget(metric="p99_latency_ms", limit=20.0),
        Budget(metric="failure_ratio", limit=0.0),
    )
    assert made(constraints=["failure_ratio<=0.01"]).budgets == (Budget(metric="failure_ratio", limit=0.01),)


def test_every_option_has_a_help_text_and_a_unique_flag():
    for settings in (ProfileSettings, ReportSettings):
        options = options_of(settings)
        assert all(option.help for option in options)
        assert len({option.flag for option in options}) == len(options) > 5


@pytest.mark.parametrize(
    ("collect", "when", "weighed"),
    [
        ("auto", "auto", ()),
        ("auto", "on", ("spans",)),
        ("cupti", "auto", ("spans", "cupti")),
        ("cupti", "off", ()),
        ("none", "auto", ()),
    ],
)
def test_what_collecting_costs_is_measured_by_itself_where_it_slows_the_server(collect, when, weighed):
    assert made(collect=collect, measure_overhead=when).weighed == weighed


def test_nothing_collected_has_no_cost_to_measure():
    with pytest.raises(UsageError, match="leave --collect none out"):
        made(collect="none", measure_overhead="on")


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("concurrency: 1:4", "concurrency", (1, 4)),
        ("concurrency: 1:64", "concurrency", (1, 64)),
        ("request_rate: 10:50.5", "request_rate", (10.0, 50.5)),
        ("instance_counts: 1:3", "instance_counts", (1, 2, 3)),
        ("instance_counts: [1, 0x4]", "instance_counts", (1, 4)),
        ("max_batch_sizes: 010", "max_batch_sizes", (8,)),
        ("seed: 1_000", "seed", 1000),
        ("duration: 2.5", "duration_s", 2.5),
    ],
)
def test_a_range_in_a_file_is_no_number_of_base_60(tmp_path: Path, line: str, field: str, value: object):
    """YAML 1.1 reads 1:4 as 64, as in hours and minutes."""
    file = tmp_path / "s.yaml"
    file.write_text(f"model_repository: m\nprofile_models: a\n{line}\n")
    assert getattr(settings_from(ProfileSettings, file, {}), field) == value

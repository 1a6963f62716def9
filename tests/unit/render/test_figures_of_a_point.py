import pytest
from msgspec.structs import replace

from analyzer.domain.metrics import Estimate
from analyzer.render import gain
from analyzer.render.breakdown import breakdown
from analyzer.render.facts import facts
from tests.fakes.outcomes import QueueModel, measurement, run_config, server_config


def test_the_parts_of_a_mean_request_add_up():
    parts = breakdown(measurement(run_config(server_config(2, 4, True), 16)))
    assert sum(part.ms for part in parts.parts) == pytest.approx(parts.total_ms)
    assert [part.name for part in parts.parts] == [
        "Late start",
        "Client and network",
        "Queue",
        "Input",
        "Compute",
        "Output",
    ]
    assert parts.largest.name == "Queue"


def test_time_before_sending_counts_as_a_late_start():
    m = measurement(run_config(server_config(), 1))
    late = replace(m.load.response, mean_ns=m.load.service.mean_ns + 5e6)
    parts = breakdown(replace(m, load=replace(m.load, response=late)))
    assert parts.parts[0].ms == pytest.approx(5.0)


@pytest.mark.parametrize("missing", [{"server": ()}, {"response": None}, {"service": None}])
def test_what_was_not_measured_has_no_parts(missing):
    m = measurement(run_config(server_config(), 1))
    assert breakdown(replace(m, load=replace(m.load, **missing))) is None


def test_a_gain_has_an_interval_that_knows_of_both_points():
    queue = QueueModel(interval_ratio=0.03)
    base = measurement(run_config(server_config(), 1), queue)
    best = measurement(run_config(server_config(1, 16, True), 16), queue)
    ratio = gain.ratio(best, base, "throughput")
    exact = best.load.throughput.per_second / base.load.throughput.per_second
    assert ratio.value == exact
    assert exact * 0.94 < ratio.low < exact * 0.97
    assert exact * 1.03 < ratio.high < exact * 1.06
    assert gain.bounds(ratio) == f"{ratio.low:.2f} to {ratio.high:.2f}"


def test_a_gain_without_intervals_or_figures_says_so():
    base = measurement(run_config(server_config(), 1))
    assert gain.ratio(base, base, "server_memory_mb") == Estimate(1.0)
    assert gain.ratio(base, base, "gpu_memory_mb") is None
    assert gain.bounds(Estimate(1.0)) == ""
    assert gain.times(Estimate(12.34)) == "12.3"


def test_nested_facts_become_flat_lines_with_units():
    values = {
        "memory_bytes": 2**31,
        "cpu": {"model_name": "X", "cores": 2},
        "gpus": [{"name": "A", "memory_bytes": None}],
        "libraries": ["a", "b"],
        "rate_per_s": 5,
        "swap": True,
        "driver": None,
        "flags": [],
    }
    assert [(fact.name, fact.value) for fact in facts(values)] == [
        ("memory", "2.00 GiB"),
        ("cpu · model name", "X"),
        ("cpu · cores", "2"),
        ("gpus 0 · name", "A"),
        ("gpus 0 · memory", "not measured"),
        ("libraries", "a, b"),
        ("rate per s", "5"),
        ("swap", "yes"),
        ("driver", "not measured"),
        ("flags", "none"),
    ]
    assert next(iter(facts({"limit_s": None}, absent="automatic"))).value == "automatic"


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ({"room_bytes": 102400}, "100 KiB"),
        ({"room_bytes": 3 * 2**20}, "3.00 MiB"),
        ({"room_bytes": 0}, "0 bytes"),
        ({"fps": 25.0}, "25"),
        ({"loads": [4.0, 8.5]}, "4, 8.5"),
    ],
)
def test_figures_among_the_settings_have_units_that_fit(values, shown):
    assert [fact.value for fact in facts(values)] == [shown]

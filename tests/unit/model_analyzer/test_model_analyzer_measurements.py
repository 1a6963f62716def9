import json
from pathlib import Path

import pytest

from analyzer.domain.budget import Budget, Objective
from analyzer.domain.metrics import METRICS
from analyzer.model_analyzer.checkpoint import read_checkpoint
from analyzer.model_analyzer.measurements import NO_INTERVALS, SENT_NOT_DUE, measurements
from analyzer.model_analyzer.models import config_text, model_specs
from analyzer.rank.rank import rank
from analyzer.render.breakdown import breakdown
from analyzer.render.tables import row
from perf_client.profile import RequestRate
from tests.fakes import model_analyzer as fake

THROUGHPUT = (Objective(metric="throughput"),)


def read(tmp_path: Path, name: str):
    return read_checkpoint(fake.folder(tmp_path, fake.content(name)))


def points(tmp_path: Path, name: str):
    checkpoint = read(tmp_path, name)
    return measurements(checkpoint, checkpoint.models[0])


def value(measurement, metric: str):
    estimate = METRICS[metric].read(measurement)
    return None if estimate is None else estimate.value


def test_throughput_and_p99_are_those_that_model_analyzer_plots(tmp_path):
    plots = json.loads((fake.DATA / "single-model" / "plot_manager.json").read_text())["_simple_plots"]["add_sub"]
    for metric, plot in (("throughput", "throughput_v_latency"), ("gpu_memory_mb", "gpu_mem_v_latency")):
        drawn = plots[plot]["_data"]["add_sub_config_default"]
        figures = {
            value(m, "p99_latency_ms"): value(m, metric)
            for m in points(tmp_path, "single-model")
            if m.config.server.is_default
        }
        scale = 2**20 / 1e6 if metric == "gpu_memory_mb" else 1
        assert {p99: pytest.approx(figure / scale) for p99, figure in zip(drawn["x_data"], drawn["y_data"])} == figures


def test_what_is_not_kept_is_not_measured(tmp_path):
    first = points(tmp_path, "single-model")[0]
    absent = ("p50_latency_ms", "p99.9_latency_ms", "failure_ratio", "server_memory_mb", "server_cpu")
    assert [value(first, metric) for metric in absent] == [None] * len(absent)
    assert METRICS["throughput"].read(first).low is None
    assert METRICS["p99_latency_ms"].read(first).high is None
    shown = row(first, ())
    assert {shown[name] for name in ("request_count", "client_cpu_ratio", "duration_s", "seed", "incomplete")} == {None}
    assert shown["verdict"] == "not judged"


def test_memory_of_the_host_is_read_and_its_zero_is_not_measured(tmp_path):
    checkpoint = fake.tree("older-layout")
    for point, used in zip(fake.measured(checkpoint), (0, 1048.576)):
        point["_model_config_measurements"][0]["_non_gpu_data"].append(["cpu_used_ram", {"_value": used}])
    found = read_checkpoint(fake.folder(tmp_path, checkpoint))
    assert [value(m, "server_memory_mb") for m in measurements(found, "vgg19_libtorch")] == [None, 1000]


def test_variants_become_settings_and_the_default_stays_the_default(tmp_path):
    variants = {m.config.server.variants[0].name: m.config.server.variants[0] for m in points(tmp_path, "single-model")}
    assert list(variants) == ["", "add_sub_config_0", "add_sub_config_1", "add_sub_config_2", "add_sub_config_3"]
    assert variants[""].is_default
    third = variants["add_sub_config_3"]
    assert (third.instance_count, third.max_batch_size, third.dynamic_batching) == (2, 2, True)


def test_variants_that_differ_in_other_fields_only_stay_apart(tmp_path):
    checkpoint = fake.tree("single-model")
    for run in fake.run_configs(checkpoint):
        variant = run["_model_run_configs"][0]["_model_config_variant"]
        variant["model_config"] |= {"maxBatchSize": 4, "instanceGroup": [{"kind": "KIND_CPU"}]}
    ranking = rank(measurements(read_checkpoint(fake.folder(tmp_path, checkpoint)), "add_sub"), THROUGHPUT, ())
    assert len({m.config.server.key for m in ranking.ordered}) == 5


def test_models_side_by_side_have_the_sum_of_rates_and_the_slowest_percentile(tmp_path):
    together = points(tmp_path, "multi-model")[4]
    assert together.config.load.load.in_flight == 4
    assert value(together, "throughput") == pytest.approx(139.554 + 201.837)
    assert value(together, "p99_latency_ms") == 15.455
    assert value(together, "mean_latency_ms") == pytest.approx((139.554 * 14.31 + 201.837 * 9.907) / 341.391)
    assert [part.throughput.per_second for part in together.load.by_model] == [139.554, 201.837]
    assert "2 and 2 in flight" in together.warnings[-1]
    assert breakdown(together) is None


def test_a_limit_is_kept_only_if_each_model_keeps_it(tmp_path):
    ranking = rank(points(tmp_path, "multi-model"), THROUGHPUT, (Budget(metric="p99_latency_ms", limit=20.7),))
    assert value(ranking.recommended, "throughput") == pytest.approx(368.4, abs=0.05)


def test_the_time_of_a_request_has_its_parts(tmp_path):
    parts = {part.name: part.ms for part in breakdown(points(tmp_path, "single-model")[4]).parts}
    assert (parts["Queue"], parts["Compute"], parts["Late start"]) == (0.039, 0.069, 0)
    assert sum(parts.values()) == pytest.approx(0.427)


def test_request_rates_are_open_loops_and_their_latency_is_told_apart(tmp_path):
    checkpoint = fake.tree("older-layout")
    for point in fake.measured(checkpoint):
        load = point["_model_config_measurements"][0]["_model_specific_pa_params"]
        load["request-rate-range"] = 10 * load.pop("concurrency-range")
    found = measurements(read_checkpoint(fake.folder(tmp_path, checkpoint)), "vgg19_libtorch")
    assert [m.config.load.load for m in found] == [RequestRate(per_second=10.0), RequestRate(per_second=20.0)]
    assert SENT_NOT_DUE in found[0].warnings


def test_a_recommendation_from_a_checkpoint_says_that_noise_is_not_known(tmp_path):
    ranking = rank(points(tmp_path, "single-model"), THROUGHPUT, (Budget(metric="p99_latency_ms", limit=1.0),))
    assert NO_INTERVALS in ranking.warnings
    assert "without intervals, noise can't be ruled out" in ranking.reasons[-1]
    assert "surely" not in ranking.reasons[-1]


def test_the_configuration_is_written_as_it_was_served(tmp_path):
    third = read(tmp_path, "single-model").configurations[-1]
    text = config_text(third.variants[0])
    assert 'name: "add_sub"' in text
    assert "max_batch_size: 2" in text
    assert "count: 2" in text
    assert "dynamic_batching {" in text


def test_a_model_is_known_from_its_unchanged_configuration(tmp_path):
    checkpoint = read(tmp_path, "single-model")
    (spec,) = model_specs(checkpoint.configurations)
    assert (spec.name, spec.backend, spec.max_batch_size, spec.instance_count, spec.dynamic_batching) == (
        "add_sub", "pytorch_libtorch", 8, 1, False,
    )  # fmt: skip
    assert (spec.inputs[0].name, spec.inputs[0].datatype, spec.inputs[0].shape) == ("INPUT__0", "FP32", (16,))
    assert model_specs(checkpoint.configurations[1:]) == ()

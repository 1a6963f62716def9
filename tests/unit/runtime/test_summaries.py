"""Quantiles of the last minute, and the settings that say which metrics of latencies there are."""

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.runtime.metrics import render
from analyzer.runtime.metrics_config import MetricsConfig, metrics_config, metrics_setting
from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.options import parse_options
from analyzer.runtime.request import InferRequest
from analyzer.runtime.summaries import Summary
from perf_client.prometheus import parse
from tests.fakes import repositories

SECOND_NS = 1_000_000_000


@given(st.lists(st.integers(min_value=0, max_value=10**12), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_quantiles_are_those_of_the_values_within_the_precision_kept(durations_ns, quantile):
    summary = Summary()
    for duration_ns in durations_ns:
        summary.record(duration_ns, 0)
    ordered = sorted(duration_ns // 1000 for duration_ns in durations_ns)
    exact = ordered[max(0, int(np.ceil(quantile * len(ordered))) - 1)]
    (found,) = summary.quantiles([quantile], 0)
    assert exact * (1 - 1 / 32) <= found <= exact
    assert (summary.count, summary.sum_us) == (len(ordered), sum(ordered))


def test_a_minute_later_nothing_is_left_but_count_and_sum():
    summary = Summary()
    summary.record(5_000_000, 0)
    summary.record(9_000_000, 30 * SECOND_NS)
    assert summary.quantiles([0.0, 1.0], 30 * SECOND_NS) == [4992, 8960]
    assert summary.quantiles([0.0, 1.0], 61 * SECOND_NS) == [8960, 8960]
    assert summary.quantiles([0.5], 120 * SECOND_NS) == [None]
    assert (summary.count, summary.sum_us) == (2, 14_000)


def test_settings_are_read_and_the_last_one_counts():
    flags = ["summary_latencies=true", "counter_latencies=false", "summary_quantiles=0.5:0.05,0.99:0.001"]
    flags += ["counter_latencies=TRUE", "histogram_latencies=false"]
    options = parse_options(["--model-repository", "m", *(f"--metrics-config={flag}" for flag in flags)])
    assert options.metrics_config == MetricsConfig(True, True, False, (0.5, 0.99))
    assert metrics_config([]) == MetricsConfig()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("summary=true", "known are counter_latencies"),
        ("summary_latencies=1", "neither true nor false"),
        ("summary_quantiles=0.5", "QUANTILE:ERROR"),
        ("summary_quantiles=1.5:0.1", "QUANTILE:ERROR"),
        ("summary_quantiles=", "QUANTILE:ERROR"),
    ],
)
def test_wrong_settings_are_refused_with_a_sentence(text, words):
    with pytest.raises(Exception, match=words):
        metrics_setting(text)


def page_of(repository: Path, config: MetricsConfig) -> str:
    """After three requests to a model that batches, and two to one that does not."""

    async def run() -> str:
        loop = asyncio.get_running_loop()
        store = ModelStore(repository, loop=loop, metrics=config)
        await store.open()
        answers = []
        for model in ("batches", "batches", "batches", "alone", "alone"):
            answers.append(loop.create_future())
            inputs = {"INPUT0": np.zeros((1, 4), np.float32)}
            store.submit(InferRequest(model, inputs, time.monotonic_ns()), answers[-1].set_result)
        await asyncio.gather(*answers)
        page = render(store.counters(), {}, config=config, now_ns=time.monotonic_ns())
        await store.close(5.0)
        return page

    return asyncio.run(run())


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    repositories.write_simulated(tmp_path, "batches", extra="dynamic_batching { }")
    repositories.write_simulated(tmp_path, "alone")
    return tmp_path


PARTS = ("request", "queue", "compute_input", "compute_infer", "compute_output")


def test_summaries_count_each_request_and_agree_with_the_sums(repository: Path):
    page = page_of(repository, MetricsConfig(summary_latencies=True, summary_quantiles=(0.5, 0.999)))
    found = {(series.name, *sorted(series.labels)): value for series, value in parse(page.encode()).items()}
    for model, count in (("batches", 3), ("alone", 2)):
        labels = (("model", model), ("version", "1"))
        for part in PARTS:
            name = f"nv_inference_{part}_summary_us"
            assert found[f"{name}_count", *labels] == count
            assert abs(found[f"{name}_sum", *labels] - found[f"nv_inference_{part}_duration_us", *labels]) <= count
            low, high = (found[name, labels[0], ("quantile", text), labels[1]] for text in ("0.5", "0.999"))
            assert 0 <= low <= high
    assert "# TYPE nv_inference_queue_summary_us summary" in page


def test_what_was_not_asked_for_is_not_on_the_page(repository: Path):
    page = page_of(repository, MetricsConfig(counter_latencies=False))
    assert "_duration_us" not in page
    assert "nv_cache_hit_duration" not in page
    assert "summary" not in page
    assert "nv_inference_request_success" in page

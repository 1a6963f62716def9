import asyncio
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.runtime.backends.base import ModelFiles
from analyzer.runtime.durations import Durations
from analyzer.runtime.host_metrics import (
    CPU_UTILIZATION,
    GPU_ENERGY,
    GPU_MEMORY_USED,
    GPU_POWER_LIMIT,
    GPU_UTILIZATION,
    Gpus,
    HostSampler,
    Processors,
    Reading,
)
from analyzer.runtime.intake import Intake
from analyzer.runtime.loading import make_statistics, prepare
from analyzer.runtime.metrics import render
from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.options import parse_options
from analyzer.runtime.request import InferError, InferRequest
from analyzer.runtime.statistics import LATENCY_BOUNDS_NS, FailureReason, Histogram, Statistics
from perf_client.prometheus import Series, parse
from tests.fakes import repositories
from tests.fakes.nvml import FakeNvml, fake_device
from tests.fakes.opened_store import asked, opened_store

TRITON = [
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_count",
    "nv_inference_exec_count",
    "nv_inference_request_duration_us",
    "nv_inference_queue_duration_us",
    "nv_inference_compute_input_duration_us",
    "nv_inference_compute_infer_duration_us",
    "nv_inference_compute_output_duration_us",
    "nv_inference_pending_request_count",
    "nv_cache_num_hits_per_model",
    "nv_cache_num_misses_per_model",
    "nv_cache_hit_duration_per_model",
    "nv_cache_miss_duration_per_model",
    "nv_inference_first_response_histogram_ms",
    "nv_gpu_utilization",
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_power_usage",
    "nv_gpu_power_limit",
    "nv_energy_consumption",
    "nv_cpu_utilization",
    "nv_cpu_memory_total_bytes",
    "nv_cpu_memory_used_bytes",
]

DEVICE = {
    "utilization": 50,
    "memory": 1000,
    "memory_total": 4000,
    "power_mw": 300_000,
    "power_limit_mw": 700_000,
    "energy_mj": 5_000,
}
STAT = "cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\n"
MEMINFO = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\n"


def counted() -> Statistics:
    statistics = Statistics("m", "3", (("team", 'a "b"\\'),))
    statistics.first_responses = Histogram((1_000_000, 5_000_000))
    for rows, count in ((1, 2), (4, 1), (5, 1), (5000, 1)):
        for _ in range(count):
            statistics.record_execution(1, rows, Durations(0, 1_000, 2_000, 3_000), 7)
    for latency_ns in (50_000, 100_000, 100_001, 9_000_000_000):
        statistics.record_requests(1, 1, latency_ns, 4_000)
        statistics.latencies.record(latency_ns)
    statistics.first_responses.record(2_000_000)
    for reason, count in ((FailureReason.REJECTED, 2), (FailureReason.BACKEND, 1)):
        for _ in range(count):
            statistics.record_failure(5_000, reason)
    return statistics


def whole_page() -> str:
    files = {"/proc/stat": STAT.format(busy=0, idle=0), "/proc/meminfo": MEMINFO}
    processors = Processors(lambda path: files[path])
    files["/proc/stat"] = STAT.format(busy=30, idle=70)
    sampler = HostSampler([processors, Gpus(FakeNvml([fake_device("GPU-1", **DEVICE)]))])
    return render([counted()], {("m", "3"): 6}, sampler.look())


def values(page: str, name: str, **labels: str) -> dict[tuple[tuple[str, str], ...], float]:
    """The samples of a family, by the labels that were not given."""
    return {
        tuple(item for item in series.labels if item[0] not in labels): value
        for series, value in parse(page.encode()).items()
        if series.name == name and labels.items() <= dict(series.labels).items()
    }


def one(page: str, name: str, **labels: str) -> float:
    (value,) = values(page, name, model="m", version="3", team='a "b"\\', **labels).values()
    return value


def test_every_metric_of_triton_is_there_with_help_and_type():
    lines = whole_page().splitlines()
    for name in TRITON:
        assert any(line.startswith(f"# HELP {name} ") for line in lines), name
        assert any(line.startswith(f"# TYPE {name} ") for line in lines), name
    helped = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert len(set(helped)) == len(helped)


def test_failures_are_told_by_reason_and_all_reasons_are_there():
    page = whole_page()
    told = {reason: one(page, "nv_inference_request_failure", reason=reason.value) for reason in FailureReason}
    assert told == {
        FailureReason.CANCELED: 0,
        FailureReason.REJECTED: 2,
        FailureReason.BACKEND: 1,
        FailureReason.OTHER: 0,
    }


def test_counters_carry_the_labels_of_the_configuration():
    page = whole_page()
    assert one(page, "nv_inference_request_success") == 4
    assert one(page, "nv_inference_exec_count") == 5
    assert one(page, "nv_inference_queue_duration_us") == 16
    assert one(page, "nv_inference_pending_request_count") == 6


@pytest.mark.parametrize(
    ("name", "buckets", "total"),
    [
        ("analyzer_inference_request_duration_seconds", {"0.0001": 2, "0.00025": 3, "5": 3, "+Inf": 4}, 9.000250001),
        ("nv_inference_first_response_histogram_ms", {"1": 0, "5": 1, "+Inf": 1}, 2),
        ("analyzer_inference_batch_size", {"1": 2, "2": 2, "4": 3, "8": 4, "1024": 4, "+Inf": 5}, 5011),
    ],
)
def test_histograms_have_cumulative_buckets_a_sum_and_a_count(name, buckets, total):
    page = whole_page()
    assert {bound: one(page, f"{name}_bucket", le=bound) for bound in buckets} == buckets
    assert one(page, f"{name}_sum") == pytest.approx(total, rel=1e-7)
    assert one(page, f"{name}_count") == buckets["+Inf"]


def test_figures_of_the_machine_and_its_gpus():
    page = whole_page()
    assert values(page, "nv_cpu_utilization") == {(): 0.3}
    assert values(page, "nv_cpu_memory_total_bytes") == {(): 1_024_000}
    assert values(page, "nv_cpu_memory_used_bytes") == {(): 614_400}
    for name, value in (
        ("nv_gpu_utilization", 0.5),
        ("nv_gpu_memory_total_bytes", 4000),
        ("nv_gpu_memory_used_bytes", 1000),
        ("nv_gpu_power_usage", 300),
        ("nv_gpu_power_limit", 700),
        ("nv_energy_consumption", 0),
    ):
        assert values(page, name, gpu_uuid="GPU-1") == {(): value}


def test_energy_counts_from_the_start_and_what_a_device_does_not_tell_is_left_out():
    device = fake_device("GPU-1", energy_mj=5_000)
    gpus = Gpus(FakeNvml([device]))
    list(gpus.readings())
    device["energy_mj"] = 8_500
    assert list(gpus.readings()) == [Reading(GPU_ENERGY, 3.5, "GPU-1")]
    device |= {"utilization": 10, "memory": 5, "power_limit_mw": 1000}
    assert {reading.family for reading in gpus.readings()} >= {GPU_UTILIZATION, GPU_MEMORY_USED, GPU_POWER_LIMIT}


def test_a_machine_without_proc_tells_nothing():
    def read(path: str) -> str:
        raise FileNotFoundError(path)

    assert list(Processors(read).readings()) == []


def test_utilization_is_that_since_the_last_look():
    stat = {"/proc/stat": STAT.format(busy=100, idle=100), "/proc/meminfo": ""}
    processors = Processors(lambda path: stat[path])
    assert CPU_UTILIZATION not in [reading.family for reading in processors.readings()]
    stat["/proc/stat"] = STAT.format(busy=190, idle=110)
    assert list(processors.readings()) == [Reading(CPU_UTILIZATION, 0.9)]


def test_the_sampler_looks_until_it_is_cancelled_and_survives_a_broken_driver():
    class Breaking:
        looks = 0

        def readings(self):
            self.looks += 1
            if self.looks == 1:
                raise RuntimeError("the driver is gone")
            return iter([Reading(GPU_UTILIZATION, 0.5, "GPU-1")])

    async def run() -> None:
        sampler = HostSampler([Breaking()])
        task = asyncio.ensure_future(sampler.run(0.0))
        while not sampler.latest:
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(run())


@given(st.text(max_size=20), st.lists(st.integers(0, 10**11), max_size=50))
def test_any_page_can_be_read_back(name, latencies):
    statistics = Statistics(name, "1")
    for latency_ns in latencies:
        statistics.latencies.record(latency_ns)
    page = render([statistics], {})
    samples = parse(page.encode(errors="replace"))
    family = "analyzer_inference_request_duration_seconds"
    counts = [value for series, value in samples.items() if series.name == f"{family}_bucket"]
    if not any(mark in name for mark in "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029") and name.isprintable():
        assert Series(f"{family}_count", (("model", name), ("version", "1")), "counter") in samples
        assert counts == sorted(counts)
        assert counts[-1] == len(latencies)
        assert len(counts) == len(LATENCY_BOUNDS_NS) + 1


def files_of(folder: Path) -> ModelFiles:
    (files,) = prepare(folder).versions
    return files


def test_labels_and_histogram_bounds_come_from_the_configuration(tmp_path: Path):
    extra = """
    metric_tags { key: "team" value: "vision" }
    model_transaction_policy { decoupled: true }
    model_metrics { metric_control {
      metric_identifier { family: "nv_inference_first_response_histogram_ms" }
      histogram_options { buckets: [ 10, 20 ] }
    } }
    """
    statistics = make_statistics(files_of(repositories.write_simulated(tmp_path, "m", extra=extra)))
    assert statistics.tags == (("team", "vision"),)
    assert statistics.first_responses is not None
    assert statistics.first_responses.bounds_ns == (10_000_000, 20_000_000)
    plain = make_statistics(files_of(repositories.write_simulated(tmp_path, "plain")))
    assert (plain.tags, plain.first_responses) == ((), None)


def test_what_a_store_counts_is_on_its_page(tmp_path: Path):
    repositories.write_simulated(tmp_path, "m", parameters={"fail_every": 3})

    async def run() -> str:
        async with opened_store(tmp_path) as store:
            for _ in range(6):
                await asked(store, "m", {"INPUT0": np.zeros((2, 4), np.float32)})
            return render(store.counters(), store.pending())

    page = asyncio.run(run())
    labels = {"model": "m", "version": "1"}
    assert values(page, "nv_inference_request_success", **labels) == {(): 4}
    assert values(page, "nv_inference_request_failure", **labels, reason="BACKEND") == {(): 2}
    assert values(page, "analyzer_inference_request_duration_seconds_count", **labels) == {(): 4}
    assert values(page, "analyzer_inference_batch_size_bucket", **labels, le="2") == {(): 4}


_ONE_QUEUED = """dynamic_batching {
  preferred_batch_size: [ 8 ]
  max_queue_delay_microseconds: 50000
  default_queue_policy { max_queue_size: 1 }
}"""


def test_what_is_refused_is_counted_for_its_model_or_for_the_server(tmp_path: Path):
    repositories.write_simulated(tmp_path, "quick", type_name="TYPE_INT32")
    repositories.write_simulated(tmp_path, "gated", type_name="TYPE_INT32", extra=_ONE_QUEUED)
    right, wrong = {"INPUT0": np.zeros((1, 4), np.int32)}, {"INPUT0": np.zeros((1, 5), np.int32)}

    async def run() -> str:
        loop = asyncio.get_running_loop()
        store = ModelStore(tmp_path, loop=loop)
        await store.open()
        intake, counters = Intake(store, 3), list(store.counters())

        def ask(model: str, inputs: dict) -> asyncio.Future:
            answered = loop.create_future()
            intake.check()
            intake.submit(InferRequest(model, inputs, time.monotonic_ns()), answered.set_result)
            return answered

        for model in ("quick", "gated"):
            with pytest.raises(InferError, match="unexpected shape"):
                ask(model, wrong)
        for _ in range(2):
            with pytest.raises(InferError, match="not found"):
                ask("nowhere", right)
        waiting = [ask("gated", right)]
        with pytest.raises(InferError, match="Exceeds maximum queue size"):
            ask("gated", right)
        waiting += [ask("quick", right), ask("quick", right)]
        with pytest.raises(InferError, match="max-requests-in-flight"):
            ask("quick", right)
        await asyncio.gather(*waiting)
        await store.close(5.0)
        with pytest.raises(InferError, match="shutting down"):
            ask("quick", right)
        return render(counters, {}, (), store.refused)

    page = asyncio.run(run())
    for reason, count in (("too_many_requests", 1), ("no_model", 2), ("wrong_request", 2), ("shutting_down", 1)):
        assert values(page, "analyzer_requests_refused_total", reason=reason) == {(): count}
    failures = "nv_inference_request_failure"
    assert values(page, failures, model="quick", version="1", reason="OTHER") == {(): 0}
    assert values(page, failures, model="gated", version="1", reason="OTHER") == {(): 0}
    assert values(page, failures, model="gated", version="1", reason="REJECTED") == {(): 1}


DASHBOARD = json.loads((Path(__file__).parents[3] / "templates" / "grafana_dashboard.json").read_text())


def test_the_dashboard_asks_only_for_metrics_that_are_exported():
    exported = {series.name for series in parse(whole_page().encode())}
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    queries += [item["query"]["query"] for item in DASHBOARD["templating"]["list"] if item["type"] == "query"]
    named = {name for query in queries for name in re.findall(r"\b(?:nv|analyzer)_\w+", query)}
    assert named
    assert named <= exported


def test_the_dashboard_has_a_data_source_to_choose_and_panels_that_do_not_overlap():
    assert [item["name"] for item in DASHBOARD["templating"]["list"]] == ["datasource", "model"]
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"


def test_flags_of_the_metrics():
    options = parse_options(["--model-repository", "m", "--metrics-interval-ms", "500", "--allow-gpu-metrics", "false"])
    assert (options.metrics_interval_s, options.gpu_metrics, options.cpu_metrics) == (0.5, False, True)

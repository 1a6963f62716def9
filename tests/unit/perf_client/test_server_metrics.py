"""Prometheus pages, what they say of a window, and how that is shown."""

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perf_client.command import parse as parse_command
from perf_client.errors import LoadError
from perf_client.metrics_lines import gpu_cells, metric_cells, metrics_lines
from perf_client.metrics_source import MetricsSource
from perf_client.profile import Metric
from perf_client.prometheus import Series, cut_down, family_pattern, parse
from perf_client.record import MetricsSample
from perf_client.server_metrics import MetricsScraper, metrics_between
from perf_client.table import to_text
from tests.fakes.load_results import result

PAGE = b"""\
# HELP nv_inference_count Number of inferences
# TYPE nv_inference_count counter
nv_inference_count{model="m",version="1"} 10
nv_inference_count_other 4
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.25
# TYPE waits summary
waits{quantile="0.5"} 3
waits_sum 30
waits_count 10
# TYPE size histogram
size_bucket{le="+Inf"} 7 1700000000
jobs_total 5
jobs_now 2
torn{a="b" 3
"""


def page(count: float, busy: float) -> bytes:
    return (
        f'# TYPE done counter\ndone{{model="m"}} {count}\n# TYPE nv_gpu_utilization gauge\n'
        f'nv_gpu_utilization{{gpu_uuid="GPU-1"}} {busy}\n'
    ).encode()


def test_only_lines_of_wanted_families_are_kept():
    kept = cut_down(PAGE, family_pattern(["nv_inference_count", "waits", "jobs_*"]))
    assert kept.decode().splitlines() == [
        "# TYPE nv_inference_count counter",
        'nv_inference_count{model="m",version="1"} 10',
        "# TYPE waits summary",
        'waits{quantile="0.5"} 3',
        "waits_sum 30",
        "waits_count 10",
        "jobs_total 5",
        "jobs_now 2",
    ]


def test_every_kind_of_line_is_a_gauge_or_a_counter():
    kinds = {series.name: (series.kind, value) for series, value in parse(PAGE).items()}
    assert kinds == {
        "nv_inference_count": ("counter", 10.0),
        "nv_inference_count_other": ("gauge", 4.0),
        "nv_gpu_utilization": ("gauge", 0.25),
        "waits": ("gauge", 3.0),
        "waits_sum": ("counter", 30.0),
        "waits_count": ("counter", 10.0),
        "size_bucket": ("counter", 7.0),
        "jobs_total": ("counter", 5.0),
        "jobs_now": ("gauge", 2.0),
    }


PLAIN_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Cs"], include_characters='\\"')
)


@given(PLAIN_TEXT, st.floats(allow_nan=False))
def test_labels_and_values_come_back_as_they_were_written(label, value):
    written = label.replace("\\", "\\\\").replace('"', '\\"')
    found = parse(f'x{{a="{written}",b=""}} {value!r}'.encode())
    assert found == {Series("x", (("a", label), ("b", "")), "gauge"): value}


@given(st.binary())
def test_any_bytes_are_a_page(content):
    parse(cut_down(content, family_pattern(["*"])))


def test_gauges_are_over_the_window_and_counters_between_its_ends():
    samples = [
        MetricsSample(at, page(count, busy))
        for at, count, busy in ((0, 0, 1.0), (1_000, 5, 0.2), (2_000, 9, 0.6), (3_000, 25, 0.4), (9_000, 99, 1.0))
    ]
    done, busy = metrics_between(samples, 500, 3_100)
    assert done == Metric(name="done", labels={"model": "m"}, growth=20.0, per_second=20.0 / 2e-6)
    assert (busy.least, busy.mean, busy.most) == (0.2, pytest.approx(0.4), 0.6)
    assert metrics_between(samples[:1], 0, 10) == ()


def test_a_counter_that_fell_shows_what_is_new():
    (done, _) = metrics_between([MetricsSample(0, page(50, 0)), MetricsSample(1_000, page(7, 0))], 0, 1_000)
    assert done.growth == 7.0


def shown(**changes):
    metrics = metrics_between([MetricsSample(0, page(0, 0.5)), MetricsSample(10**9, page(8, 0.25))], 0, 10**9)
    return msgspec.structs.replace(result(), **{"metrics": metrics, **changes})


def test_the_report_has_perf_analyzers_lines_and_then_all_families():
    assert list(metrics_lines(shown())) == [
        "  Server Prometheus Metrics: ",
        "    Avg GPU Utilization:",
        "      GPU-1 : 37.5%",
        "    Avg GPU Power Usage:",
        "    Max GPU Memory Usage:",
        "    Total GPU Memory:",
        '    done{model="m"}: grew by 8 (8 per second)',
    ]
    assert list(metrics_lines(result())) == []
    unmeasured = shown(metrics=(), metrics_unmeasured="no metrics at x:1/metrics (status 404)")
    assert list(metrics_lines(unmeasured))[1:] == ["    [WARNING] Not measured: no metrics at x:1/metrics (status 404)"]


def test_series_that_stayed_at_zero_are_left_out_and_large_figures_keep_their_digits():
    idle = Metric(name="idle", labels={}, least=0.0, mean=0.0, most=0.0)
    still = Metric(name="still", labels={}, growth=0.0, per_second=0.0)
    waits = Metric(name="waits_us", labels={}, growth=2_148_253.0, per_second=716_084.25)
    lines = list(metrics_lines(shown(metrics=(idle, still, waits))))
    assert lines[5:] == ["    waits_us: grew by 2148253 (716084.25 per second)"]


def test_the_csv_has_perf_analyzers_columns_and_one_for_each_series():
    assert gpu_cells(shown()) == {
        "Avg GPU Utilization": "GPU-1:0.375;",
        "Avg GPU Power Usage": "",
        "Max GPU Memory Usage": "",
        "Total GPU Memory": "",
    }
    assert metric_cells(shown()) == {'done{model="m"}': "8"}
    assert gpu_cells(result()) == metric_cells(result()) == {}


def test_levels_with_different_series_share_one_table():
    assert to_text([{"a": "1", "b": "2"}, {"a": "3", "c": "4"}]) == "a,b,c\n1,2,\n3,,4\n"


@pytest.mark.parametrize(
    ("flags", "source"),
    [
        ([], MetricsSource(url="localhost:8002/metrics")),
        (["-u", "[::1]:9", "--metrics-interval", "250"], MetricsSource(url="[::1]:8002/metrics", interval_s=0.25)),
        (["--metrics-url", "http://h:1"], MetricsSource(url="http://h:1/metrics")),
        (
            ["--metrics-url", "h:1/m", "--metrics-family", "a_*", "--metrics-family", "b"],
            MetricsSource(url="h:1/m", families=("a_*", "b")),
        ),
    ],
)
def test_flags_say_where_and_what(flags, source):
    assert parse_command(["-m", "m", "--collect-metrics", *flags]).metrics == source


@pytest.mark.parametrize(
    "flags", [["--metrics-interval", "5"], ["--metrics-url", "h:1"], ["--metrics-family", "a"], ["--metrics-url", "x"]]
)
def test_flags_need_the_one_that_turns_them_on(flags):
    with pytest.raises(LoadError, match="needs --collect-metrics"):
        parse_command(["-m", "m", *flags])


def test_a_page_that_is_not_there_is_a_reason():
    async def scraped() -> MetricsScraper:
        scraper = MetricsScraper(MetricsSource(url="127.0.0.1:1/metrics"), clock=lambda: 0)
        await scraper.sample()
        await scraper.keep_sampling(None)
        return scraper

    scraper = asyncio.run(scraped())
    assert scraper.samples(0) == ()
    assert scraper.unmeasured.startswith("no metrics at 127.0.0.1:1/metrics (")

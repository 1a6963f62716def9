"""Our sums of a real capture against the tables that Nsight Systems itself prints for it."""

import csv
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest

from analyzer.timeline import import_nsight
from analyzer.timeline.analyses import projection, sums
from analyzer.timeline.analyses.spread import Spread
from analyzer.timeline.table import Timeline

DATA = Path("tests/data/nsight")


@pytest.fixture(scope="module")
def capture() -> Timeline:
    return import_nsight.read(DATA / "dev.sqlite")


def table(report: str) -> list[dict[str, str]]:
    with (DATA / f"dev_{report}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def place(value: float) -> str:
    """One decimal place; halves go up, as Nsight rounds them."""
    return str(Decimal(value).quantize(Decimal("0.1"), ROUND_HALF_UP))


def times(spread: Spread) -> list[str]:
    """Total to deviation as Nsight writes times: whole numbers, and means with one place."""
    return [
        str(spread.total),
        str(spread.count),
        place(spread.mean),
        place(spread.median),
        str(spread.smallest),
        str(spread.largest),
        place(spread.deviation),
    ]


def printed(row: dict[str, str], count: str, prefix: str = "") -> list[str]:
    names = ("Avg (ns)", "Med (ns)", "Min (ns)", "Max (ns)", "StdDev (ns)")
    return [row["Total Time (ns)"], row[count], *(row[prefix + name] for name in names)]


@pytest.mark.parametrize(
    ("report", "ours", "count", "name"),
    [
        ("cuda_gpu_kern_sum", sums.kernel_sums, "Instances", "Name"),
        ("cuda_gpu_mem_time_sum", sums.copy_time_sums, "Count", "Operation"),
        ("cuda_api_sum", sums.api_sums, "Num Calls", "Name"),
        ("nvtx_sum", sums.range_sums, "Instances", "Range"),
    ],
)
def test_sums_of_times_equal_those_of_nsight(capture, report, ours, count, name):
    expected = [[row[name], row["Time (%)"], *printed(row, count)] for row in table(report)]
    found = [[each.name, f"{each.share_ratio * 100:.1f}", *times(each.spread)] for each in ours(capture)]
    assert found == expected


def test_sums_of_sizes_equal_those_of_nsight(capture):
    columns = ("Total (MB)", "Count", "Avg (MB)", "Med (MB)", "Min (MB)", "Max (MB)", "StdDev (MB)", "Operation")
    found = []
    for each in sums.copy_size_sums(capture):
        spread = each.spread
        sizes = (spread.mean, spread.median, spread.smallest, spread.largest, spread.deviation)
        megabytes = [f"{size / 1e6:.3f}" for size in (spread.total, *sizes)]
        found.append([megabytes[0], str(spread.count), *megabytes[1:], each.name])
    assert found == [[row[name] for name in columns] for row in table("cuda_gpu_mem_size_sum")]


def test_ranges_projected_onto_the_gpu_equal_those_of_nsight(capture):
    found = []
    for each in projection.projected_sums(capture):
        total, count, *rest = times(each.projected)
        work = [f"{each.work_count}", f"{each.work_count / each.projected.count:.1f}"]
        nesting = [f"{each.mean_level:.1f}", f"{each.mean_child_count:.1f}"]
        found.append([each.name, each.style, total, str(each.range_total_ns), count, *rest, *work, *nesting])
    assert found == [list(row.values()) for row in table("nvtx_gpu_proj_sum")]


def test_kernels_within_ranges_equal_those_of_nsight(capture):
    found = []
    for each in projection.range_kernel_sums(capture):
        total, count, *rest = times(each.spread)
        where = [each.range, each.style, str(each.process), str(each.thread), str(each.range_count)]
        found.append([*where, count, total, *rest, each.kernel])
    assert found == [list(row.values()) for row in table("nvtx_kern_sum")]


def test_the_style_of_ranges_is_told(capture):
    assert {each.style for each in sums.range_sums(capture)} == {"PushPop"}
